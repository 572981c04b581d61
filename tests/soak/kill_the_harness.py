"""What is left on this machine when the harness is killed at a random moment, and Assay is started again?

    .venv/bin/python tests/soak/kill_the_harness.py --kills 40 --seed 7
    .venv/bin/python tests/soak/kill_the_harness.py --kills 40 --seed 7 --signal TERM

Runs cells of the control suite, one or two of each family of faults, each as a session of its own with directories of
its own for its state and for temporary files; waits until its run has begun, and ends it somewhere between that and the
end of its cell. Then it looks for everything that a run makes: containers, networks, volumes (anonymous ones, too),
cgroups of containers that are gone, loop devices, mounts, processes (frozen ones, too), directories, images of disks,
ledgers. Rules that keep nodes apart need no look: they are in network namespaces, which go with their containers.

KILL: clients end by themselves, within five seconds, but for those that stand still and so cannot see that their
harness has gone. Then the next start sweeps, by the ledger, and after that by labels: nothing may be left after the
first, and the second must find nothing to undo. INT, TERM: nothing may be left before any sweep.

Prints a line a kill, and the count of what was left. Exit code 1 if anything was, if a client was late, or if none of
the sessions was ended in its run. A kill takes half a minute: the start of a session, its cell, and two sweeps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
from harness.ledger import MARK, started_ticks

ROOT = Path(__file__).parents[2]
OWNER_LABEL = "assay.owner"
CLIENTS_WITHIN_S = 5.0
BEGINS_WITHIN_S = 120.0
ENDS_WITHIN_S = 90.0
SHARED = ("sweep.lock",)
"""Files of the state directory that no session takes away."""

CELLS = (
    # (configuration, fault, seconds of the cell): one or two of each family
    ("nats-control-r1", "stall_clients", 8.0),
    ("nats-control-r3", "isolate_leader", 12.0),
    ("nats-control-r1", "pause_leader", 9.0),
    ("rabbitmq-control-classic", "consumer_acknowledgement_loss", 14.0),
    ("nats-control-r1", "kill_consumer", 8.0),
    ("rabbitmq-control-quorum", "isolate_leader", 25.0),
    ("nats-control-r1", "random_links_and_clients", 10.0),
    ("nats-control-r1", "power_loss_leader", 10.0),
    ("nats-control-r3", "power_loss_all_nodes", 16.0),
    ("nats-control-r1", "disk_full_leader", 12.0),
    ("nats-control-r1", "out_of_memory_leader", 10.0),
    ("rabbitmq-control-classic", "clock_forwards_leader", 14.0),
    ("nats-control-r3-2-12", "rolling_upgrade", 20.0),
    ("nats-control-r3", "replica_removed_follower", 12.0),
    ("nats-control-r1", "pause_consumer", 12.0),
    ("nats-control-r3", "kill_leader_with_kill_leader_after_election", 16.0),
    ("nats-control-r3", "rolling_stop", 15.0),
    ("nats-control-r1", "crash_loop_leader", 10.0),
    ("nats-control-r5", "ring", 14.0),
    ("nats-control-r1", "flapping_clients", 8.0),
    ("nats-control-r1", "jetstream_file_limit", 10.0),
    ("nats-control-r3", "follower_leaves", 16.0),
    ("nats-control-r3", "route_latency_leader", 12.0),
    ("rabbitmq-control-classic", "clock_fast_leader", 14.0),
    ("rabbitmq-control-classic", "memory_alarm_leader", 14.0),
    ("nats-control-r1", "flip_bits_leader", 10.0),
    ("nats-control-r1-sync", "slow_disk_leader", 10.0),
    ("nats-control-r1", "kill_leader_while_5_held", 8.0),
    ("nats-control-r1", "slow_close_consumer", 8.0),
    ("rabbitmq-control-classic", "cut_after_up_clients", 12.0),
)


@dataclass(frozen=True)
class Kill:
    """One session that was ended. `left`: what was still there though it should not be, one line each."""

    cell: str
    after_s: float
    phase: str
    in_time: bool
    clients_s: float
    left: tuple[str, ...]


@dataclass
class Session:
    """Where one session's things are, and how they are known: `owner` is the beginning of its label."""

    directory: Path
    owner: str = ""
    marks: set[str] = field(default_factory=set)
    cgroups: frozenset[str] = frozenset()

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def temporary(self) -> Path:
        return self.directory / "tmp"

    @property
    def reports(self) -> Path:
        return self.directory / "reports"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ASSAY_STATE": str(self.state), "TMPDIR": str(self.temporary)}

    def note_marks(self) -> None:
        """Keep the marks of all processes that its ledgers name by now, also of those that were struck."""
        for path in self.state.glob("ledger/*.jsonl"):
            try:
                self.marks |= marks_in(path.read_text(errors="replace"))
            except FileNotFoundError:  # it has just struck its last entry
                continue


# ---- what there is ---------------------------------------------------------------------------------------------------


def marks_in(ledger: str) -> set[str]:
    """The marks of processes in the text of a ledger."""
    return set(re.findall(r'"mark": "(\w+)"', ledger))


def is_ours(environment: bytes, state: Path, marks: Iterable[str]) -> bool:
    """Whether a process with this environment is of the session with this state directory, or carries such a mark: what
    an engine of local processes starts has an environment of its own, with nothing but its mark."""
    wanted = {f"ASSAY_STATE={state}".encode(), *(f"{MARK}={mark}".encode() for mark in marks)}
    return not wanted.isdisjoint(environment.split(b"\0"))


def state_in(stat: str) -> str:
    """The letter of a process's state in the text of its /proc/PID/stat."""
    return stat.rpartition(")")[2].split()[0]


def orphans(before: Iterable[str], now: Iterable[str], living: Iterable[str]) -> set[str]:
    """Ids of the cgroups that have come since and whose container is not there any more."""
    return set(now) - set(before) - set(living)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile
        return b""


def processes(session: Session) -> list[int]:
    """Pids of everything that the session started, frozen or not, zombies aside."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = (pid for pid in pids if is_ours(read(Path(f"/proc/{pid}/environ")), session.state, session.marks))
    return [pid for pid in found if pid != os.getpid()]


def command_line(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace")


def stands_still(pid: int) -> bool:
    """Whether a process is stopped: it cannot see its pipe close, and the sweep ends it."""
    stat = read(Path(f"/proc/{pid}/stat")).decode(errors="replace")
    return bool(stat) and state_in(stat) in "Tt"


def cgroups() -> frozenset[str]:
    """Ids of all containers that have a cgroup in any hierarchy, also one below another's."""
    root = Path("/sys/fs/cgroup")
    places = [
        place for pattern in ("docker/*", "docker/*/*", "*/docker/*", "*/docker/*/*") for place in root.glob(pattern)
    ]
    return frozenset(place.name for place in places if re.fullmatch("[0-9a-f]{64}", place.name))


def left_over(session: Session, client: docker.DockerClient | None) -> Iterator[str]:
    """Everything of a session that is still here."""
    if client is not None:
        yield from left_in_engine(session, client)
    for pid in processes(session):
        yield f"process {pid} {command_line(pid)[:80]}"
    told = {path.parts[3]: read(path).decode().rstrip() for path in Path("/sys/block").glob("loop*/loop/backing_file")}
    devices = {f"/dev/{device}": file for device, file in told.items() if str(session.state) in file}
    yield from (f"loop device {device} of {file}" for device, file in devices.items())
    for line in Path("/proc/mounts").read_text().splitlines():
        if str(session.state) in line or any(line.startswith(f"{device} ") for device in devices):
            yield f"mount {line}"
    # The directories themselves are this script's: what is in them must be gone, but for what sessions share.
    for path in sorted(session.state.rglob("*")):
        if path.is_file() and path.name not in SHARED:
            yield f"file {path}"
    yield from (f"temporary {path}" for path in sorted(session.temporary.glob("assay-*")))


def left_in_engine(session: Session, client: docker.DockerClient) -> Iterator[str]:
    for kind, listed in (
        ("container", client.api.containers(all=True, filters={"label": OWNER_LABEL})),
        ("network", client.api.networks(filters={"label": OWNER_LABEL})),
        ("volume", client.api.volumes(filters={"label": OWNER_LABEL})["Volumes"] or []),
    ):
        for one in listed:
            if (one.get("Labels") or {}).get(OWNER_LABEL, "").startswith(session.owner):
                yield f"{kind} {one.get('Name') or one.get('Names') or one.get('Id')}"
    now = cgroups()  # before the containers are listed, so that one which ends meanwhile is no orphan
    living = [one["Id"] for one in client.api.containers(all=True)]
    for identity in sorted(orphans(session.cgroups, now, living) & cgroups()):
        yield f"cgroup of a container that is gone, {identity}"


# ---- one kill --------------------------------------------------------------------------------------------------------


def phase_of(reports: Path) -> str | None:
    """The phase of the session's run; None before the first."""
    for path in reports.glob("*/runs/*/progress.json"):
        try:
            return str(json.loads(path.read_text())["phase"])
        except (OSError, ValueError, KeyError):  # it is being written
            return "?"
    return None


def assay(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli.main", *arguments]


def sweep(session: Session, *how: str) -> subprocess.CompletedProcess[str]:
    command = assay("sweep", *how)
    return subprocess.run(command, cwd=ROOT, env=session.environment(), capture_output=True, text=True)


def complaints(swept: subprocess.CompletedProcess[str]) -> list[str]:
    """What a sweep could not do."""
    said = [line for line in swept.stdout.splitlines() if line.startswith("could not")]
    if swept.returncode:
        said.append(f"it ended with {swept.returncode}: {swept.stdout[-300:]}{swept.stderr[-300:]}")
    return said


def undone_for(owner: str, said: str) -> list[str]:
    """The lines of a sweep that tell of this owner's things: others' may be there, too."""
    return [line for line in said.splitlines() if re.search(rf"\bdead owner {owner.partition(':')[0]}\b", line)]


def begun(harness: subprocess.Popen[bytes], reports: Path) -> bool:
    """Wait until its run has begun; False if it ended before, or does not begin."""
    deadline = time.monotonic() + BEGINS_WITHIN_S
    while phase_of(reports) is None:
        if harness.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def clients_end_s(session: Session) -> float:
    """Seconds until every client has ended, those that stand still aside; infinite if one does not."""
    began = time.monotonic()
    while [pid for pid in processes(session) if "harness.clients.body" in command_line(pid) and not stands_still(pid)]:
        if time.monotonic() - began > 2 * CLIENTS_WITHIN_S:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - began


def end(harness: subprocess.Popen[bytes], number: signal.Signals) -> list[str]:
    """Send the signal and wait for the end; what is wrong with that end."""
    harness.send_signal(number)
    try:
        harness.wait(timeout=ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        harness.kill()
        harness.wait()
        return [f"the harness had not ended {ENDS_WITHIN_S:g} s after {number.name}, and was killed"]
    return []


def kill_once(
    cell: tuple[str, str, float],
    chance: random.Random,
    client: docker.DockerClient | None,
    number: signal.Signals,
    engine: str,
) -> Kill:
    configuration, fault, length_s = cell
    after_s = chance.uniform(0.0, length_s)
    with tempfile.TemporaryDirectory(prefix="assay-killed-") as directory:
        session = Session(Path(directory).resolve(), cgroups=cgroups())
        session.state.mkdir()
        session.temporary.mkdir()
        command = assay("verify", "suites/control", "--tier", "standard", "--configuration", configuration)
        command += ["--fault", fault, "--engine", engine, "--reports", str(session.reports)]
        with open(session.directory / "log", "wb") as output:
            harness = subprocess.Popen(
                command,
                cwd=ROOT,
                env=session.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is for this script
            )
        try:
            session.owner = f"{harness.pid}:{started_ticks(harness.pid)}:"
            in_time = begun(harness, session.reports)
            if in_time:
                try:
                    harness.wait(timeout=after_s)
                    in_time = False
                except subprocess.TimeoutExpired:
                    pass
            ended = harness.poll()
            phase = f"it had ended, {ended}" if ended is not None else phase_of(session.reports) or "it did not begin"
            session.note_marks()
            left = end(harness, number)
        finally:
            if harness.poll() is None:
                harness.kill()
                harness.wait()
        session.note_marks()
        clients_s = clients_end_s(session)
        if number != signal.SIGKILL:
            left += [f"before any sweep: {one}" for one in left_over(session, client)]
        swept = sweep(session)
        left += [f"after the sweep: {one}" for one in (*complaints(swept), *left_over(session, client))]
        swept = sweep(session, "--labels")
        left += [f"only by labels: {one}" for one in undone_for(session.owner, swept.stdout)]
        left += [f"after the sweep by labels: {one}" for one in (*complaints(swept), *left_over(session, client))]
    return Kill(f"{configuration}-{fault}", after_s, phase, in_time, clients_s, tuple(left))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills", type=int, default=2 * len(CELLS), help="how many sessions to end (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7, help="of the moments (default: %(default)s)")
    parser.add_argument("--signal", choices=("KILL", "INT", "TERM"), default="KILL", help="default: %(default)s")
    parser.add_argument(
        "--engine",
        choices=("auto", "containers", "processes"),
        default="auto",
        help="where the brokers run (default: %(default)s, the first of the others that can run the cell); cells that "
        "an engine cannot run end before they begin",
    )
    arguments = parser.parse_args()
    number = signal.Signals[f"SIG{arguments.signal}"]
    # A shell starts what is in its background with SIGINT ignored, and so would be the sessions.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chance = random.Random(arguments.seed)
    client = None if arguments.engine == "processes" else docker.from_env()
    kills = []
    for count in range(arguments.kills):
        kill = kill_once(CELLS[count % len(CELLS)], chance, client, number, arguments.engine)
        kills.append(kill)
        print(
            f"{count + 1:3}  {kill.cell:62} after {kill.after_s:5.1f} s in {kill.phase:22} "
            f"clients gone after {kill.clients_s:4.1f} s, left {len(kill.left)}",
            flush=True,
        )
        for line in kill.left:
            print(f"       {line}", flush=True)
    left = sum(len(kill.left) for kill in kills)
    late = sum(kill.clients_s > CLIENTS_WITHIN_S for kill in kills)
    in_time = sum(kill.in_time for kill in kills)
    print(
        f"{len(kills)} sessions ended with {number.name}, {in_time} of them in their run: "
        f"{left} things left, {late} with late clients"
    )
    return 1 if left or late or not in_time else 0


if __name__ == "__main__":
    sys.exit(main())
