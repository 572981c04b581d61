"""The engine `containers`: how do brokers run in containers, with no way to them but through the proxy?

*Containers*: makes topologies of one container a node, in a yard of one network and one Toxiproxy. Nodes publish no
port: also our own connections go through links, so nothing listens beyond 127.0.0.1, and there is no way round.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.engines import loops
from harness.engines.placeholders import Site, render_spec
from harness.engines.references import other_images
from harness.errors import Refused, Trouble
from harness.ledger import Ledger, new_mark
from harness.parallel import at_once
from harness.system.needs import LINK_VERBS, Needs
from harness.system.topology import Cut, NodeSpec, NodeState, Traffic

if TYPE_CHECKING:
    from harness.engines.containers.disk import ContainerDisk, Disks
    from harness.engines.containers.network import Yard
    from harness.engines.containers.node import ContainerNode
    from harness.engines.containers.sidecar import Fence
    from harness.engines.link import Links, ProxyLink

_DOORS_FIXED = 8
_DOORS_PER_NODE = 8
_DOORS_MAX = 64
_SPARE_MAX = 2
DISK_VERBS = frozenset({"lose_power", "fill", "flip", "cut", "slow"})
"""What can be done to a node's disk, by a sidecar on its volume."""


@dataclass(slots=True)
class ContainerTopology:
    """Containers in a yard, and the links to them. Made by `Containers.create`."""

    run: str
    stem: str
    yard: Yard
    made: dict[str, ContainerNode]
    sites: Mapping[str, Site]
    proxy_image: str
    disks: Disks
    leave: Callable[[Yard], None]
    """What becomes of the yard once the topology is removed."""
    links_made: Links | None = None
    fence: Fence | None = None
    _left: bool = False

    @property
    def nodes(self) -> Mapping[str, ContainerNode]:
        """By name, in the order of the specs."""
        return self.made

    def start(self) -> None:
        """Every node at once; returns when none has exited."""
        from harness.engines.link import Links

        def start_node(node: ContainerNode) -> None:
            node.make(self.run, self.yard.anchors[node.name], self.disks.volumes(node.name, node.spec.data_path))

        self.disks.make()
        at_once([partial(start_node, node) for node in self.made.values()])
        self.links_made = Links(self.yard.gate.server, self.yard.gate, self._upstream)
        for node in self.made.values():
            status = node.status()
            if status.state is NodeState.EXITED:
                raise Trouble(f"node {node.name} {status} at its start; last log: {node.logs(10)}")

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
        """The proxy's address in the network."""
        return self.yard.gate.peers

    def proxy_alive(self) -> str | None:
        """None while the proxy's API answers."""
        return "the proxy was removed" if self.links_made is None else self.links_made.server.alive()

    def disturbed(self) -> Mapping[str, Mapping[str, object]]:
        """What is wrong with any link, in one request."""
        return self._links().disturbed()

    def renew_links(self) -> None:
        """Delete the links of all client slots, for the next lease."""
        self._links().take_away()

    def prepare(self, verbs: frozenset[str]) -> None:
        """Start the sidecars, if nodes are to be kept apart or disks to be broken."""
        from harness.engines.containers.sidecar import Fence

        if "sever" in verbs and self.fence is None:
            self.fence = Fence(self.yard, tuple(self.made), self.run, self.stem)
            self.fence.make()
        if verbs & DISK_VERBS:
            self.disks.prepare(verbs, self.yard)

    def disk(self, node: str) -> ContainerDisk:
        """The disk of a node."""
        return self.disks.of_node(node)

    def settle(self) -> None:
        """Write to the disks what the kernel holds for them."""
        self.disks.settle()

    @property
    def counts(self) -> str:
        """The kernel counts packets."""
        return "packets_dropped"

    def sever(self, cuts: Sequence[Cut]) -> None:
        """Drop what is sent in these directions, at the receivers."""
        self.prepare(frozenset({"sever"}))
        for cut in cuts:
            self.made[cut.source].used = self.made[cut.target].used = True
        self._fence().sever(cuts)

    def dropped(self) -> Mapping[Cut, int]:
        """Packets dropped in each severed direction."""
        return self._fence().dropped()

    def delay(self, cuts: Sequence[Cut], delay_ms: int) -> None:
        """Nodes in containers reach each other without a proxy: raises Refused."""
        raise _undelayed()

    def delayed(self) -> Mapping[Cut, int]:
        """Nothing is ever held back."""
        return {}

    def rejoin(self) -> None:
        """Take every rule away."""
        if self.fence is not None:
            self.fence.rejoin()

    def _fence(self) -> Fence:
        if self.fence is None:
            raise Trouble(f"no node of {self.run} was kept apart")
        return self.fence

    def describe(self) -> Mapping[str, object]:
        """Images with their digests, and rendered files."""
        from harness.engines.containers.images import identity

        return {
            "engine": Containers.name,
            "nodes": {
                name: {
                    "program": node.spec.program,
                    "image": identity(node.image),
                    "arguments": list(node.rendered.arguments),
                    "files": dict(node.rendered.files),
                }
                for name, node in self.made.items()
            },
            "proxy": identity(self.proxy_image),
        }

    @property
    def dirty(self) -> bool:
        """Whether a verb was used on a node."""
        return any(node.used for node in self.made.values())

    def remove(self) -> None:
        """Remove every node, and leave the yard to the engine: gone, unless it keeps yards. Idempotent; what cannot be
        removed keeps nothing else from it."""
        from harness.engines.containers.network import Yard, one_by_one

        def in_yard(job: Callable[[], None]) -> None:
            try:
                job()
            except BaseException:  # something is left in the yard: it serves nobody else
                self.leave = Yard.remove
                raise

        def links() -> None:
            if self.links_made is not None:
                made, self.links_made = self.links_made, None
                made.close()

        def fence() -> None:
            if self.fence is not None:
                made, self.fence = self.fence, None
                try:
                    made.remove()
                except Trouble:  # rules are left in the anchors, and go with the yard
                    self.leave = Yard.remove

        def yard() -> None:
            if not self._left:
                self.leave(self.yard)
                self._left = True

        nodes = partial(at_once, [node.remove for node in self.made.values()])
        one_by_one([*(partial(in_yard, job) for job in (links, fence, nodes, self.disks.remove)), yard])

    def _upstream(self, node: str, service: str) -> str:
        if node not in self.sites or service not in self.sites[node].ports:
            raise Refused(f"there is no service {service!r} on a node {node!r}")
        return f"{self.yard.addresses[node]}:{self.sites[node].ports[service]}"

    def _links(self) -> Links:
        if self.links_made is None:
            raise Trouble(f"the topology of {self.run} was removed")
        return self.links_made


class Containers:
    """The engine `containers`, on whatever answers at DOCKER_HOST or the default socket."""

    name = "containers"

    def __init__(self) -> None:
        self._retains = False
        self._spare: list[Yard] = []
        self._lock = threading.Lock()

    def offers(self) -> Needs:
        """Every verb of nodes and links; clusters of nodes with hosts and addresses of their own."""
        nodes = {"start", "stop", "kill", "pause", "resume", "execute", "replace", "renew", "set_clock"}
        between = {"sever"}
        return Needs(
            verbs=LINK_VERBS | DISK_VERBS | nodes | {"exhaust_memory"} | between,
            capabilities=frozenset({"containers", "cluster", "disk", "memory", "clock"}),
        )

    def unavailable(self, specs: Sequence[NodeSpec], verbs: frozenset[str] = frozenset()) -> str | None:
        """Why these nodes cannot be made here, or these verbs not be served, with the cure, or None."""
        from harness.engines.containers.api import elsewhere, silent
        from harness.engines.containers.disk import cannot_slow
        from harness.engines.containers.images import TOXIPROXY, clockless, missing, reference, references
        from harness.engines.containers.sidecar import TOOLS

        if why_not := silent():
            return str(Trouble(why_not, cure="start the container engine, or use the engine `processes`"))
        try:
            on_disks = bool(verbs & DISK_VERBS) or any(spec.equipment.disk_mb is not None for spec in specs)
            if on_disks and (why_not := loops.unavailable() or elsewhere()):
                return why_not
            if "delay" in verbs:
                raise _undelayed()
            if "slow" in verbs and (why_not := cannot_slow()):
                return why_not
            tools = [reference(TOOLS)] if verbs & (DISK_VERBS | {"sever", "exhaust_memory"}) else []
            images = references(specs)
            if why_not := missing([reference(TOXIPROXY), *tools, *images.values()]):
                return why_not
            if "replace" in verbs and not specs:  # asked of no cell in particular: is there any other version?
                return missing(other_images().values())
            own = [(spec.program, images[spec.name]) for spec in specs if spec.equipment.clock]
            if "set_clock" in verbs and not specs:
                own = [("rabbitmq", reference("rabbitmq"))]
            return next((why_not for clock in own if (why_not := clockless(*clock))), None)
        except (Refused, Trouble) as error:
            return str(error)

    def create(self, specs: Sequence[NodeSpec], *, run: str) -> ContainerTopology:
        """Make and start the nodes, in a yard kept from before or a new one."""
        from harness.engines.containers.box import Box
        from harness.engines.containers.disk import Disks
        from harness.engines.containers.images import TOXIPROXY, reference, references
        from harness.engines.containers.node import ContainerNode

        if why_not := self.unavailable(specs):
            raise Refused(why_not)
        ledger, images, proxy_image = Ledger.open(), references(specs), reference(TOXIPROXY)
        sites = {spec.name: _site(spec) for spec in specs}
        rendered = {spec.name: render_spec(spec, sites) for spec in specs}
        stem = f"assay-{re.sub('[^A-Za-z0-9_.-]', '-', run)[:40]}-{new_mark()[:8]}"
        yard = self._yard(stem, proxy_image, [spec.name for spec in specs], run, ledger)
        made = {
            spec.name: ContainerNode(
                spec.name, spec, Box(f"{stem}-{spec.name}", ledger), rendered[spec.name], images[spec.name]
            )
            for spec in specs
        }
        boxes = {name: node.box for name, node in made.items()}
        topology = ContainerTopology(
            run=run,
            stem=stem,
            yard=yard,
            made=made,
            sites=sites,
            proxy_image=proxy_image,
            disks=Disks.of(specs, boxes, stem=stem, run=run, ledger=ledger),
            leave=self._leave,
        )
        try:
            topology.start()
        except BaseException:  # also Ctrl-C: what was made goes away with us
            topology.remove()
            raise
        return topology

    def retain(self) -> None:
        """Keep the yards of removed topologies for the next ones, until `release`: the pool's business."""
        with self._lock:
            self._retains = True

    def release(self) -> None:
        """Remove the yards that were kept, and keep none from now on. Idempotent."""
        from harness.engines.containers.network import one_by_one

        with self._lock:
            self._retains = False
            yards, self._spare = self._spare, []
        one_by_one([yard.remove for yard in yards])

    def _yard(self, stem: str, image: str, names: Sequence[str], run: str, ledger: Ledger) -> Yard:
        from harness.engines.containers.network import Yard

        doors_count = min(_DOORS_MAX, _DOORS_FIXED + _DOORS_PER_NODE * len(names))
        with self._lock:
            fitting = [yard for yard in self._spare if yard.gate.doors_count >= doors_count]
            spare = min(fitting, key=lambda yard: yard.gate.doors_count, default=None)
            if spare is not None:
                self._spare.remove(spare)
        if spare is not None and spare.gate.server.alive() is not None:
            spare.remove()
            spare = None
        yard = spare or Yard(stem, ledger)
        try:
            if spare is None:
                yard.make(image, names, run=run, doors_count=doors_count)
            else:
                yard.hold(image, names, run=run)
        except BaseException:
            yard.remove()
            raise
        return yard

    def _leave(self, yard: Yard) -> None:
        with self._lock:
            keep = self._retains and len(self._spare) < _SPARE_MAX
        if keep:
            try:
                keep = yard.gate.server.alive() is None
                if keep:
                    yard.clear()
            except Trouble:  # a gate that cannot be cleared serves nobody
                keep = False
        with self._lock:
            keep = keep and self._retains
            if keep:
                self._spare.append(yard)
        if not keep:
            yard.remove()


def _undelayed() -> Refused:
    """Through the gate they would come from the gate's address, by which no rule of the fence could keep them apart."""
    return Refused(
        "nodes in containers reach each other directly: nothing stands between them that could delay what they send",
        cure="use --assay-engine processes, where NATS servers reach each other through proxies",
    )


def _site(spec: NodeSpec) -> Site:
    """A node in a container has the ports, paths and name that its spec says."""
    return Site(
        listen_host="0.0.0.0",
        host=spec.name,
        ports=spec.services,
        data=spec.data_path,
        files={path: path for path in spec.files},
    )
