"""How is one container of ours made, told to run something, and taken away, whatever is in it?

*Box*: one container from before it is made until after it is gone, with its entry in the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors
from docker.models.containers import Container
from docker.types import Mount
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from harness.clock import until
from harness.engines.containers.api import LIMIT_S, asking, client, labels
from harness.errors import Trouble
from harness.ledger import CONTAINER, Ledger

CGROUPS = Path("/sys/fs/cgroup")
GONE_WITHIN_S = 15.0
SCORE = 1000
"""The kernel's greatest: whoever has it is killed first for want of memory."""


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
        volumes: Mapping[str, str] | None = None,
        volume: str | None = None,
        heir_of: Box | None = None,
        memory_mb: int | None = None,
        below: str | None = None,
    ) -> None:
        """Make and start it: in a `network` as `alias`, or in the network namespace of another box, its `host`, whose
        name and address it shares. `ports`: "8474/tcp" -> the address and port of this host that it is published on.
        `capabilities`: what it may do beyond what any container may. `volumes`: a volume's name -> where it is mounted.
        `volume`: the path of a directory that is an anonymous volume, so that another box, its heir, can have what is
        in it. `heir_of`: whose volumes it has. `memory_mb`: no more than that, swap included, and the first to be
        killed for it. `below`: the cgroup that its own is made in.
        """
        self._entry = self.ledger.add(CONTAINER, name=self.name)
        box = DockerContainer(
            image,
            docker_client_kw={"timeout": LIMIT_S},
            env=dict(environment or {}),
            name=self.name,
        )
        if host is not None:
            own: dict[str, Any] = {"cap_add": list(capabilities)} if capabilities else {}
            if memory_mb is not None:
                own |= {"mem_limit": memory_mb << 20, "memswap_limit": memory_mb << 20, "oom_score_adj": SCORE}
            if below is not None:
                own["cgroup_parent"] = below
            if heir_of is not None:
                own["volumes_from"] = [heir_of.name]
            elif volume is not None:
                own["mounts"] = [Mount(target=volume, source=None, type="volume", labels=labels(run))]
            box.with_kwargs(labels=labels(run), network_mode=f"container:{host.name}", **own)
        else:
            assert network is not None
            assert alias is not None
            box.with_network(network).with_network_aliases(alias).with_kwargs(labels=labels(run), hostname=alias)
        if arguments:
            box.with_command(list(arguments))
        box.ports = dict(ports or {})  # type: ignore[arg-type]  # docker-py takes the address to publish on, too
        for volume, path in (volumes or {}).items():
            box.with_volume_mapping(volume, path, "rw")
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
    """Remove a container with its anonymous volumes, and wait until it is gone; none of that name is as good. A volume
    that its heir has, too, is kept for that one, and goes with whichever of the two is removed last."""
    with asking(f"remove {name}"):
        api = client().api
        try:
            identity = str(api.inspect_container(name)["Id"])
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

        until(gone, within_s=GONE_WITHIN_S, what=f"the container {name} to be gone")
    _remove_cgroups(identity)


def _remove_cgroups(identity: str) -> None:
    """Remove the cgroups of a container that is gone. The engine leaves them where another container's lay below when
    it ended, and they would stay until the machine is started again. The kernel lets only those go that are empty."""
    for cgroup in (*CGROUPS.glob(f"*/docker/{identity}"), CGROUPS / "docker" / identity):
        with suppress(OSError):
            cgroup.rmdir()


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
