"""The engine `processes`: how do brokers run as local processes, each as if it had a machine of its own?

*Processes*: makes topologies of local processes behind a local toxiproxy-server. Every node has a directory of its own
in one temporary directory, ports of its own on 127.0.0.1, and keeps both until it is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.clock import happens, until
from harness.engines.placeholders import Rendered, Site, render_spec
from harness.engines.ports import Ports
from harness.engines.process_node import DATA, LocalProcess, ProcessNode, command, environment, required
from harness.engines.references import executable
from harness.engines.routes import Routes
from harness.errors import Refused, Trouble
from harness.ledger import DIRECTORY, Ledger, new_mark
from harness.system.disk import Disk
from harness.system.needs import LINK_VERBS, Needs
from harness.system.topology import Cut, NodeSpec, NodeState, Traffic

if TYPE_CHECKING:
    from harness.engines.link import Door, Links, ProxyLink

TOXIPROXY = "toxiproxy"
_TOGETHER = "nodes that are local processes cannot be kept apart, unless they are NATS servers"
_APART = "use the engine `containers`"
_DIRECT = "nodes that are local processes reach each other directly, unless they are NATS servers"
_PROXIED = "use a cluster of NATS servers"
_ROUTES = {"nats": "cluster"}
"""Program -> the service by which its nodes reach each other, over connections that can be led through proxies."""

_ATTEMPTS = 3
_PORT_TAKEN = ("address already in use", "eaddrinuse", "bind:")
_SETTLE_S = 1.0


@dataclass(slots=True)
class LocalDoors:
    """Doors for proxies on this machine: one of our free ports each."""

    ports: Ports

    def take(self) -> Door:
        """A port that nobody listens on."""
        from harness.engines.link import Door  # the strict layer loads requests: only when something is created

        port = self.ports.take()
        return Door(listen=f"127.0.0.1:{port}", port=port)

    def give(self, door: Door) -> None:
        """Give its port back."""
        self.ports.give(door.port)


@dataclass(slots=True)
class LocalTopology:
    """Local processes and the links to them. Made by `Processes.create`."""

    run: str
    directory: Path
    ledger: Ledger
    ports: Ports
    links_made: Links | None = None
    proxy: LocalProcess | None = None
    epmd: LocalProcess | None = None
    """Where Erlang nodes find each other: one for all, or the first node's would die and freeze with that node."""
    made: dict[str, ProcessNode] = field(default_factory=dict)
    routes: Routes | None = None
    """The ways between nodes that can be kept apart."""
    sites: dict[str, Site] = field(default_factory=dict)
    rendered: dict[str, Rendered] = field(default_factory=dict)
    _taken: list[int] = field(default_factory=list)
    _entry: int | None = None

    @property
    def nodes(self) -> Mapping[str, ProcessNode]:
        """By name, in the order of the specs."""
        return self.made

    def link(self, slot: str, node: str, service: str) -> ProxyLink:
        """The link of a client slot to a node's service."""
        return self._links().link(slot, node, service)

    def links(self) -> Sequence[ProxyLink]:
        """Every link made so far in this lease."""
        return self._links().all()

    def traffic(self) -> Mapping[tuple[str, str, str], Traffic]:
        """Traffic of every link, in one request."""
        return self._links().traffic()

    def proxy_peers(self) -> frozenset[str]:
        """Everything here comes from 127.0.0.1."""
        return frozenset({"127.0.0.1"})

    def proxy_alive(self) -> str | None:
        """None while the proxy's process runs and its API answers."""
        if self.proxy is None or self.links_made is None:
            return "the proxy was removed"
        if (state := self.proxy.state()) is not NodeState.RUNNING:
            return f"toxiproxy-server is {state}; last log: {self.proxy.last_lines(3)}"
        return self.links_made.server.alive()

    def disturbed(self) -> Mapping[str, Mapping[str, object]]:
        """What is wrong with any link, in one request."""
        return self._links().disturbed()

    def renew_links(self) -> None:
        """Delete the links of all client slots, for the next lease."""
        self._links().take_away()

    def prepare(self, verbs: frozenset[str]) -> None:
        """Nothing is needed beforehand."""

    def disk(self, node: str) -> Disk:
        """Local processes share one file system: raises Refused."""
        raise Refused("nodes that are local processes have no disks of their own", cure="use the engine `containers`")

    def settle(self) -> None:
        """There are no disks of their own."""

    @property
    def counts(self) -> str:
        """Proxies count bytes."""
        return "bytes_dropped"

    def sever(self, cuts: Sequence[Cut]) -> None:
        """Drop what is sent in these directions, in the proxies between the nodes."""
        if self.routes is None:
            raise Refused(_TOGETHER, cure=_APART)
        for cut in cuts:
            self.made[cut.source].used = self.made[cut.target].used = True
        self.routes.sever(cuts)

    def dropped(self) -> Mapping[Cut, int]:
        """Bytes dropped in each severed direction."""
        return {} if self.routes is None else self.routes.dropped()

    def delay(self, cuts: Sequence[Cut], delay_ms: int) -> None:
        """Hold back what is sent in these directions, in the proxies between the nodes."""
        if self.routes is None:
            raise Refused(_DIRECT, cure=_PROXIED)
        self.routes.delay(cuts, delay_ms)

    def delayed(self) -> Mapping[Cut, int]:
        """The delay of each direction that has one, in ms."""
        return {} if self.routes is None else self.routes.delayed()

    def rejoin(self) -> None:
        """Let everything through again, at once."""
        if self.routes is not None and self.links_made is not None:
            self.routes.rejoin()

    def describe(self) -> Mapping[str, object]:
        """Executables and rendered files."""
        return {
            "engine": Processes.name,
            "nodes": {
                name: {
                    "program": node.spec.program,
                    "argv": list(node.process.argv),
                    "files": {PurePosixPath(path).name: text for path, text in self.rendered[name].files.items()},
                    "ports": dict(self.sites[name].ports),
                }
                for name, node in self.made.items()
            },
            "proxy": None if self.proxy is None else self.proxy.argv[0],
        }

    @property
    def dirty(self) -> bool:
        """Whether a verb was used on a node."""
        return any(node.used for node in self.made.values())

    def remove(self) -> None:
        """End every process, delete the directory. Idempotent."""
        for process in [*(node.process for node in self.made.values()), self.proxy, self.epmd]:
            if process is not None:
                process.kill()
        if self.links_made is not None:
            self.links_made.close()
            self.links_made.server.close()
            self.links_made = None
        self.proxy = None
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            raise Trouble(f"{self.directory} could not be deleted")
        self.ledger.strike(self._entry)
        self._entry = None
        while self._taken:
            self.ports.give(self._taken.pop())

    # ---- creation, in order ------------------------------------------------------------------------------------------

    def lay_out(self, specs: Sequence[NodeSpec]) -> None:
        """Directory, ports, files: everything but processes."""
        self._entry = self.ledger.add(DIRECTORY, path=str(self.directory))
        self.directory.mkdir(mode=0o700)
        routed = [spec.name for spec in specs if _ROUTES.get(spec.program, "") in spec.services]
        if len(routed) > 1:
            self.routes = Routes.between(routed, self._take)
        for spec in specs:
            own = self.directory / spec.name
            (own / DATA).mkdir(parents=True)
            names = [PurePosixPath(path).name for path in spec.files]
            if len(set(names)) < len(names):
                raise Refused(f"two files of node {spec.name!r} have the same base name: {', '.join(sorted(names))}")
            self.sites[spec.name] = Site(
                listen_host="127.0.0.1",
                host="127.0.0.1",
                ports={service: self._take() for service in spec.services},
                data=str(own / DATA),
                files={path: str(own / PurePosixPath(path).name) for path in spec.files},
                ways=self._ways(spec),
            )
        epmd_port = None
        if any(spec.program == "rabbitmq" for spec in specs) and (epmd := executable("epmd")):
            epmd_port = self._take()
            argv = (str(epmd), "-port", str(epmd_port), "-address", "127.0.0.1")
            self.epmd = self._helper("epmd", argv)
        for spec in specs:
            self._prepare_node(spec, epmd_port)

    def _ways(self, spec: NodeSpec) -> Mapping[tuple[str, str], int]:
        if self.routes is None or spec.program not in _ROUTES:
            return {}
        return {(node, _ROUTES[spec.program]): port for node, port in self.routes.to(spec.name).items()}

    def _prepare_node(self, spec: NodeSpec, epmd_port: int | None) -> None:
        own, site = self.directory / spec.name, self.sites[spec.name]
        rendered = self.rendered[spec.name] = render_spec(spec, self.sites)
        for path, text in rendered.files.items():
            Path(path).write_text(text, encoding="utf-8")
            if path.endswith(".erlang.cookie"):
                os.chmod(path, 0o400)  # or Erlang refuses it
        process = LocalProcess(
            name=f"{self.run}/{spec.name}",
            argv=command(spec, rendered),
            environment=environment(spec, rendered, site, own, epmd_port),
            directory=own,
            log=own / "log.txt",
            ledger=self.ledger,
            spreads=spec.program == "rabbitmq",
        )
        self.made[spec.name] = ProcessNode(spec.name, spec, process)

    def start(self) -> None:
        """The proxy, then every node; returns when each listens on its first service, or has run for a second; one that
        has exited is Trouble."""
        from harness.engines.link import Links
        from harness.engines.proxy import Server

        api = self._take()
        argv = (required(TOXIPROXY), "-host", "127.0.0.1", "-port", str(api), "-proxy-metrics")
        self.proxy = self._helper(TOXIPROXY, argv)
        if (epmd := self.epmd) is not None:
            epmd.start()
            port, said = int(epmd.argv[2]), partial(epmd.last_lines, 3)
            until(lambda: _all_listened_on([port]), within_s=5.0, what="epmd to listen", last_seen=said)
        self.proxy.start()
        server = Server("127.0.0.1", api)
        self.links_made = Links(server, LocalDoors(self.ports), self._upstream)
        until(
            lambda: _is_exited(self.proxy) or server.alive() is None,
            within_s=10.0,
            what="toxiproxy-server to answer",
            last_seen=lambda: str(server.alive()),
        )
        if self.routes is not None:  # before the nodes, which would wait a second before they dialled again
            self.routes.make(server, lambda name: self._upstream(name, _ROUTES[self.made[name].spec.program]))
        for port in [port for site in self.sites.values() for port in site.ports.values()]:
            if _all_listened_on([port]):  # else it would be taken for our node's, before that has ended for it
                raise Trouble(f"somebody listens on port {port} of 127.0.0.1: address already in use")
        for node in self.made.values():
            node.process.start()
        listening = [port for site in self.sites.values() for port in list(site.ports.values())[:1]]
        happens(lambda: self._exited() or _all_listened_on(listening), within_s=_SETTLE_S)
        if exited := self._exited():
            raise Trouble(f"{exited.name} {exited.status()} at its start; last log: {exited.last_lines(10)}")

    def _helper(self, program: str, argv: tuple[str, ...]) -> LocalProcess:
        return LocalProcess(
            name=f"{self.run}/{program}",
            argv=argv,
            environment=dict(os.environ),
            directory=self.directory,
            log=self.directory / f"{program}.txt",
            ledger=self.ledger,
        )

    def _exited(self) -> LocalProcess | None:
        processes = [self.proxy, self.epmd, *(node.process for node in self.made.values())]
        return next((p for p in processes if p is not None and p.state() is NodeState.EXITED), None)

    def _take(self) -> int:
        self._taken.append(self.ports.take())
        return self._taken[-1]

    def _upstream(self, node: str, service: str) -> str:
        if node not in self.sites or service not in self.sites[node].ports:
            raise Refused(f"there is no service {service!r} on a node {node!r}")
        return f"{self.sites[node].host}:{self.sites[node].ports[service]}"

    def _links(self) -> Links:
        if self.links_made is None:
            raise Trouble(f"the topology of {self.run} was removed")
        return self.links_made


class Processes:
    """The engine `processes`: no container engine needed; runs `nats`, `memory`, and `rabbitmq` where installed."""

    name = "processes"

    def offers(self) -> Needs:
        """Every verb of nodes and links; clusters, all on 127.0.0.1; of these, NATS can be kept apart."""
        nodes = {"start", "stop", "kill", "pause", "resume", "execute", "renew"}
        verbs = LINK_VERBS | nodes | {"sever", "delay"}
        return Needs(verbs=verbs, capabilities=frozenset({"processes", "cluster"}))

    def unavailable(self, specs: Sequence[NodeSpec], verbs: frozenset[str] = frozenset()) -> str | None:
        """Why these nodes cannot be made here, with the cure, or None."""
        nothing = Rendered(files={}, environment={}, arguments=())
        try:
            required(TOXIPROXY)
            for spec in specs:
                command(spec, nothing)
                if spec.version is not None:
                    return f"the engine `processes` runs the installed {spec.program}, and cannot choose {spec.version}"
                if "sever" in verbs and spec.program not in _ROUTES:
                    raise Refused(_TOGETHER, cure=_APART)
                if "delay" in verbs and spec.program not in _ROUTES:
                    raise Refused(_DIRECT, cure=_PROXIED)
        except Refused as refused:
            return str(refused)
        return None

    def create(self, specs: Sequence[NodeSpec], *, run: str) -> LocalTopology:
        """Make and start the nodes and the proxy; with other ports if somebody took one of ours meanwhile."""
        if why_not := self.unavailable(specs):
            raise Refused(why_not)
        refusals: list[Trouble] = []
        for _ in range(_ATTEMPTS):
            directory = Path(tempfile.gettempdir()) / f"assay-{new_mark()}"
            topology = LocalTopology(run, directory, Ledger.open(), Ports.open())
            try:
                topology.lay_out(specs)
                topology.start()
            except BaseException as error:  # also Ctrl-C: what was made goes away with us
                topology.remove()
                if not isinstance(error, Trouble) or not _port_was_taken(error):
                    raise
                refusals.append(error)
            else:
                return topology
        raise refusals[-1]


def _is_exited(process: LocalProcess | None) -> bool:
    return process is None or process.state() is NodeState.EXITED


def _port_was_taken(trouble: Trouble) -> bool:
    return any(sign in trouble.message.lower() for sign in _PORT_TAKEN)


def _all_listened_on(ports: Sequence[int]) -> bool:
    """Whether somebody listens on each of these ports of 127.0.0.1; asked of the kernel, so that no node sees us."""
    wanted = set(ports)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields: list[Any] = line.split()
            if fields[3] == "0A":
                wanted.discard(int(fields[1].rpartition(":")[2], 16))
    return not wanted
