"""What does the broker count, exactly and now? The counters of each node that its Prometheus endpoint reads as asked.

Management's figures of a queue lag by seconds and forget what channels did that have ended. These are of a node, over
all its queues since it started; so a cell's share is the difference between two readings, while nobody else is served.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from harness.errors import Trouble

WITHIN_S = 3.0
_PREFIX = "rabbitmq_global_messages_"
_NAMES: Mapping[str, str] = {
    "routed_total": "published",
    "delivered_total": "delivered",
    "acknowledged_total": "acked",
    "redelivered_total": "redelivered",
    "confirmed_total": "confirmed",
    "unroutable_returned_total": "returned",
    "unroutable_dropped_total": "unroutable",
    "dead_lettered_delivery_limit_total": "dropped_by_delivery_limit",
    "dead_lettered_maxlen_total": "dropped_by_max_length",
}


def read_counters(addresses: Mapping[str, tuple[str, int]]) -> Mapping[str, int]:
    """The counters of all nodes together, by our names for them. Raises Trouble where a node does not answer."""
    totals = dict.fromkeys(_NAMES.values(), 0)
    for node, (host, port) in addresses.items():
        for name, value in parse_counters(_get(node, host, port)).items():
            totals[name] += value
    return totals


def parse_counters(text: str) -> Mapping[str, int]:
    """The counters in one node's answer, over all protocols and types of queue.

    >>> parse_counters('rabbitmq_global_messages_routed_total{protocol="amqp091"} 2.0e3')
    {'published': 2000}
    """
    counters: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith(_PREFIX):
            metric, _, value = line.rpartition(" ")
            name = _NAMES.get(metric.partition("{")[0].removeprefix(_PREFIX))
            if name is not None:
                counters[name] = counters.get(name, 0) + int(float(value))
    return counters


def _get(node: str, host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=WITHIN_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Trouble(f"the counters of {node} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Trouble(f"the counters of {node} cannot be read: HTTP {answer.status}")
    return text
