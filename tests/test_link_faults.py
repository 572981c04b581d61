"""Do the faults that shape links, end connections and delay ends say so, and no more than they did? Whole runs on the
memory broker: as each fault is, disarmed, and where something else happens than was asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.brokers.memory.configuration import Memory
from harness.engines.link import ProxyLink
from harness.errors import Refused
from harness.faults.ends import CutAfter, ResetNew, probe
from harness.faults.fault import Fault
from harness.faults.flapping import Flapping
from harness.faults.late_end import SlowClose
from harness.faults.throughput import Bandwidth, Fragment
from harness.guarantee import Status
from harness.history.terms import InjectionTerms
from harness.operation import Role
from harness.plain import from_plain, to_plain
from harness.run import Run
from harness.scenario.matrix import inapplicable
from harness.scenario.scenario import Scenario
from harness.scenario.schedule import Repeat
from harness.scenario.workload import Steady
from harness.system.sockets import sockets
from harness.system.topology import Direction, Link
from tests.runs import run_cell

CONFIRMED = Memory("confirmed")
UNCONFIRMED = Memory("unconfirmed", confirms=False, acknowledge="automatic")

Disarm = Callable[[pytest.MonkeyPatch], None]


def without(*verbs: str) -> Disarm:
    """These verbs of links do nothing."""

    def disarm(patch: pytest.MonkeyPatch) -> None:
        for verb in verbs:
            patch.setattr(ProxyLink, verb, lambda *_, **__: None)

    return disarm


FAULTS: dict[str, tuple[Fault, Memory, Disarm]] = {
    "bandwidth": (Bandwidth(), CONFIRMED, without("limit")),
    "bandwidth of producers": (Bandwidth(Role.PRODUCER), CONFIRMED, without("limit")),
    "bandwidth of producers that nobody answers": (Bandwidth(Role.PRODUCER), UNCONFIRMED, without("limit")),
    "bandwidth of consumers": (Bandwidth(Role.CONSUMER), CONFIRMED, without("limit")),
    "fragments": (Fragment(), CONFIRMED, without("fragment")),
    "fragments to producers": (Fragment(Role.PRODUCER), CONFIRMED, without("fragment")),
    "fragments to consumers": (Fragment(Role.CONSUMER), UNCONFIRMED, without("fragment")),
    "cut of what is sent": (CutAfter(), CONFIRMED, without("cut_after")),
    "cut of what is sent where little is": (CutAfter(), UNCONFIRMED, without("cut_after")),
    "cut of what consumers are sent": (
        CutAfter(Role.CONSUMER, direction=Direction.DOWN),
        CONFIRMED,
        without("cut_after"),
    ),
    "resets": (ResetNew(), CONFIRMED, without("reset_new")),
    "resets of producers that nobody answers": (ResetNew(Role.PRODUCER), UNCONFIRMED, without("reset_new")),
    "flapping": (Flapping(), CONFIRMED, without("disconnect")),
    "late end of a consumer": (SlowClose(), CONFIRMED, without("slow_close")),
    "late end of a producer": (SlowClose(Role.PRODUCER), UNCONFIRMED, without("slow_close")),
}


def injected(fault: Fault, configuration: Memory, directory: Path) -> tuple[InjectionTerms, Run]:
    scenario = Scenario(
        configuration=configuration,
        schedule=Repeat(fault),
        workload=Steady(rate_hz=500, quiet_s=0.4, producers=2, consumers=2),
    )
    run = run_cell(scenario, directory)
    (injection,) = run.history.terms.injections
    return injection, run


def facts_of(injection: InjectionTerms) -> dict[str, Any]:
    return dict(cast("dict[str, Any]", injection.facts))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_armed_bites(fault: str, tmp_path: Path) -> None:
    value, configuration, _ = FAULTS[fault]
    injection, run = injected(value, configuration, tmp_path / "run")
    assert injection.why_not is None, facts_of(injection)
    assert injection.bit_ns is not None
    assert injection.recovered_ns is not None, run.judgement.trial


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_disarmed_did_not_bite_and_nothing_is_held(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, configuration, disarm = FAULTS[fault]
    disarm(monkeypatch)
    injection, run = injected(value, configuration, tmp_path / "run")
    assert injection.bit_ns is None, facts_of(injection)
    assert injection.why_not
    assert Status.HELD not in {verdict.status for verdict in run.judgement.verdicts.values()}


# ---- something else happened than was asked for ----------------------------------------------------------------------


def test_a_limit_that_nothing_comes_near_is_no_evidence(tmp_path: Path) -> None:
    injection, _ = injected(Bandwidth(rate_kb_per_s=1000), CONFIRMED, tmp_path / "run")
    assert injection.bit_ns is None
    assert "too little was offered" in (injection.why_not or "")


def test_a_stall_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProxyLink, "limit", lambda self, _, direction: self.stall(direction))
    # Not for long: a broker gives a silent client up, and what waits for it then is let go at 5 s a piece (2.12).
    injection, _ = injected(Bandwidth(hold_s=0.4), CONFIRMED, tmp_path / "run")
    assert injection.bit_ns is None
    assert "something else held it up" in (injection.why_not or "")


def test_pieces_larger_than_asked_for_are_no_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fragment = ProxyLink.fragment
    monkeypatch.setattr(ProxyLink, "fragment", lambda self, _, direction: fragment(self, 64, direction))
    injection, _ = injected(Fragment(Role.CONSUMER), CONFIRMED, tmp_path / "run")
    assert injection.bit_ns is None
    assert "not 16" in (injection.why_not or "")


def test_a_cut_at_another_byte_is_no_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_after = ProxyLink.cut_after
    monkeypatch.setattr(ProxyLink, "cut_after", lambda self, size, way: cut_after(self, size - 1, way))
    injection, _ = injected(CutAfter(), CONFIRMED, tmp_path / "run")
    assert injection.bit_ns is None
    assert "no multiple of 2048" in (injection.why_not or "")


def test_connections_that_only_end_were_not_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProxyLink, "reset_new", ProxyLink.disconnect)
    injection, _ = injected(ResetNew(), CONFIRMED, tmp_path / "run")
    assert injection.bit_ns is None
    assert "was refused" in (injection.why_not or "")


def test_links_that_went_down_and_stayed_so_did_not_flap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.faults.flapping.on_each", _unhealed)
    injection, _ = injected(Flapping(), CONFIRMED, tmp_path / "run")
    assert injection.bit_ns is None
    assert injection.why_not


def _unhealed(links: list[ProxyLink], verb: Callable[[ProxyLink], None]) -> None:
    """Every link goes down; none comes up."""
    for link in links:
        link.disconnect()


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bandwidth(rate_kb_per_s=0),
        lambda: Bandwidth(Role.LEADER),
        lambda: Fragment(size_bytes=0),
        lambda: Fragment(Role.LEADER),
        lambda: CutAfter(size_bytes=0),
        lambda: CutAfter(size_bytes=255),
        lambda: CutAfter(Role.ANY_NODE),
        lambda: ResetNew(Role.FOLLOWER),
        lambda: Flapping(period_ms=2000, hold_s=2.0),
        lambda: Flapping(Role.LEADER),
        lambda: SlowClose(Role.BOTH),
        lambda: SlowClose(delay_ms=0),
        lambda: SlowClose(delay_ms=500, hold_s=0.5),
    ],
)
def test_what_means_nothing_is_refused_at_birth_with_a_cure(make: Callable[[], object]) -> None:
    with pytest.raises(Refused) as refused:
        make()
    assert refused.value.cure


@pytest.mark.parametrize(
    "fault",
    [
        Bandwidth(Role.CONSUMER, rate_kb_per_s=5),
        Fragment(Role.PRODUCER),
        CutAfter(size_bytes=256, direction=Direction.DOWN),
        ResetNew(),
        Flapping(hold_s=3.0),
        SlowClose(Role.PRODUCER, delay_ms=3000),
    ],
    ids=lambda fault: fault.name,
)
def test_its_json_reads_back_to_the_same_fault(fault: Fault) -> None:
    assert from_plain(type(fault), to_plain(fault)) == fault


def test_what_nobody_says_can_be_neither_cut_nor_fragmented() -> None:
    for fault in (
        CutAfter(Role.CONSUMER),
        CutAfter(Role.PRODUCER, direction=Direction.DOWN),
        Fragment(Role.PRODUCER),
    ):
        assert inapplicable(UNCONFIRMED, fault, processed=False), fault
        assert inapplicable(CONFIRMED, fault, processed=False) is None
    assert inapplicable(UNCONFIRMED, CutAfter(), processed=False) is None


# ---- what the kernel counts ------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def to(listener: socket.socket) -> Link:
    return cast(Link, SimpleNamespace(slot="producer-1", node="m1", address=listener.getsockname()))


def test_the_kernel_counts_what_a_client_wrote_and_received_also_where_nobody_reads_it(
    listener: socket.socket,
) -> None:
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            server.sendall(b"x" * 10)
            client.recv(10)
        client.setblocking(False)
        written = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                written += client.send(b"y" * 65_536)
        seen = sockets([to(listener)])["producer-1", "m1"]
        assert (seen.port, seen.received, seen.segments) == (client.getsockname()[1], 100, 10)
        assert written <= seen.sent <= written + 1  # the kernel counts the SYN, too


def test_a_link_without_a_connection_has_no_socket(listener: socket.socket) -> None:
    assert sockets([to(listener)]) == {}


@pytest.mark.parametrize(
    ("becomes", "seen"),
    [("reset", "reset"), ("ended", "ended"), ("answered", "answered"), ("silent", "silent"), ("refused", "refused")],
)
def test_a_probe_says_what_became_of_it(
    becomes: str, seen: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.faults.ends._PROBE_LIMIT_S", 0.2)
    over = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(16)
            if becomes == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            elif becomes == "answered":
                peer.sendall(b"INFO\r\n")
            if becomes in ("answered", "silent"):
                over.wait(2)

    link = to(listener)
    if becomes == "refused":
        listener.close()
    else:
        threading.Thread(target=serve, daemon=True).start()
    try:
        assert probe(link) == seen
    finally:
        over.set()


@pytest.mark.parametrize(
    ("usual", "size", "segments", "bites"),
    [
        (24.0, 2000, 125, True),  # of 16 bytes each, and 24 before
        (24.0, 2400, 100, False),  # as large as before
        (643.0, 136_572, 6209, True),  # of 22 bytes: a busy kernel put some together, and they were large before
        (643.0, 130_000, 1000, False),  # of 130 bytes: less than before, and no pieces
        (18.0, 2000, 125, False),  # too small before to tell
    ],
)
def test_pieces_are_what_was_asked_or_a_small_part_of_what_came_before(
    usual: float, size: int, segments: int, bites: bool
) -> None:
    assert (Fragment(size_bytes=16)._why_not({"consumer-1.1": (usual, size, segments)}, []) is None) is bites
