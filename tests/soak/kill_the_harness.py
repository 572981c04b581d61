"""What is left on this machine when the harness is killed with SIGKILL at a random moment, and Assay is started again?

    .venv/bin/python tests/soak/kill_the_harness.py --kills 30 --seed 7

Runs cells of the control suite, one family of faults after the other, each as a session of its own with a state
directory of its own; kills it somewhere between its start and its end; lets its clients end by themselves; sweeps, as
the next start does; and looks for everything that a run makes: containers, networks, volumes, loop devices, mounts,
images of disks, rules, processes (frozen ones, too), directories, ledgers. Prints a line a kill, and the count of what
was left. Exit code 1 if anything was, or if a client outlived its harness by more than five seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker

ROOT = Path(__file__).parents[2]
OWNER_LABEL = "assay.owner"
CLIENTS_WITHIN_S = 5.0

CELLS = (
    # (configuration, fault, seconds that the whole session takes at least): one of each family
    ("nats-control-r1", "stall_clients", 8.0),
    ("nats-control-r3", "isolate_leader", 12.0),
    ("nats-control-r1", "pause_leader", 9.0),
    ("rabbitmq-control-classic", "consumer_acknowledgement_loss", 14.0),
    ("nats-control-r1", "kill_consumer", 8.0),
    ("rabbitmq-control-quorum", "isolate_leader", 25.0),
    ("nats-control-r1", "random_links_and_clients", 10.0),
)


@dataclass(frozen=True)
class Kill:
    """One session that was killed. `left`: what was still there after the sweep, one line each."""

    cell: str
    after_s: float
    phase: str
    clients_s: float
    left: tuple[str, ...]


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def processes(state: Path) -> list[int]:
    """Pids of everything that was started with this state directory, frozen or not, zombies aside."""
    wanted = f"ASSAY_STATE={state}\0".encode()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and wanted in environment(pid) + b"\0"]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def left_over(state: Path, owner: int, client: docker.DockerClient) -> Iterator[str]:
    """Everything of one dead owner that is still here."""
    for kind, listed in (
        ("container", client.api.containers(all=True, filters={"label": OWNER_LABEL})),
        ("network", client.api.networks(filters={"label": OWNER_LABEL})),
        ("volume", client.api.volumes(filters={"label": OWNER_LABEL})["Volumes"] or []),
    ):
        for one in listed:
            if (one.get("Labels") or {}).get(OWNER_LABEL, "").startswith(f"{owner}:"):
                yield f"{kind} {one.get('Name') or one.get('Names')}"
    for pid in processes(state):
        yield f"process {pid} {command_line(pid)[:80]}"
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    yield from (f"loop device {line}" for line in loops.splitlines() if str(state) in line)
    devices = [line.split(":")[0] for line in loops.splitlines() if str(state) in line]
    for line in Path("/proc/mounts").read_text().splitlines():
        if str(state) in line or any(line.startswith(f"{device} ") for device in devices):
            yield f"mount {line}"
    rules = subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True).stdout
    yield from (f"rule of the host {line}" for line in rules.splitlines() if "ASSAY" in line)
    # The state directory itself is this script's: what is in it must be gone, but for what sessions share.
    for path in sorted(state.rglob("*")):
        if path.is_file() and path.name not in ("sweep.lock",):
            yield f"file {path}"


def phase_of(reports: Path) -> str:
    for path in reports.glob("*/runs/*/progress.json"):
        try:
            return str(json.loads(path.read_text())["phase"])
        except (OSError, ValueError, KeyError):
            return "?"
    return "before the first phase"


def assay(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli.main", *arguments]


def kill_once(cell: tuple[str, str, float], chance: random.Random, client: docker.DockerClient) -> Kill:
    configuration, fault, length_s = cell
    after_s = chance.uniform(0.5, length_s)
    with tempfile.TemporaryDirectory(prefix="assay-killed-") as directory:
        state, reports = Path(directory) / "state", Path(directory) / "reports"
        state.mkdir()
        log = Path(directory) / "log"
        told = {**os.environ, "ASSAY_STATE": str(state)}
        command = assay("verify", "suites/control", "--tier", "standard", "--configuration", configuration)
        command += ["--fault", fault, "--reports", str(reports)]
        with open(log, "wb") as output:
            harness = subprocess.Popen(command, cwd=ROOT, env=told, stdout=output, stderr=subprocess.STDOUT)
        try:
            harness.wait(timeout=after_s)
            phase = f"it had ended, {harness.returncode}"
        except subprocess.TimeoutExpired:
            phase = phase_of(reports)
        harness.send_signal(signal.SIGKILL)
        harness.wait()
        killed = time.monotonic()
        while clients := [pid for pid in processes(state) if "harness.clients.body" in command_line(pid)]:
            if time.monotonic() - killed > 2 * CLIENTS_WITHIN_S:
                break
            time.sleep(0.02)
        clients_s = time.monotonic() - killed if not clients else float("inf")
        swept = subprocess.run(assay("sweep", "--labels"), cwd=ROOT, env=told, capture_output=True, text=True)
        left = list(left_over(state, harness.pid, client))
        if swept.returncode:
            left.append(f"the sweep ended with {swept.returncode}: {swept.stdout[-300:]}{swept.stderr[-300:]}")
        left += [line for line in swept.stdout.splitlines() if line.startswith("could not")]
    return Kill(f"{configuration}-{fault}", after_s, phase, clients_s, tuple(left))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="how many sessions to kill")
    parser.add_argument("--seed", type=int, default=7, help="of the moments")
    arguments = parser.parse_args()
    chance, client = random.Random(arguments.seed), docker.from_env()
    kills = []
    for number in range(arguments.kills):
        kill = kill_once(CELLS[number % len(CELLS)], chance, client)
        kills.append(kill)
        print(
            f"{number + 1:3}  {kill.cell:55} after {kill.after_s:5.1f} s in {kill.phase:22} "
            f"clients gone after {kill.clients_s:4.1f} s, left {len(kill.left)}",
            flush=True,
        )
        for line in kill.left:
            print(f"       {line}")
    left = sum(len(kill.left) for kill in kills)
    late = sum(kill.clients_s > CLIENTS_WITHIN_S for kill in kills)
    in_time = sum("ended" not in kill.phase for kill in kills)
    print(f"{len(kills)} kills, {in_time} of them before the session ended: {left} things left, {late} late clients")
    return 1 if left or late else 0


if __name__ == "__main__":
    sys.exit(main())
