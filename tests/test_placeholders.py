"""Is every `<<...>>` of a spec filled in, for the node it belongs to, and is what means nothing refused?"""

from __future__ import annotations

import pytest

from harness.engines.placeholders import Site, render, render_spec
from harness.errors import Refused
from harness.system.topology import NodeSpec

SITES = {
    "nats-1": Site(
        listen_host="0.0.0.0",
        host="nats-1",
        ports={"client": 4222, "cluster": 6222},
        data="/data",
        files={"/etc/nats/nats-server.conf": "/here/nats-server.conf"},
    ),
    "nats-2": Site(listen_host="127.0.0.1", host="10.0.0.2", ports={"client": 15001}, data="/d2", files={}),
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("<<listen:client>>", "0.0.0.0:4222"),
        ("<<listen_host>>", "0.0.0.0"),
        ("<<port:client>>", "4222"),
        ("<<address:nats-2:client>>", "10.0.0.2:15001"),
        ("<<address:nats-1:cluster>>", "nats-1:6222"),
        ("<<host:nats-2>>", "10.0.0.2"),
        ("<<port:nats-2:client>>", "15001"),
        ("<<data>>/js", "/data/js"),
        ("-c <<file:/etc/nats/nats-server.conf>>", "-c /here/nats-server.conf"),
        ("<<file:nats-server.conf>>", "/here/nats-server.conf"),
        ("<<port:client>> <<port:cluster>>", "4222 6222"),
        ('{default_user, <<"guest">>}', '{default_user, <<"guest">>}'),  # an Erlang binary
        ("nothing << here >>", "nothing << here >>"),
    ],
)
def test_filled_in(text: str, rendered: str) -> None:
    assert render(text, "nats-1", SITES) == rendered


def test_a_way_of_its_own_to_another_node_is_that_nodes_port() -> None:
    ways = {("nats-1", "client"): 16001, ("nats-2", "client"): 9}
    site = Site(listen_host="127.0.0.1", host="h", ports={"client": 1}, data="", files={}, ways=ways)
    text = "<<address:nats-2:client>> <<port:nats-2:client>> <<port:client>>"
    assert render(text, "nats-1", {**SITES, "nats-2": site}) == "h:16001 16001 4222"
    assert render(text, "nats-2", {**SITES, "nats-2": site}) == "h:9 9 1"
    assert render(text, "nats-3", {**SITES, "nats-2": site, "nats-3": SITES["nats-1"]}) == "h:1 1 4222"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<<port:clinet>>", "unknown service 'clinet'.*did you mean 'client'"),
        ("<<address:nats-3:client>>", "unknown node 'nats-3'.*did you mean"),
        ("<<address:nats-2:cluster>>", "unknown service 'cluster'.*use one of client"),
        ("<<lisen:client>>", "no placeholder.*<<listen:SERVICE>>"),
        ("<<data:x>>", "no placeholder"),
        ("<<listen>>", "no placeholder"),
        ("<<file:other.conf>>", "unknown file 'other.conf'"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(Refused, match=f"(?s){says}"):
        render(text, "nats-1", SITES)


def test_a_spec_is_rendered_in_its_files_environment_and_arguments() -> None:
    spec = NodeSpec(
        name="nats-1",
        program="nats",
        services={"client": 4222, "cluster": 6222},
        files={"/etc/nats/nats-server.conf": "listen: <<listen:client>>"},
        environment={"PEER": "<<host:nats-2>>"},
        arguments=("--config", "<<file:nats-server.conf>>"),
    )
    rendered = render_spec(spec, SITES)
    assert rendered.files == {"/here/nats-server.conf": "listen: 0.0.0.0:4222"}
    assert rendered.environment == {"PEER": "10.0.0.2"}
    assert rendered.arguments == ("--config", "/here/nats-server.conf")
