"""What is here, what is missing, and what is the cure?

*Finding*: one thing that Assay may need, with what was seen. `examine` looks at everything and changes nothing; each
look is bounded, so an engine that hangs is a finding and not a hanging doctor. No driver is imported: the engine is
asked over its own socket.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from harness.engines.references import executable, image_references, other_images

ENGINE_TIMEOUT_S = 5.0
PROGRAM_TIMEOUT_S = 5.0
DISK_FREE_MIN_GIB = 5.0
CORES_MIN = 2
MEMORY_MIN_GIB = 4.0
SET_UP = "make setup"
VERSIONS = "make versions"
NET_ADMIN, SYS_ADMIN = 12, 21  # numbers of capabilities, from linux/capability.h


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked for. `detail` says what is here (a version, a number), `reason` why it is not available,
    `cure` what to do about that, `needed_for` what works only with it. `required`: without it no run is possible on
    the engine `containers`.
    """

    name: str
    _: KW_ONLY
    available: bool
    detail: str = ""
    reason: str = ""
    cure: str = ""
    needed_for: str = ""
    required: bool = False

    def __post_init__(self) -> None:
        if not self.available and not self.reason:
            raise ValueError(f"finding {self.name!r} is not available and gives no reason")


class EngineSilent(Exception):
    """No container engine answers; the message says what was tried and what came back."""


def examine(*, environ: Callable[[str], str | None] = os.environ.get) -> list[Finding]:
    """Looks at the engine, its images, local programs and the machine; within some 20 s at the very worst.

    `environ` answers for DOCKER_HOST, so that a test can point elsewhere.
    """
    engine = _engine(environ)
    return [
        engine,
        *_images(engine, environ),
        _program("nats", ("-v",), "NATS on the engine `processes`", SET_UP),
        _program("toxiproxy", ("-version",), "every client's link on the engine `processes`", SET_UP),
        _program("rabbitmq", (), "RabbitMQ on the engine `processes`", "apt-get install rabbitmq-server"),
        *_machine(),
    ]


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as one JSON document: {"ready": {engine: bool}, "findings": [...]}."""
    here = {finding.name for finding in findings if finding.available}
    ready = {
        "containers": all(finding.available for finding in findings if finding.required),
        "processes": "nats-server" in here and "toxiproxy-server" in here,
    }
    return json.dumps({"ready": ready, "findings": [asdict(finding) for finding in findings]}, indent=2)


def available(program: str, engine: str) -> str | None:
    """Why a program ("rabbitmq", "nats", "toxiproxy", "tools", "memory") cannot run on an engine ("containers",
    "processes") here; None when it can. One sentence with its cure, fit for a skip or an error message.

    Raises ValueError for an engine that is neither.
    """
    if engine == "processes":
        return _unavailable_as_process(program)
    if engine == "containers":
        return _unavailable_as_container(program)
    raise ValueError(f"engine {engine!r} is neither 'containers' nor 'processes'")


def ask_engine(path: str, *, environ: Callable[[str], str | None] = os.environ.get) -> dict[str, Any] | None:
    """GET of the engine's API: the decoded answer, None for 404. Raises EngineSilent when nothing sensible answers."""
    host = environ("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        connection = _connection(host)
        try:
            connection.request("GET", path, headers={"Host": "docker"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
    except TimeoutError as error:
        raise EngineSilent(
            f"the engine at {host} takes connections and does not answer in {ENGINE_TIMEOUT_S:g} s"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineSilent(f"no engine at {host}: {error}") from error
    if response.status == 404:
        return None
    if response.status != 200:
        raise EngineSilent(f"the engine at {host} answers {response.status} to {path}")
    try:
        answer: dict[str, Any] = json.loads(body)
    except ValueError as error:
        raise EngineSilent(f"what listens at {host} is no container engine") from error
    return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=ENGINE_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ENGINE_TIMEOUT_S)
        self.sock.connect(self._path)


def _connection(host: str) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(host)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path)
    if parts.scheme in {"tcp", "http"} and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=ENGINE_TIMEOUT_S)
    raise EngineSilent(f"an engine at {host} cannot be examined: only unix:// and tcp:// are understood")


def _engine(environ: Callable[[str], str | None]) -> Finding:
    needed_for = "the engine `containers`: RabbitMQ, partitions, power loss"
    try:
        version = ask_engine("/version", environ=environ) or {}
    except EngineSilent as silent:
        cure = f"{SET_UP} (as root on Debian or Ubuntu it installs and starts one), or --assay-engine processes"
        return Finding(
            "docker engine", available=False, reason=str(silent), cure=cure, needed_for=needed_for, required=True
        )
    detail = f"{version.get('Version', '?')} (API {version.get('ApiVersion', '?')})"
    return Finding("docker engine", available=True, detail=detail, needed_for=needed_for, required=True)


def _images(engine: Finding, environ: Callable[[str], str | None]) -> Iterator[Finding]:
    needed_for = {
        "rabbitmq": "RabbitMQ in containers",
        "nats": "NATS in containers",
        "toxiproxy": "every client's link in containers",
        "tools": "partitions and power loss: the sidecars' tools",
    }
    for program, reference in image_references().items():
        yield _image(f"image {program}", reference, engine, environ, needed_for.get(program, ""), SET_UP, required=True)
    for key, reference in other_images().items():
        program, _, version = key.partition("@")
        purpose = f'configurations of {program} with version="{version}", and upgrades from it'
        yield _image(f"image {key}", reference, engine, environ, purpose, VERSIONS, required=False)


def _image(
    name: str,
    reference: str,
    engine: Finding,
    environ: Callable[[str], str | None],
    needed_for: str,
    cure: str,
    *,
    required: bool,
) -> Finding:
    def absent(reason: str, cure: str) -> Finding:
        return Finding(name, available=False, reason=reason, cure=cure, needed_for=needed_for, required=required)

    if not engine.available:
        return absent(f"{reference}: no engine to ask", engine.cure)
    try:
        image = ask_engine(f"/images/{reference}/json", environ=environ)
    except EngineSilent as silent:
        return absent(str(silent), cure)
    if image is None:
        return absent(f"{reference} is not here", cure)
    labels = image.get("Config", {}).get("Labels") or {}
    origin = "made here" if labels.get("assay.built") else "pulled"
    detail = f"{reference} ({origin}, {str(image.get('Id', '?'))[:19]})"
    return Finding(name, available=True, detail=detail, needed_for=needed_for, required=required)


def _program(program: str, version_arguments: tuple[str, ...], needed_for: str, cure: str) -> Finding:
    """`version_arguments` make it print its version and end; without any, it is only looked for."""
    path = executable(program)
    name = f"{program}-server"
    if path is None:
        reason = f"{name} is neither beside this Python nor on PATH"
        return Finding(name, available=False, reason=reason, cure=cure, needed_for=needed_for)
    if not version_arguments:
        return Finding(name, available=True, detail=str(path), needed_for=needed_for)
    try:
        answer = subprocess.run(
            (path, *version_arguments), capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            name, available=False, reason=f"{path} does not say its version: {error}", cure=cure, needed_for=needed_for
        )
    said = (answer.stdout or answer.stderr).strip()
    return Finding(name, available=True, detail=f"{said} ({path})", needed_for=needed_for)


def _machine() -> Iterator[Finding]:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    yield _at_least(
        "disk", free_gib, DISK_FREE_MIN_GIB, "GiB free", "free some space", "run directories and brokers' data"
    )
    cores = len(os.sched_getaffinity(0))
    yield _at_least(
        "cores", cores, CORES_MIN, "cores", "a larger machine", "keeping the offered rate while brokers run beside it"
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield _at_least("memory", memory_gib, MEMORY_MIN_GIB, "GiB", "a larger machine", "three RabbitMQ nodes at once")
    yield _capability("NET_ADMIN", NET_ADMIN, "starting an engine of our own; containers get it from the engine")
    yield _capability("SYS_ADMIN", SYS_ADMIN, "loop devices: power loss")
    iptables = executable("iptables")
    yield Finding(
        "iptables",
        available=iptables is not None,
        detail=str(iptables or ""),
        reason="" if iptables else "iptables is not installed",
        cure="" if iptables else "apt-get install iptables",
        needed_for="starting an engine of our own (the sidecars bring theirs)",
    )


def _at_least(name: str, value: float, minimum: float, unit: str, cure: str, needed_for: str) -> Finding:
    detail = f"{value:.3g} {unit}"
    if value >= minimum:
        return Finding(name, available=True, detail=detail, needed_for=needed_for)
    reason = f"{detail}, fewer than {minimum:g}"
    return Finding(name, available=False, detail=detail, reason=reason, cure=cure, needed_for=needed_for)


def _capability(name: str, number: int, needed_for: str) -> Finding:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    except (OSError, StopIteration, ValueError) as error:
        return Finding(name, available=False, reason=f"unknown: {error}", cure="run on Linux", needed_for=needed_for)
    if effective >> number & 1:
        return Finding(name, available=True, detail="this process has it", needed_for=needed_for)
    reason = "this process does not have the capability"
    return Finding(name, available=False, reason=reason, cure="run as root", needed_for=needed_for)


def _unavailable_as_process(program: str) -> str | None:
    if program == "memory":
        return None
    for needed in dict.fromkeys((program, "toxiproxy")):  # every client's link goes through Toxiproxy
        if executable(needed) is None:
            cure = "apt-get install rabbitmq-server" if needed == "rabbitmq" else SET_UP
            return f"{needed}-server is not installed on this machine; cure: {cure}"
    return None


def _unavailable_as_container(program: str) -> str | None:
    references = image_references()
    if program not in references:
        return f"{program} has no image; cure: --assay-engine processes"
    for needed in dict.fromkeys((program, "toxiproxy")):
        try:
            image = ask_engine(f"/images/{references[needed]}/json")
        except EngineSilent as silent:
            return f"{silent}; cure: {SET_UP}, or --assay-engine processes"
        if image is None:
            return f"the image {references[needed]} is not here; cure: {SET_UP}"
    return None
