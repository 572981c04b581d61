"""Does every client reach the broker through its proxies alone? Asked of the broker, and of the kernel.

The broker says from which address each connection came. Where proxy and clients share one address, as local processes
do, that tells nothing; so the kernel is asked, too, whom each client's process is connected to: only the doors of its
own links are allowed. A client that is connected and that the broker does not list has not been proved.

It is asked when the system is whole, at the start and after each recovery; what each node then says of the others is
written down with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.clock import happens
from harness.errors import Trouble
from harness.history.proceedings import Proceedings
from harness.runner.client import ClientProcess
from harness.runner.crew import Crew
from harness.runner.sockets import remotes
from harness.system.service import Broker, Peer, told_views
from harness.system.topology import Topology

LISTED_WITHIN_S = 3.0


class Peers:
    """Writes down, whenever it is asked, whether all of them do."""

    def __init__(self, broker: Broker, topology: Topology, crew: Crew, proceedings: Proceedings) -> None:
        self._broker = broker
        self._topology = topology
        self._crew = crew
        self._proceedings = proceedings

    def check(self) -> None:
        """One line of the proceedings: `ok` is None where nobody knows, with the reason."""
        listed: list[Peer] = []
        why_not = ""

        def complete() -> bool:
            nonlocal why_not
            try:
                listed[:] = self._broker.peers()
            except Trouble as trouble:
                why_not = trouble.message
                return False
            seen = {peer.client for peer in listed}
            missing = [client.name for client in self._connected() if client.name not in seen]
            why_not = f"the broker does not list {', '.join(missing)}" if missing else ""
            return not missing

        proved = happens(complete, within_s=LISTED_WITHIN_S)
        names = {client.name for client in self._crew.all()}
        allowed = self._topology.proxy_peers()
        strangers = [
            f"{peer.client} from {peer.host}:{peer.port}"
            for peer in listed
            if peer.client in names and peer.host not in allowed
        ]
        strangers += [
            f"{client.name} from itself to {where}" for client in self._connected() for where in _past(client)
        ]
        self._proceedings.write(
            "peers",
            ok=False if strangers else True if proved else None,
            strangers=strangers,
            seen=sorted({peer.client for peer in listed} & names),
            why_not=why_not,
            members=told_views(self._broker.views()),
        )

    def _connected(self) -> Sequence[ClientProcess]:
        return [client for client in self._crew.living() if client.counters().connected]


def _past(client: ClientProcess) -> list[str]:
    """Addresses that a client's process is connected to, beside the doors of its links."""
    doors = {(host, port) for _, host, port in client.spec.addresses}
    return [f"{host}:{port}" for host, port in sorted(remotes(client.pid) - doors)]
