"""Does the proxy's server really do what it was told? A strict layer over toxiproxy-python, and its only importer.

*Server*: one Toxiproxy. *Proxy*: one listening port of it and the way on from there. *Toxic*: one disturbance of the
bytes of one direction. The library ignores failures, takes any attribute and waits for ever; here every status of 400
and above is Trouble, every call has a limit, attributes are closed sets with ranges, and every change is read back.

Toxicity is always 1 and jitter 0: the server's `--seed` does nothing, so its randomness could not be replayed.
`packet_loss` is not offered: it cuts bytes out of a TCP stream, which is corruption and not loss.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import requests
import toxiproxy.proxy
import toxiproxy.server
from requests.adapters import HTTPAdapter

from harness.errors import Refused, Trouble
from harness.system.topology import Direction, Traffic

LIMIT_S = 10.0
CONNECT_LIMIT_S = 2.0
_NAME = re.compile(r"[A-Za-z0-9._-]+")  # goes into URLs and metrics as it is
_DAY_MS = 86_400_000

# Attributes that a toxic may have, each with its closed range. What randomness needs may only be 0.
_ATTRIBUTES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "latency": {"latency": (0, _DAY_MS), "jitter": (0, 0)},
    "timeout": {"timeout": (0, _DAY_MS)},
    "bandwidth": {"rate": (0, 10_000_000)},
    "limit_data": {"bytes": (0, 1 << 40)},
    "reset_peer": {"timeout": (0, _DAY_MS)},
    "slicer": {"average_size": (1, 1 << 20), "size_variation": (0, 0), "delay": (0, 60_000_000)},
    "slow_close": {"delay": (0, _DAY_MS)},
}


@dataclass(frozen=True, slots=True)
class Toxic:
    """One disturbance of the bytes that flow in `stream`. Refuses unknown types, attributes and values at birth.

    >>> Toxic.latency(50, Direction.DOWN).attributes
    {'latency': 50, 'jitter': 0}
    """

    type: str
    stream: Direction
    attributes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.type not in _ATTRIBUTES:
            raise Refused(f"unknown toxic {self.type!r}", cure=f"use one of {', '.join(_ATTRIBUTES)}")
        ranges = _ATTRIBUTES[self.type]
        if set(self.attributes) != set(ranges):
            given = ", ".join(self.attributes) or "none"
            raise Refused(f"toxic {self.type!r} has the attributes {', '.join(ranges)}, not {given}")
        for name, (low, high) in ranges.items():
            value = self.attributes[name]
            if type(value) is not int or not low <= value <= high:
                raise Refused(f"{name} of toxic {self.type!r} is {value!r}: not a whole number from {low} to {high}")

    @property
    def name(self) -> str:
        """One toxic of each type and direction: "latency_downstream"."""
        return f"{self.type}_{self.stream}"

    def is_seen_as(self, seen: Mapping[str, object] | None) -> bool:
        """Whether this is what a server's description of a toxic says."""
        wanted = {"type": self.type, "stream": str(self.stream), "toxicity": 1, "attributes": dict(self.attributes)}
        return seen is not None and all(seen.get(key) == value for key, value in wanted.items())

    @classmethod
    def latency(cls, latency_ms: int, stream: Direction) -> Toxic:
        """Delay every chunk; taking it away lets go of all that is held, at once."""
        return cls("latency", stream, {"latency": latency_ms, "jitter": 0})

    @classmethod
    def blackhole(cls, stream: Direction) -> Toxic:
        """Drop every byte; connections stay open, and are closed when it is taken away."""
        return cls("timeout", stream, {"timeout": 0})

    @classmethod
    def stall(cls, stream: Direction) -> Toxic:
        """Let nothing through and lose nothing: back-pressure."""
        return cls("bandwidth", stream, {"rate": 0})

    @classmethod
    def bandwidth(cls, rate_kb_per_s: int, stream: Direction) -> Toxic:
        """At most that many thousand bytes a second."""
        return cls("bandwidth", stream, {"rate": rate_kb_per_s})

    @classmethod
    def limit_data(cls, size_bytes: int, stream: Direction) -> Toxic:
        """Close each connection after exactly that many bytes."""
        return cls("limit_data", stream, {"bytes": size_bytes})

    @classmethod
    def reset_peer(cls, after_ms: int, stream: Direction) -> Toxic:
        """Reset connections that are opened from now on; those that live get FIN with their next bytes."""
        return cls("reset_peer", stream, {"timeout": after_ms})

    @classmethod
    def slicer(cls, size_bytes: int, delay_us: int, stream: Direction) -> Toxic:
        """Cut chunks into pieces of about that size (by halving: the same every time), with a delay between them."""
        return cls("slicer", stream, {"average_size": size_bytes, "size_variation": 0, "delay": delay_us})

    @classmethod
    def slow_close(cls, delay_ms: int, stream: Direction) -> Toxic:
        """Hold back the end of a connection for that long."""
        return cls("slow_close", stream, {"delay": delay_ms})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyState:
    """One proxy as its server describes it. `toxics`: by name, as raw as the server lists them."""

    enabled: bool
    listen: str
    upstream: str
    toxics: Mapping[str, Mapping[str, object]]


# ---- the library's way to the server ---------------------------------------------------------------------------------


class _Consumer:
    """HTTP to one server: one session, limits, and no status of 400 or above that goes unnoticed."""

    def __init__(self, host: str, port: int, limit_s: float) -> None:
        self.where = f"{host}:{port}"
        self.limit_s = limit_s
        self.session = requests.Session()
        self.session.trust_env = False  # a proxy of the user's environment is not for 127.0.0.1
        self.session.mount("http://", HTTPAdapter(pool_maxsize=8, max_retries=0))

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Ask the server. Raises Trouble when it does not answer, or answers that it failed."""
        options.setdefault("timeout", (CONNECT_LIMIT_S, self.limit_s))
        try:
            answer = self.session.request(method, f"http://{self.where}{url}", allow_redirects=False, **options)
        except requests.RequestException as error:
            raise Trouble(f"toxiproxy at {self.where} did not answer {method} {url}: {error}") from error
        if answer.status_code >= 400:
            raise Trouble(f"toxiproxy at {self.where} answered {answer.status_code} to {method} {url}: {_told(answer)}")
        return answer


def _told(answer: requests.Response) -> str:
    try:
        return str(json.loads(answer.text)["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500]


_asked: ContextVar[_Consumer] = ContextVar("toxiproxy server that is being asked")


class _Dispatch:
    """Stands where the library has one class for all servers: passes each call on to the server that this thread, in
    this moment, asks. Outside of `Server` there is none, and a call fails instead of reaching another's server."""

    @staticmethod
    def get(url: str, params: object = None, **options: Any) -> requests.Response:
        return _asked.get().request("GET", url, params=params, **options)

    @staticmethod
    def post(url: str, data: object = None, json: object = None, **options: Any) -> requests.Response:
        return _asked.get().request("POST", url, data=data, json=json, **options)

    @staticmethod
    def delete(url: str, **options: Any) -> requests.Response:
        return _asked.get().request("DELETE", url, **options)


toxiproxy.server.APIConsumer = _Dispatch
toxiproxy.proxy.APIConsumer = _Dispatch


# ---- what the rest of the engines use --------------------------------------------------------------------------------


class Server:
    """One Toxiproxy, by the address of its API. Thread-safe."""

    def __init__(self, host: str, port: int, *, limit_s: float = LIMIT_S) -> None:
        self._consumer = _Consumer(host, port, limit_s)
        self._library = toxiproxy.server.Toxiproxy()

    @contextmanager
    def asked(self) -> Iterator[toxiproxy.server.Toxiproxy]:
        """The library's object, bound to this server for the body, in this thread."""
        token = _asked.set(self._consumer)
        try:
            yield self._library
        finally:
            _asked.reset(token)

    def version(self) -> str:
        """The version that the server declares."""
        return str(self._consumer.request("GET", "/version").json()["version"])

    def alive(self, within_s: float = 2.0) -> str | None:
        """None while it answers; else what is wrong."""
        try:
            self._consumer.request("GET", "/version", timeout=(CONNECT_LIMIT_S, within_s))
        except Trouble as trouble:
            return trouble.message
        return None

    def create(self, name: str, *, listen: str, upstream: str) -> Proxy:
        """A new proxy, listening and without toxics. Raises Trouble when its name or its port is taken."""
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} cannot name a proxy", cure="use letters, digits, dots, underscores and hyphens")
        with self.asked() as library:
            try:
                library.create(upstream=upstream, name=name, listen=listen, enabled=True)
            except toxiproxy.exceptions.ProxyExists as error:
                raise Trouble(f"toxiproxy at {self._consumer.where} already has a proxy {name!r}") from error
        proxy = Proxy(self, name)
        state = proxy.state()
        if not state.enabled or state.toxics or state.upstream != upstream:
            raise Trouble(f"proxy {name!r} to {upstream} was created and reads back as {state}")
        return proxy

    def delete(self, name: str) -> None:
        """Delete a proxy, with its connections. Raises Trouble when there is none of that name."""
        Proxy(self, name).delete()

    def proxies(self) -> Mapping[str, ProxyState]:
        """Every proxy by name, in one request."""
        answer = self._consumer.request("GET", "/proxies").json()
        return {name: _state(description) for name, description in answer.items()}

    def proxy(self, name: str) -> ProxyState:
        """One proxy as the server describes it now. Raises Trouble when it has none of that name."""
        return _state(self._consumer.request("GET", f"/proxies/{name}").json())

    def traffic(self) -> Mapping[str, Traffic]:
        """Bytes through every proxy that has seen a connection, by name, in one request. Needs `-proxy-metrics`."""
        return parse_traffic(self._consumer.request("GET", "/metrics").text)

    def close(self) -> None:
        """Close the connections to the server."""
        self._consumer.session.close()


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy of a server. Each change returns after it was read back; else it raises Trouble."""

    server: Server
    name: str

    def state(self) -> ProxyState:
        """What the server says of it now."""
        return self.server.proxy(self.name)

    def enable(self) -> None:
        """Listen again."""
        self._switch(True)

    def disable(self) -> None:
        """Stop listening and end every connection; bytes on their way are lost."""
        self._switch(False)

    def add(self, toxic: Toxic) -> None:
        """Disturb the bytes of one direction, on every connection, old and new."""
        with self._asked() as library:
            library.add_toxic(
                type=toxic.type,
                stream=str(toxic.stream),
                name=toxic.name,
                toxicity=1.0,
                attributes=dict(toxic.attributes),
            )
        seen = self.state().toxics.get(toxic.name)
        if not toxic.is_seen_as(seen):
            raise Trouble(f"proxy {self.name!r} was told {toxic} and reads back {seen}")

    def remove(self, toxic_name: str) -> None:
        """Take a toxic away. Raises Trouble when it has none of that name."""
        with self._asked() as library:
            library.destroy_toxic(toxic_name)
        if toxic_name in self.state().toxics:
            raise Trouble(f"proxy {self.name!r} still has the toxic {toxic_name!r} that was taken away")

    def heal(self, keep: Sequence[Toxic] = ()) -> None:
        """Take every toxic away but those to `keep`, which are put back as they were, and listen. Idempotent."""
        state = self.state()
        kept = {toxic.name: toxic for toxic in keep}
        for name, seen in state.toxics.items():
            if name not in kept or not kept[name].is_seen_as(seen):
                self.remove(name)
        for name, toxic in kept.items():
            if not toxic.is_seen_as(state.toxics.get(name)):
                self.add(toxic)
        if not state.enabled:
            self.enable()
        if disturbance := disturbances(self.state(), keep):
            raise Trouble(f"proxy {self.name!r} was healed and reads back {disturbance}")

    def delete(self) -> None:
        """Remove it, with its connections."""
        with self._asked() as library:
            library.destroy()

    def _switch(self, enabled: bool) -> None:
        with self._asked() as library:
            (library.enable if enabled else library.disable)()
        if self.state().enabled is not enabled:
            raise Trouble(f"proxy {self.name!r} was told enabled={enabled} and reads back the contrary")

    @contextmanager
    def _asked(self) -> Iterator[toxiproxy.proxy.Proxy]:
        with self.server.asked():
            yield toxiproxy.proxy.Proxy(name=self.name, upstream="", enabled=True, listen="")


def disturbances(state: ProxyState, keep: Sequence[Toxic] = ()) -> Mapping[str, object]:
    """What is wrong with a proxy: `{}` if it is enabled and has just the toxics to `keep`."""
    wrong: dict[str, object] = dict(state.toxics)
    for toxic in keep:
        if toxic.is_seen_as(state.toxics.get(toxic.name)):
            del wrong[toxic.name]
        else:
            wrong.setdefault(toxic.name, "missing")
    if not state.enabled:
        wrong["enabled"] = False
    return wrong


def _state(description: Mapping[str, Any]) -> ProxyState:
    toxics = cast("list[dict[str, object]]", description["toxics"] or [])
    return ProxyState(
        enabled=bool(description["enabled"]),
        listen=str(description["listen"]),
        upstream=str(description["upstream"]),
        toxics={str(toxic["name"]): toxic for toxic in toxics},
    )


_SAMPLE = re.compile(r"^toxiproxy_proxy_(received|sent)_bytes_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def parse_traffic(metrics: str) -> Mapping[str, Traffic]:
    """Traffic by proxy, from the server's page of metrics (the Prometheus text format; two of its lines are ours)."""
    counts: dict[str, dict[tuple[str, str], int]] = {}
    for kind, labels, value in _SAMPLE.findall(metrics):
        label = dict(_LABEL.findall(labels))
        key = (label["direction"], kind)
        of_proxy = counts.setdefault(label["proxy"], {})
        of_proxy[key] = of_proxy.get(key, 0) + int(float(value))
    return {
        name: Traffic(
            up_received=count.get(("upstream", "received"), 0),
            up_sent=count.get(("upstream", "sent"), 0),
            down_received=count.get(("downstream", "received"), 0),
            down_sent=count.get(("downstream", "sent"), 0),
        )
        for name, count in counts.items()
    }
