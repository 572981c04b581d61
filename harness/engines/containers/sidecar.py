"""How are nodes in containers kept from hearing one another? By rules in each one's network namespace, counted there.

*Sidecar*: a container with tools and the one capability NET_ADMIN, in the namespace of a node's anchor, from when a
cell is known to need it until that cell ends. *Fence*: the sidecars of a topology. A cut is a rule at the receiver that
drops what comes from the sender's address: one direction, nothing else, and the kernel counts the packets. The gate has
an address of its own, so clients are not cut off. What is left of a killed harness goes away with its containers.

Rules know IPv4 addresses alone, so the network is made without IPv6, and a namespace that has it all the same is
refused: nodes could hear each other there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.engines.containers.box import Box, run_in
from harness.engines.containers.images import reference
from harness.engines.containers.network import Yard, one_by_one
from harness.engines.containers.shell import Shell
from harness.errors import Trouble
from harness.parallel import at_once
from harness.system.topology import Cut

TOOLS = "tools"
NET_ADMIN = "NET_ADMIN"
_CHAIN = "ASSAY"
_PREPARED = f"iptables -w -N {_CHAIN} && iptables -w -I INPUT -j {_CHAIN}"
_FLUSHED = f"iptables -w -F {_CHAIN}"
_LISTED = f"iptables -w -n -v -x -L {_CHAIN}"
_SIXES = "cat /proc/net/if_inet6 2>/dev/null || true"
_RULE = re.compile(r"^\s*(\d+)\s+\d+\s+DROP\s+\S+\s+\S+\s+\S+\s+\S+\s+(\d+\.\d+\.\d+\.\d+)\s", re.MULTILINE)


@dataclass(slots=True)
class Fence:
    """Sidecars beside some nodes, and the rules that they have set."""

    yard: Yard
    names: Sequence[str]
    run: str
    stem: str
    _boxes: dict[str, Box] = field(default_factory=dict)
    _shells: dict[str, Shell] = field(default_factory=dict)

    def make(self) -> None:
        """Start every sidecar, in parallel, with an empty chain of rules. Raises Trouble where nodes have IPv6."""
        image = reference(TOOLS)

        def beside(name: str) -> None:
            box = self._boxes[name]
            box.make(image, run=self.run, host=self.yard.anchors[name], capabilities=(NET_ADMIN,))
            self._shells[name].open()
            self._tell(name, _PREPARED)
            if found := sixes(self._tell(name, _SIXES)):
                raise Trouble(
                    f"{name} has IPv6 addresses, which rules would not cover: {', '.join(found)}",
                    cure="set up the container engine so that its networks have no IPv6",
                )

        self._boxes = {name: Box(f"{self.stem}-fence-{name}", self.yard.ledger) for name in self.names}
        self._shells = {name: Shell(box, f"the sidecar of {name}") for name, box in self._boxes.items()}
        at_once([partial(beside, name) for name in self.names])

    def sever(self, cuts: Sequence[Cut]) -> None:
        """Set a rule for each cut, at its receiver, all receivers in parallel."""
        at_receiver: dict[str, list[str]] = {}
        for cut in cuts:
            rule = f"iptables -w -A {_CHAIN} -s {self.yard.addresses[cut.source]} -j DROP"
            at_receiver.setdefault(cut.target, []).append(rule)
        at_once([partial(self._tell, name, " && ".join(rules)) for name, rules in at_receiver.items()])

    def dropped(self) -> Mapping[Cut, int]:
        """Packets that each rule has dropped so far, as the kernel counts them; what has no rule is not in it."""
        named = {address: name for name, address in self.yard.addresses.items()}
        counted: dict[Cut, int] = {}

        def read(name: str) -> None:
            for packets, address in _RULE.findall(self._tell(name, _LISTED)):
                if address in named:
                    counted[Cut(named[address], name)] = int(packets)

        at_once([partial(read, name) for name in self.names])
        return counted

    def rejoin(self) -> None:
        """Take every rule away. Idempotent. Raises Trouble where one is still there."""
        at_once([partial(self._tell, name, _FLUSHED) for name in self._boxes])
        if left := self.dropped():
            raise Trouble(f"rules are left after they were taken away: {', '.join(map(str, left))}")

    def remove(self) -> None:
        """Remove the sidecars, with their rules. Idempotent, and right after half a creation.

        Raises Trouble, after removing every sidecar, where rules could not be taken away: the namespaces are the
        anchors', and must not serve another topology then.
        """
        gone = f"iptables -w -D INPUT -j {_CHAIN}; {_FLUSHED}; iptables -w -X {_CHAIN}"
        boxes, self._boxes = self._boxes, {}
        shells, self._shells = self._shells, {}

        def clear(name: str, box: Box) -> None:
            if box.made:
                run_in(box, ("sh", "-c", gone), f"the sidecar of {name}")

        one_by_one(
            [
                *(shell.close for shell in shells.values()),
                *(partial(clear, name, box) for name, box in boxes.items()),
                *(box.remove for box in boxes.values()),
            ]
        )

    def _tell(self, name: str, command: str) -> str:
        shell = self._shells[name]
        if shell.opened:
            return shell.run(command)
        # A rule must go, whatever became of the shell.
        return run_in(self._boxes[name], ("sh", "-c", command), shell.where)


def sixes(table: str) -> list[str]:
    """The IPv6 addresses in a namespace, by its /proc/net/if_inet6; its loopback's own aside.

    >>> sixes("00000000000000000000000000000001 01 80 10 80       lo\\n")
    []
    >>> sixes("fe800000000000000042acfffe110002 0a 40 20 80     eth0\\n")
    ['fe800000000000000042acfffe110002 on eth0']
    """
    rows = [line.split() for line in table.splitlines()]
    return [f"{row[0]} on {row[-1]}" for row in rows if row and row[-1] != "lo"]
