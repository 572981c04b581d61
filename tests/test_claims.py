"""Which claims are in scope of a run, and what is said of a file that is wrong?"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.claims.claims import claimed, claims_for, entries, in_versions
from harness.errors import Refused

GOOD = """
[[claim]]
configurations = ["rabbitmq-quorum-*"]
guarantee = "at_least_once"
page = "quorum-queues"
says = "a confirmed message is not lost"
faults = ["kill_*", "pause_*"]
versions = ">=4.0, <5"

[[claim]]
configurations = ["*"]
guarantee = "genuine"
page = "everywhere"
says = "nothing is invented"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "rabbitmq.toml").write_text(GOOD)
    return tmp_path


def in_scope(directory: Path, configuration: str, version: str, *faults: str) -> list[str]:
    return [claim.guarantee for claim in claims_for(configuration, version, faults, directory=directory)]


def test_a_claim_is_in_scope_if_every_fault_matches(directory: Path) -> None:
    quorum = "rabbitmq-quorum-confirms"
    assert in_scope(directory, quorum, "4.3.6", "kill_leader") == ["at_least_once", "genuine"]
    assert in_scope(directory, quorum, "4.3.6", "kill_leader", "pause_leader") == ["at_least_once", "genuine"]
    assert in_scope(directory, quorum, "4.3.6", "kill_leader", "power_loss") == ["genuine"]


def test_no_claim_speaks_of_files_that_somebody_changed(directory: Path) -> None:
    assert in_scope(directory, "rabbitmq-quorum-confirms", "4.3.6", "flip_bits_leader") == []
    assert in_scope(directory, "rabbitmq-quorum-confirms", "4.3.6", "truncate_follower") == []


def test_a_run_without_a_fault_is_in_every_scope(directory: Path) -> None:
    assert in_scope(directory, "rabbitmq-quorum-confirms", "4.3.6", "nothing") == ["at_least_once", "genuine"]


def test_a_claim_speaks_of_its_configurations_and_versions_only(directory: Path) -> None:
    assert in_scope(directory, "rabbitmq-classic", "4.3.6", "kill_leader") == ["genuine"]
    assert in_scope(directory, "rabbitmq-quorum-confirms", "3.10.8", "kill_leader") == ["genuine"]
    assert in_scope(directory, "rabbitmq-quorum-confirms", "", "kill_leader") == ["genuine"]


def test_claims_travel_in_the_terms(directory: Path) -> None:
    first, *_ = claimed("rabbitmq-quorum-confirms", "4.3.6", ("kill_leader",), directory=directory)
    assert (first.guarantee, first.page) == ("at_least_once", "quorum-queues")


@pytest.mark.parametrize(
    ("version", "wanted", "inside"),
    [
        ("4.3.6", "*", True),
        ("4.3.6", ">=4.3", True),
        ("4.3.6", ">4.3.6", False),
        ("4.10.0", ">=4.9", True),
        ("v2.12.4", "<2.12.5", True),
        ("2.12.5-RC.1", "<2.12.5", False),
        ("4.3.6", "==4.3", True),
        ("4.3.6", "!=4.3", False),
        ("4.0", ">=4.0.0", True),
        ("unknown", ">=1", False),
    ],
)
def test_versions(version: str, wanted: str, inside: bool) -> None:
    assert in_versions(version, wanted) is inside


def test_all_mistakes_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "nats.toml").write_text(
        '[[claim]]\nconfigurations = ["nats-*"]\nguarantee = "at_lest_once"\npage = "p"\nsays = "s"\n'
        '[[claim]]\nconfigurations = "nats-*"\nguarante = "genuine"\npage = "p"\nversions = "4.x"\n'
    )
    (tmp_path / "other.toml").write_text("[[claim]\n")
    with pytest.raises(Refused) as refused:
        entries(tmp_path)
    message = str(refused.value)
    assert """nats.toml:1: unknown guarantee 'at_lest_once'; did you mean "at_least_once"?""" in message
    assert """nats.toml:6: unknown 'guarante'; did you mean "guarantee"?""" in message
    assert "nats.toml:6: configurations = 'nats-*': a list of patterns is needed, at least one" in message
    assert "nats.toml:6: 'says' is missing" in message
    assert """nats.toml:6: versions = '4.x': '4.x' is no bound such as ">=4.0\"""" in message
    assert "other.toml: " in message


def test_the_claims_that_come_with_assay_can_be_read() -> None:
    for entry in entries():
        assert entry.claim.page
        assert entry.claim.says
