"""Does the proxy's server really do what it was told? A strict layer over toxiproxy-python, and its only importer.

*Server*: one Toxiproxy. *Proxy*: one listening port of it and the way on from there. *Toxic*: one disturbance of the
bytes of one direction. The library ignores failures, takes any attribute and waits for ever; here every status of 400
and above is Trouble, every call has a limit, attributes are closed sets with ranges, and every change is read back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import toxiproxy.proxy
import toxiproxy.server

from harness.engines.calls import Answer, Calls
from harness.engines.toxic import Toxic, letting_go
from harness.errors import Refused, Trouble
from harness.system.topology import Traffic

LIMIT_S = 10.0
_LET_GO_S = 0.01
"""How long a toxic that lets go of everything has to do so, before it is taken away."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")  # goes into URLs and metrics as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyState:
    """One proxy as its server describes it. `toxics`: by name, as raw as the server lists them."""

    enabled: bool
    listen: str
    upstream: str
    toxics: Mapping[str, Mapping[str, object]]


# ---- the library's way to the server ---------------------------------------------------------------------------------

_asked: ContextVar[Calls] = ContextVar("toxiproxy server that is being asked")


class _Dispatch:
    """Stands where the library has one class for all servers: passes each call on to the server that this thread, in
    this moment, asks. Outside of `Server` there is none, and a call fails instead of reaching another's server."""

    @staticmethod
    def get(url: str) -> Answer:
        return _asked.get().request("GET", url)

    @staticmethod
    def post(url: str, json: object = None) -> Answer:
        return _asked.get().request("POST", url, json)

    @staticmethod
    def delete(url: str) -> Answer:
        return _asked.get().request("DELETE", url)


toxiproxy.server.APIConsumer = _Dispatch
toxiproxy.proxy.APIConsumer = _Dispatch


# ---- what the rest of the engines use --------------------------------------------------------------------------------


class Server:
    """One Toxiproxy, by the address of its API. Thread-safe."""

    def __init__(self, host: str, port: int, *, limit_s: float = LIMIT_S) -> None:
        self._calls = Calls("toxiproxy", host, port, limit_s)
        self._library = toxiproxy.server.Toxiproxy()

    @contextmanager
    def asked(self) -> Iterator[toxiproxy.server.Toxiproxy]:
        """The library's object, bound to this server for the body, in this thread."""
        token = _asked.set(self._calls)
        try:
            yield self._library
        finally:
            _asked.reset(token)

    def version(self) -> str:
        """The version that the server declares."""
        return str(self._calls.request("GET", "/version").json()["version"])

    def alive(self, within_s: float = 2.0) -> str | None:
        """None while it answers; else what is wrong."""
        try:
            self._calls.request("GET", "/version", limit_s=within_s)
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
                raise Trouble(f"toxiproxy at {self._calls.where} already has a proxy {name!r}") from error
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
        answer = self._calls.request("GET", "/proxies").json()
        return {name: _state(description) for name, description in answer.items()}

    def proxy(self, name: str) -> ProxyState:
        """One proxy as the server describes it now. Raises Trouble when it has none of that name."""
        return _state(self._calls.request("GET", f"/proxies/{name}").json())

    def traffic(self) -> Mapping[str, Traffic]:
        """Bytes through every proxy that has seen a connection, by name, in one request. Needs `-proxy-metrics`."""
        return parse_traffic(self._calls.request("GET", "/metrics").text)

    def change(self, path: str, body: object) -> None:
        """Change what there is, for which the library has no call."""
        self._calls.request("POST", path, body)

    def close(self) -> None:
        """Close the connections to the server."""
        self._calls.close()


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

    def change(self, toxic: Toxic) -> None:
        """Let a toxic of this kind that is there do otherwise from now on. Raises Trouble when there is none."""
        self.server.change(f"/proxies/{self.name}/toxics/{toxic.name}", {"attributes": dict(toxic.attributes)})
        seen = self.state().toxics.get(toxic.name)
        if not toxic.is_seen_as(seen):
            raise Trouble(f"proxy {self.name!r} was told {toxic} and reads back {seen}")

    def heal(self, keep: Sequence[Toxic] = ()) -> None:
        """Take every toxic away but those to `keep`, which are put back as they were, and listen. Idempotent.

        What can be changed lets go of what it holds first: of a connection whose end has died meanwhile, the server
        would wait 5 s for each piece that it still holds as it takes the toxic away, and answer nobody.
        """
        state = self.state()
        kept = {toxic.name: toxic for toxic in keep}
        wrong = {name for name, seen in state.toxics.items() if name not in kept or not kept[name].is_seen_as(seen)}
        for name in wrong & kept.keys():
            self.change(kept[name])
        frees = {name: letting_go(state.toxics[name]) for name in wrong - kept.keys()}
        if holding := [free for name, free in frees.items() if free is not None and free.name == name]:
            for free in holding:
                self.change(free)
            time.sleep(_LET_GO_S)
        for name in wrong - kept.keys():
            self.remove(name)
        for name in kept.keys() - state.toxics.keys():
            self.add(kept[name])
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
