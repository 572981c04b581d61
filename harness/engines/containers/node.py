"""How is one broker in a container killed, frozen and started again, with its data, name and address as they were?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import docker.errors

from harness.clock import until
from harness.engines.containers.api import asking
from harness.engines.containers.box import Box, run_in
from harness.engines.containers.images import missing, reference
from harness.engines.containers.memory import Hog
from harness.engines.containers.timepiece import CLOCK_ENVIRONMENT, CLOCK_FILES, change
from harness.engines.placeholders import Rendered
from harness.errors import Refused, Trouble
from harness.ledger import new_mark, started_ticks
from harness.system.topology import NodeSpec, NodeState, NodeStatus

CHANGE_WITHIN_S = 15.0


def _ticks(pid: int, identity: str) -> int | None:
    """When a container's first process started, by this kernel; None where that number is not that container's here."""
    try:
        ours = identity in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    return started_ticks(pid) if ours else None


@dataclass(slots=True)
class ContainerNode:
    """A broker's node in a container of its own."""

    name: str
    spec: NodeSpec
    box: Box
    rendered: Rendered
    image: str
    used: bool = False
    """Whether a verb was used on it that makes its topology dirty."""
    hog: Hog | None = None
    """What takes its memory, where it has a limit."""
    run: str = ""
    anchor: Box | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    _predecessors: list[Box] = field(default_factory=list)

    def make(self, run: str, anchor: Box, volumes: Mapping[str, str]) -> None:
        """Make and start its container, in the network namespace of its anchor. `volumes`: a volume's name -> where it
        is mounted; without any its data lies on an anonymous one."""
        self.run, self.anchor, self.volumes = run, anchor, volumes
        self._make(self.box, self.image, heir_of=None)
        if (limit_mb := self.spec.equipment.memory_mb) is not None:
            self.hog = Hog(Box(f"{self.box.name}-hog", self.box.ledger), self.box, anchor, run, limit_mb)

    def _make(self, box: Box, image: str, heir_of: Box | None) -> None:
        box.make(
            image,
            run=self.run,
            host=self.anchor,
            arguments=self.rendered.arguments,
            environment={**self.rendered.environment, **(CLOCK_ENVIRONMENT if self.spec.equipment.clock else {})},
            files={**self.rendered.files, **(CLOCK_FILES if self.spec.equipment.clock else {})},
            volumes=self.volumes if heir_of is None else {},
            volume=None if self.volumes else self.spec.data_path,
            heir_of=heir_of,
            memory_mb=self.spec.equipment.memory_mb,
        )

    def replace(self, version: str | None) -> None:
        """SIGTERM, then a container of that version's image, with the same volume, address and files. A container that
        was not made leaves the old one as it is, ended, and its data with it."""
        image = reference(self.spec.program, version)
        if why_not := missing([image]):
            raise Trouble(why_not)
        self.stop()
        self._succeed(image, with_data=True)
        self.image = image

    def renew(self) -> None:
        """SIGTERM, then a container like it with a volume of its own, empty."""
        if self.volumes:
            raise Refused(f"node {self.name!r} has its data on a disk of its own, which stays")
        self.stop()
        self._succeed(self.image, with_data=False)

    def _succeed(self, image: str, *, with_data: bool) -> None:
        """Make and start what takes its place; the old container stays, ended, until the node is removed."""
        old, heir = self.box, Box(f"{self.box.name}-{new_mark()[:4]}", self.box.ledger)
        self._predecessors.append(heir)  # until it is there, so that `remove` finds it
        self._make(heir, image, heir_of=old if with_data else None)
        self._predecessors.remove(heir)
        self._predecessors.append(old)
        self.box = heir

    def set_clock(self, offset_s: float, rate: float = 1.0) -> None:
        """By what the library reads that is preloaded into every process of the node."""
        if not self.spec.equipment.clock:
            raise Trouble(f"node {self.name} was made without a clock of its own")
        self.used = True
        if (status := self.status()).state is not NodeState.RUNNING:
            raise Trouble(f"node {self.name} is {status}: its clock can be set while it runs")
        self.execute(*change(offset_s, rate))

    def remove(self) -> None:
        """Remove its container, those that came before it, with the last of them its data, and what takes its memory.
        Idempotent."""
        if self.hog is not None:
            self.hog.remove()
        for box in (self.box, *self._predecessors):
            box.remove()

    def start(self) -> None:
        """Start it (again), with its data as it was left, and with its memory for itself."""
        if self.hog is not None:
            self.hog.remove()
        self._change("start", lambda: self.box.container.start(), NodeState.RUNNING)

    def stop(self) -> None:
        """SIGTERM, and wait until it has exited; SIGKILL after ten seconds."""
        self.used = True
        self._change("stop", lambda: self.box.container.stop(timeout=10), NodeState.EXITED)

    def kill(self) -> None:
        """SIGKILL of every process in the container, and wait until it has exited."""
        self.used = True
        self._change("kill", lambda: self.box.container.kill(), NodeState.EXITED)

    def pause(self) -> None:
        """Freeze every process in the container, by the cgroup freezer."""
        self.used = True
        self._change("pause", lambda: self.box.container.pause(), NodeState.PAUSED)

    def exhaust_memory(self) -> int | None:
        """Let something in its cgroup take all that is left of its memory."""
        if self.hog is None:
            raise Refused(f"node {self.name!r} has no limit of memory", cure="ask for it in the needs: memory_mb")
        self.used = True
        return self.hog.take()

    def resume(self) -> None:
        """Let it go on. Idempotent; a node that has exited stays so."""
        if self.status().state is NodeState.PAUSED:
            self._change("unpause", lambda: self.box.container.unpause(), NodeState.RUNNING)

    def _change(self, verb: str, ask: Callable[[], object], wanted: NodeState) -> None:
        if self.status().state is wanted:
            return
        with asking(f"{verb} {self.box.name}"):
            try:
                ask()
            except docker.errors.APIError:
                if self.status().state is not wanted:  # it came there by itself: it crashed while we asked for a kill
                    raise
        until(
            lambda: self.status().state is wanted,
            within_s=CHANGE_WITHIN_S,
            what=f"node {self.name} to be {wanted} after {verb}",
            last_seen=lambda: str(self.status()),
            poll_s=0.005,
        )

    def status(self) -> NodeStatus:
        """What it does now, asked of the engine. `started` is the engine's time stamp of this life, as a number."""
        told = self.box.inspect()
        state = told["State"]
        if state["Paused"]:
            what = NodeState.PAUSED
        elif state["Running"]:
            what = NodeState.RUNNING
        else:
            return NodeStatus(NodeState.EXITED, None, None, int(state["ExitCode"]))
        started = int("".join(filter(str.isdigit, state["StartedAt"].rstrip("Z").ljust(29, "0"))))
        pid = int(state["Pid"])
        return NodeStatus(what, pid, started, ticks=_ticks(pid, str(told["Id"])))

    def logs(self, lines: int = 20) -> str:
        """Its last log lines, over all its lives."""
        with asking(f"read the log of {self.box.name}"):
            return self.box.container.logs(tail=lines).decode(errors="replace").rstrip()

    def execute(self, *argv: str, within_s: float = 30.0) -> str:
        """Run a command in the container."""
        return run_in(self.box, argv, f"node {self.name}", within_s)
