"""What stands where a NodeSpec says `<<...>>`? The vocabulary is in harness.system.topology.

*Site*: where one node is, in one engine. *Rendered*: a spec's texts with every placeholder filled in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from harness.errors import Refused
from harness.system.topology import NodeSpec

_PLACEHOLDER = re.compile(r'<<([a-z_]+)((?::[^<>:"\s]+)*)>>')  # an Erlang binary, <<"text">>, is none
_FORMS = {
    ("listen", 1): "<<listen:SERVICE>>",
    ("listen_host", 0): "<<listen_host>>",
    ("port", 1): "<<port:SERVICE>>",
    ("address", 2): "<<address:NODE:SERVICE>>",
    ("host", 1): "<<host:NODE>>",
    ("port", 2): "<<port:NODE:SERVICE>>",
    ("data", 0): "<<data>>",
    ("file", 1): "<<file:NAME>>",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one node is: what it listens on, where the other nodes reach it, where its data and files are.

    `ports`: service -> the port, the same on both sides, unless `ways` has another one for a node that wants to reach
    it: (that node, service) -> the port of the way there. `files`: key of the spec's `files` -> the path it has here.
    """

    listen_host: str
    host: str
    ports: Mapping[str, int]
    data: str
    files: Mapping[str, str]
    ways: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A spec's texts as the node gets them; `files` by the path that they have here."""

    files: Mapping[str, str]
    environment: Mapping[str, str]
    arguments: tuple[str, ...]


def render(text: str, node: str, sites: Mapping[str, Site]) -> str:
    """Fill in every placeholder of `text`, which belongs to `node`. Raises Refused for one that means nothing.

    >>> site = Site(listen_host="0.0.0.0", host="nats-1", ports={"client": 4222}, data="/data", files={})
    >>> render("listen: <<listen:client>>, dir: <<data>>", "nats-1", {"nats-1": site})
    'listen: 0.0.0.0:4222, dir: /data'
    """
    own = sites[node]

    def fill(match: re.Match[str]) -> str:
        word, words = match[1], match[2].split(":")[1:]

        def refused(what: str, given: str, known: Mapping[str, object]) -> Refused:
            near = difflib.get_close_matches(given, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(sorted(known)) or 'none'}"
            return Refused(f"{match[0]} of node {node!r}: unknown {what} {given!r}", cure=meant)

        if (word, len(words)) not in _FORMS:
            raise Refused(f"{match[0]} of node {node!r} is no placeholder", cure=f"use {', '.join(_FORMS.values())}")
        if word == "listen_host":
            return own.listen_host
        if word == "data":
            return own.data
        if word == "file":
            by_name = {**{PurePosixPath(key).name: path for key, path in own.files.items()}, **own.files}
            if words[0] not in by_name:
                raise refused("file", words[0], by_name)
            return by_name[words[0]]
        site = own
        if word == "host" or len(words) == 2:
            if words[0] not in sites:
                raise refused("node", words[0], sites)
            site = sites[words[0]]
        if word == "host":
            return site.host
        if words[-1] not in site.ports:
            raise refused("service", words[-1], site.ports)
        port = site.ports[words[-1]]
        if len(words) == 2:
            port = site.ways.get((node, words[1]), port)
        if word == "port":
            return str(port)
        return f"{own.listen_host if word == 'listen' else site.host}:{port}"

    return _PLACEHOLDER.sub(fill, text)


def render_spec(spec: NodeSpec, sites: Mapping[str, Site]) -> Rendered:
    """All texts of `spec`, for its site among `sites`."""
    own = sites[spec.name]
    return Rendered(
        files={own.files[key]: render(text, spec.name, sites) for key, text in spec.files.items()},
        environment={key: render(text, spec.name, sites) for key, text in spec.environment.items()},
        arguments=tuple(render(text, spec.name, sites) for text in spec.arguments),
    )
