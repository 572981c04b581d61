"""How is one broker in a container killed, frozen and started again, with its data, name and address as they were?

*Box*: one container of ours, whatever is in it. *ContainerNode*: a broker's node made of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker.errors
from docker.models.containers import Container
from docker.types import Mount
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from harness.clock import until
from harness.engines.containers.api import LIMIT_S, asking, client, labels
from harness.engines.containers.images import CLOCK_LIBRARY, missing, reference
from harness.engines.placeholders import Rendered
from harness.errors import Trouble
from harness.ledger import CONTAINER, Ledger, new_mark
from harness.system.topology import NodeSpec, NodeState, NodeStatus

CHANGE_WITHIN_S = 15.0
CLOCK_FILE = "/etc/assay-clock"
CLOCK_ENVIRONMENT = {
    "LD_PRELOAD": CLOCK_LIBRARY,
    "FAKETIME_TIMESTAMP_FILE": CLOCK_FILE,
    "FAKETIME_NO_CACHE": "1",
    "FAKETIME_DISABLE_SHM": "1",  # else a process that has changed its user waits for ever for what root has made
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # timers go on, as they do when a real clock is set
}


@dataclass(slots=True)
class Box:
    """One container of ours from before it is made until after it is gone, with its entry in the ledger."""

    name: str
    ledger: Ledger
    _entry: int | None = None
    _container: Container | None = None

    def make(
        self,
        image: str,
        *,
        run: str,
        network: Network | None = None,
        alias: str | None = None,
        host: Box | None = None,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        ports: Mapping[str, tuple[str, int | None]] | None = None,
        capabilities: tuple[str, ...] = (),
        volume: str | None = None,
        heir_of: Box | None = None,
    ) -> None:
        """Make and start it: in a `network` as `alias`, or in the network namespace of another box, its `host`, whose
        name and address it shares. `ports`: "8474/tcp" -> the address and port of this host that it is published on.
        `capabilities`: what it may do beyond what any container may. `volume`: the path of a directory that is an
        anonymous volume, so that another box, its heir, can have what is in it. `heir_of`: whose volumes it has.
        """
        self._entry = self.ledger.add(CONTAINER, name=self.name)
        box = DockerContainer(
            image,
            docker_client_kw={"timeout": LIMIT_S},
            env=dict(environment or {}),
            name=self.name,
        )
        if host is not None:
            own: dict[str, object] = {"cap_add": list(capabilities)} if capabilities else {}
            if heir_of is not None:
                own["volumes_from"] = [heir_of.name]
            elif volume is not None:
                own["mounts"] = [Mount(target=volume, source=None, type="volume")]
            box.with_kwargs(labels=labels(run), network_mode=f"container:{host.name}", **own)
        else:
            assert network is not None
            assert alias is not None
            box.with_network(network).with_network_aliases(alias).with_kwargs(labels=labels(run), hostname=alias)
        if arguments:
            box.with_command(list(arguments))
        box.ports = dict(ports or {})  # type: ignore[arg-type]  # docker-py takes the address to publish on, too
        for path, text in (files or {}).items():
            cookie = path.endswith(".erlang.cookie")  # or Erlang refuses it; its entry point gives it the owner
            box.with_copy_into_container(text.encode(), path, 0o400 if cookie else 0o644)
        with asking(f"start {self.name} from {image}"):
            box.start()
        self._container = box.get_wrapped_container()

    def addresses(self) -> frozenset[str]:
        """Its addresses in its networks."""
        joined = self.inspect()["NetworkSettings"]["Networks"].values()
        return frozenset(str(network["IPAddress"]) for network in joined)

    @property
    def made(self) -> bool:
        """Whether it is there, as far as we know."""
        return self._container is not None

    @property
    def container(self) -> Container:
        """docker-py's own handle. Raises Trouble before it is made and after it is gone."""
        if self._container is None:
            raise Trouble(f"the container {self.name} is not there")
        return self._container

    def inspect(self) -> dict[str, Any]:
        """What the engine says of it now."""
        with asking(f"inspect {self.name}"):
            found: dict[str, Any] = client().api.inspect_container(self.name)
            return found

    def remove(self) -> None:
        """Remove it, whatever it does, with its anonymous volumes. Idempotent, and right after half a creation."""
        if self._entry is not None:
            remove_container(self.name)
            self.ledger.strike(self._entry)
        self._entry = self._container = None


def remove_container(name: str) -> None:
    """Remove a container with its volumes, except those that an heir has, and wait until it is gone; none of that name
    is as good."""
    with asking(f"remove {name}"):
        api = client().api
        try:
            api.remove_container(name, force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:  # somebody else is removing it already
                raise

        def gone() -> bool:
            try:
                api.inspect_container(name)
            except docker.errors.NotFound:
                return True
            return False

        until(gone, within_s=CHANGE_WITHIN_S, what=f"the container {name} to be gone")


def run_in(box: Box, argv: Sequence[str], where: str, within_s: float = 30.0) -> str:
    """Run a command in a container and return what it printed. Raises Trouble with that when it fails or goes on for
    longer; `where` is what the container is called then."""
    answers: list[tuple[int, str] | Trouble] = []
    said = " ".join(argv)

    def run() -> None:
        try:
            with asking(f"run {said} in {box.name}"):
                done = box.container.exec_run(list(argv))
        except Trouble as trouble:
            answers.append(trouble)
        else:
            answers.append((done.exit_code or 0, done.output.decode(errors="replace")))  # type: ignore[union-attr]

    runner = threading.Thread(target=run, daemon=True)  # the engine has no limit for what it runs
    runner.start()
    runner.join(within_s)
    if not answers:
        raise Trouble(f"{said} in {where} still runs after {within_s:g} s")
    answer = answers[0]
    if isinstance(answer, Trouble):
        raise answer
    code, output = answer
    if code != 0:
        raise Trouble(f"{said} in {where} exited {code}: {output}")
    return output


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
    run: str = ""
    anchor: Box | None = None
    _predecessors: list[Box] = field(default_factory=list)

    def make(self, run: str, anchor: Box) -> None:
        """Make and start its container, in the network namespace of its anchor."""
        self.run, self.anchor = run, anchor
        self._make(self.box, self.image, heir_of=None)

    def _make(self, box: Box, image: str, heir_of: Box | None) -> None:
        box.make(
            image,
            run=self.run,
            host=self.anchor,
            arguments=self.rendered.arguments,
            environment={**self.rendered.environment, **(CLOCK_ENVIRONMENT if self.spec.equipment.clock else {})},
            files={**self.rendered.files, **({CLOCK_FILE: "+0\n"} if self.spec.equipment.clock else {})},
            volume=self.spec.data_path,
            heir_of=heir_of,
        )

    def replace(self, version: str | None) -> None:
        """SIGTERM, then a container of that version's image, with the same volume, address and files. A container that
        was not made leaves the old one as it is, ended, and its data with it."""
        image = reference(self.spec.program, version)
        if why_not := missing([image]):
            raise Trouble(why_not)
        self.stop()
        old, heir = self.box, Box(f"{self.box.name}-{new_mark()[:4]}", self.box.ledger)
        self._predecessors.append(heir)  # until it is there, so that `remove` finds it
        self._make(heir, image, heir_of=old)
        self._predecessors.remove(heir)
        self._predecessors.append(old)
        self.box, self.image = heir, image

    def set_clock(self, offset_s: float) -> None:
        """By what the library reads that is preloaded into every process of the node; renamed, so that it never reads
        half a file, at which it would end the process."""
        if not self.spec.equipment.clock:
            raise Trouble(f"node {self.name} was made without a clock of its own")
        self.used = True
        changed = f"echo {offset_s:+.3f} >{CLOCK_FILE}.new && mv {CLOCK_FILE}.new {CLOCK_FILE}"
        if self.status().state is NodeState.RUNNING:
            self.execute("env", "-u", "LD_PRELOAD", "sh", "-c", changed)

    def remove(self) -> None:
        """Remove its container, those that came before it, and with the last of them its data. Idempotent."""
        for box in (self.box, *self._predecessors):
            box.remove()

    def start(self) -> None:
        """Start it (again), with its data as it was left."""
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
        state = self.box.inspect()["State"]
        if state["Paused"]:
            what = NodeState.PAUSED
        elif state["Running"]:
            what = NodeState.RUNNING
        else:
            return NodeStatus(NodeState.EXITED, None, None, int(state["ExitCode"]))
        started = int("".join(filter(str.isdigit, state["StartedAt"].rstrip("Z").ljust(29, "0"))))
        return NodeStatus(what, int(state["Pid"]), started)

    def logs(self, lines: int = 20) -> str:
        """Its last log lines, over all its lives."""
        with asking(f"read the log of {self.box.name}"):
            return self.box.container.logs(tail=lines).decode(errors="replace").rstrip()

    def execute(self, *argv: str, within_s: float = 30.0) -> str:
        """Run a command in the container."""
        return run_in(self.box, argv, f"node {self.name}", within_s)
