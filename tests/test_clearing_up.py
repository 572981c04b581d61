"""Is what can be taken away taken away, whatever becomes of the rest?"""

from __future__ import annotations

import functools
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engines.containers import box as box_module
from harness.engines.containers.box import Box
from harness.engines.containers.engine import ContainerTopology
from harness.engines.containers.network import one_by_one
from harness.errors import Trouble
from harness.ledger import Owner


def test_one_by_one_goes_on_after_a_failure_and_after_an_interrupt() -> None:
    done: list[str] = []

    def fail() -> None:
        done.append("failed")
        raise Trouble("stuck")

    def interrupted() -> None:
        done.append("interrupted")
        if done.count("interrupted") == 1:
            signal.raise_signal(signal.SIGINT)
        done.append("again")

    with pytest.raises(KeyboardInterrupt):
        one_by_one([fail, interrupted, lambda: done.append("last")])
    assert done == ["failed", "interrupted", "interrupted", "again", "last"]
    with pytest.raises(Trouble, match="stuck"):
        one_by_one([fail, lambda: None])


class _Thing:
    def __init__(self, name: str, removed: list[str], *, stuck: bool = False) -> None:
        self.name, self.removed, self.stuck = name, removed, stuck

    def remove(self) -> None:
        if self.stuck:
            raise Trouble(f"{self.name} is stuck")
        self.removed.append(self.name)

    close = remove


def _topology(removed: list[str], stuck: str, monkeypatch: pytest.MonkeyPatch) -> ContainerTopology:
    thing = functools.partial(_Thing, removed=removed)
    things: dict[str, Any] = {name: thing(name, stuck=name == stuck) for name in ("a", "b", "disks", "links", "fence")}
    monkeypatch.setattr("harness.engines.containers.network.Yard", SimpleNamespace(remove=lambda yard: yard.remove()))
    return ContainerTopology(
        run="run",
        stem="stem",
        yard=thing("yard"),  # type: ignore[arg-type]
        made={name: things[name] for name in "ab"},
        sites={},
        proxy_image="",
        disks=things["disks"],
        leave=lambda _: removed.append("yard kept"),
        links_made=things["links"],
        fence=things["fence"],
    )


@pytest.mark.parametrize("stuck", ["a", "disks", "links"])
def test_one_part_of_a_topology_that_stays_keeps_no_other(stuck: str, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    topology = _topology(removed, stuck, monkeypatch)
    with pytest.raises(Trouble, match=f"{stuck} is stuck"):
        topology.remove()
    # The yard serves nobody else then.
    assert sorted(removed) == sorted({"a", "b", "disks", "links", "fence", "yard"} - {stuck})


def test_the_yard_of_a_topology_that_is_gone_is_left_to_the_engine_once(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    topology = _topology(removed, "", monkeypatch)
    topology.remove()
    topology.remove()
    assert removed.count("yard kept") == 1
    assert "yard" not in removed


def test_an_anonymous_volume_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Maker:
        def __init__(self, *_: object, **__: object) -> None:
            self.ports: dict[str, object] = {}

        def with_kwargs(self, **told: object) -> None:
            asked.update(told)

        def start(self) -> None:
            pass

        def get_wrapped_container(self) -> None:
            pass

    ledger: Any = SimpleNamespace(add=lambda *_, **__: 1)
    monkeypatch.setattr(box_module, "DockerContainer", Maker)
    Box("assay-node", ledger).make("image", run="run", host=Box("assay-anchor", ledger), volume="/data")
    (mount,) = asked["mounts"]
    assert mount["Target"] == "/data"
    assert mount["VolumeOptions"]["Labels"] == asked["labels"]
    assert asked["labels"]["assay.owner"] == str(Owner.here())
