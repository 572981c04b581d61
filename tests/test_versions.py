"""Do brokers of other versions run, under the names of their images, and is a missing image refused with its cure?"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.brokers.nats.configuration import Nats
from harness.brokers.rabbitmq.configuration import Classic, Quorum, RabbitMQ
from harness.brokers.rabbitmq.management import leader_of, read_members
from harness.engines import doctor, references
from harness.engines.containers.engine import Containers
from harness.engines.processes import Processes
from harness.faults.nothing import Nothing
from harness.guarantee import AT_LEAST_ONCE, Status
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from tests.runs import needs, run_cell

OTHERS = ("rabbitmq@3.10", "rabbitmq@4.0", "nats@2.12")
PLAIN = {
    "3.10 classic": RabbitMQ("plain", queue=Classic(), version="3.10"),
    "3.10 quorum": RabbitMQ("plain", queue=Quorum(), version="3.10"),
    "4.0 classic": RabbitMQ("plain", queue=Classic(), version="4.0"),
    "4.0 quorum": RabbitMQ("plain", queue=Quorum(), version="4.0"),
    "NATS 2.12": Nats("plain", version="2.12"),
}


def test_a_line_of_versions_means_the_image_that_set_up_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert tuple(references.other_images()) == OTHERS
    assert references.image_reference("rabbitmq", "3.10") == "rabbitmq:3.10.8-management"
    pinned = references.image_reference("rabbitmq")
    assert references.image_reference("rabbitmq", "4.3") == pinned  # the pinned one is of that line
    assert references.image_reference("rabbitmq", "4.3.1") != pinned
    (tmp_path / "assay").mkdir()
    resolved = "rabbitmq@3.10=rabbitmq:3.10.9-management\n"
    (tmp_path / "assay" / "images.resolved").write_text(resolved, encoding="utf-8")
    assert references.image_reference("rabbitmq", "3.10") == "rabbitmq:3.10.9-management"
    assert "rabbitmq@3.10" not in references.image_references()


def test_a_version_that_local_processes_have_not_is_refused_beforehand() -> None:
    assert "cannot choose 2.12" in str(Processes().unavailable(PLAIN["NATS 2.12"].nodes()))


def test_members_of_older_versions_are_read_from_the_queues_description() -> None:
    told = {
        "leader": "rabbit-2@x",
        "members": ["rabbit-1@x", "rabbit-2@x", "rabbit-3@x"],
        "online": ["rabbit-1@x", "rabbit-2@x"],
    }
    replicas = read_members(told)
    assert [replica.state for replica in replicas] == ["follower", "leader", "down"]
    assert leader_of(replicas) == replicas[1]
    assert read_members(None) == ()
    assert leader_of(read_members({**told, "leader": None})) is None


@pytest.mark.engine
def test_an_image_that_is_not_here_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = RabbitMQ("nowhere", version="3.9.9")
    said = str(Containers().unavailable(nowhere.nodes()))
    assert "rabbitmq:3.9.9-management" in said
    assert "docker pull" in said
    monkeypatch.setattr(references, "other_images", lambda: {"rabbitmq@3.9": "rabbitmq:3.9.9-management"})
    monkeypatch.setattr(
        "harness.engines.containers.images.other_images", lambda: {"rabbitmq@3.9": "rabbitmq:3.9.9-management"}
    )
    assert "make versions" in str(Containers().unavailable(RabbitMQ("nowhere", version="3.9").nodes()))


@pytest.mark.engine
def test_the_doctor_says_how_other_versions_are_made() -> None:
    found = {finding.name: finding for finding in doctor.examine()}
    for key in OTHERS:
        finding = found[f"image {key}"]
        assert not finding.required
        assert finding.available or finding.cure == "make versions"


@pytest.mark.engine
@pytest.mark.parametrize("called", PLAIN)
def test_a_plain_cell_on_another_version_is_held(called: str, tmp_path: Path) -> None:
    configuration = PLAIN[called]
    needs(Containers().unavailable(configuration.nodes()))
    scenario = Scenario(
        configuration=configuration, schedule=Repeat(Nothing()), workload=Steady(rate_hz=500, quiet_s=0.6)
    )
    run = run_cell(scenario, tmp_path / "run", engine=Containers())
    assert run.history.terms.broker_version.startswith(f"{configuration.version}.")
    assert run.judgement.verdicts[AT_LEAST_ONCE.name].status is Status.HELD, run.judgement.trial
