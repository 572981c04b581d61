"""How do replicas and members of RabbitMQ come and go? By the management API where it can, by `rabbitmqctl` else.

A call of `rabbitmqctl` takes 0.65 s and more, for a virtual machine of its own starts each time: leadership can be
handed over in no other way, nor can a node leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.brokers.rabbitmq.management import Management, Replica, leader_of, quorum_path
from harness.errors import Trouble
from harness.system.topology import Node

CTL_S = 60.0
_ASK_S = 1.0
_TRANSFERRED = ("{ok,", "{migrated,", "ok")
"""What the transfer answers once it was accepted: since 4.x, before, and where that replica led already."""


class Membership:
    """Of one quorum queue. `erlang_names`: by a node's name in the topology, what it calls itself."""

    def __init__(
        self,
        management: Management,
        nodes: Mapping[str, Node],
        vhost: str,
        queue: str,
        *,
        replicas: Callable[[], Sequence[Replica]],
        erlang_names: Callable[[], Mapping[str, str]],
    ) -> None:
        self._management = management
        self._nodes = nodes
        self._vhost, self._queue = vhost, queue
        self._ask_replicas = replicas
        self._erlang_names = erlang_names
        self.interrupted = False
        """Whether a node was taken out, and began to count anew."""

    def replicas(self) -> Mapping[str, str]:
        """By the live states; of several that say they lead, only the one of the highest term does."""
        named = {erlang: name for name, erlang in self._erlang_names().items()}
        replicas = self._ask_replicas()
        leader = leader_of(replicas)
        return {
            named.get(one.node, one.node): "deposed" if one.state == "leader" and one is not leader else one.state
            for one in replicas
        }

    def members(self) -> Mapping[str, frozenset[str]]:
        """As the management of each node lists those that run."""
        named = {erlang: name for name, erlang in self._erlang_names().items()}
        told = {}
        for name in self._nodes:
            answer = self._management.ask(name, "GET", "/api/nodes?columns=name,running", within_s=_ASK_S)
            if answer is not None and answer.status == 200 and isinstance(answer.body, list):
                running = (str(each["name"]) for each in answer.body if each.get("running"))
                told[name] = frozenset(named.get(erlang, erlang) for erlang in running)
        return told

    def versions(self) -> Mapping[str, str]:
        """As each node's management declares it."""
        told = {}
        for name in self._nodes:
            answer = self._management.ask(name, "GET", "/api/overview?columns=rabbitmq_version", within_s=_ASK_S)
            if answer is not None and answer.status == 200 and isinstance(answer.body, dict):
                told[name] = str(answer.body.get("rabbitmq_version"))
        return told

    def transfer(self, node: str) -> None:
        """By a call inside the broker, as `rabbitmq-upgrade drain` does it for all queues of a node."""
        resource = f'rabbit_misc:r(<<"{self._vhost}">>, queue, <<"{self._queue}">>)'
        call = f"rabbit_quorum_queue:transfer_leadership(Queue, '{self._erlang(node)}')"
        answer = self._run(node, "rabbitmqctl", "eval", f"{{ok, Queue}} = rabbit_amqqueue:lookup({resource}), {call}.")
        if not answer.startswith(_TRANSFERRED):
            raise Trouble(f"{node} does not take over the leadership of {self._queue!r}: {answer}")

    def remove(self, node: str) -> None:
        """Take its replica away."""
        self._change(node, "DELETE", "delete", "delete_member")

    def add(self, node: str) -> None:
        """Give it a replica, unless it has one."""
        if node not in self.replicas():
            self._change(node, "POST", "add", "add_member")

    def leave(self, node: str) -> None:
        """Its replica goes first, then its application stops, and another node forgets it."""
        self.interrupted = True
        if node in self.replicas():
            self.remove(node)
        self._run(node, "rabbitmqctl", "stop_app")
        self._run(self._other(node), "rabbitmqctl", "forget_cluster_node", self._erlang(node))

    def join(self, node: str) -> None:
        """Empty, with a replica."""
        others = [name for name in self._nodes if name != node]
        listed = self.members()
        if not all(node in listed.get(name, ()) for name in others):
            self._run(node, "rabbitmqctl", "stop_app")
            self._run(node, "rabbitmqctl", "reset")
            self._run(node, "rabbitmqctl", "join_cluster", self._erlang(others[0]))
            self._run(node, "rabbitmqctl", "start_app")
        self.add(node)

    def settle(self, versions: str) -> None:
        """Enable every stable feature flag, and from 4.0 on the metadata store that later versions require (4.3 does
        not start with the older one: "incompatible_feature_flags"), which has to be opted into."""
        node = next(iter(self._nodes))
        self._run(node, "rabbitmqctl", "enable_feature_flag", "all")
        if not self.versions().get(node, "").startswith("3."):
            self._run(node, "rabbitmqctl", "enable_feature_flag", "--opt-in", "khepri_db")

    # ---- how -------------------------------------------------------------------------------------------------------

    def _change(self, node: str, method: str, path: str, command: str) -> None:
        where = f"{quorum_path(self._vhost, self._queue)}/replicas/{path}"
        answer = self._management.ask_any(method, where, {"node": self._erlang(node)})
        if answer.status < 400:
            return
        if answer.status != 405:  # what versions before 4.0 answer, which have no such path
            raise Trouble(f"{method} {where} of {node}: {answer.status} {answer.body}")
        other = self._other(node)
        self._run(other, "rabbitmq-queues", command, "--vhost", self._vhost, self._queue, self._erlang(node))

    def _run(self, node: str, *argv: str) -> str:
        return self._nodes[node].execute(*argv, within_s=CTL_S).strip()

    def _other(self, node: str) -> str:
        return next(name for name in self._nodes if name != node)

    def _erlang(self, node: str) -> str:
        return self._erlang_names()[node]
