"""How is the container engine asked, and what does it mean when it does not answer?

*docker*: one connection for this process, every call with a limit. *asking*: what the engine refuses or fails to do
becomes Trouble with its own words. testcontainers is set up here: its reaper off (the ledger and the sweep are ours),
published ports dialled on this host.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import docker.errors
import requests
from testcontainers.core.config import ConnectionMode, testcontainers_config

import docker
from harness.errors import Trouble
from harness.ledger import Owner

LIMIT_S = 60
"""Of one call; the longest good one, starting a container with many published ports, takes 2 s on a slow machine."""

LABEL = "assay"
RUN_LABEL = "assay.run"
OWNER_LABEL = "assay.owner"

testcontainers_config.ryuk_disabled = True
testcontainers_config.connection_mode_override = ConnectionMode.docker_host

_connecting = threading.Lock()


def client() -> docker.DockerClient:
    """The engine, as DOCKER_HOST or the default socket names it. Raises Trouble when none answers."""
    with _connecting, asking("answer"):
        return _connected()


@lru_cache(maxsize=1)
def _connected() -> docker.DockerClient:
    return docker.from_env(timeout=LIMIT_S)


def silent(within_s: float = 1.0) -> str | None:
    """None while the engine answers; else what is wrong with it, found out within that time."""
    try:
        probe = docker.DockerClient.from_env(timeout=within_s)  # type: ignore[arg-type]
    except (docker.errors.DockerException, requests.RequestException) as error:
        return f"the container engine does not answer: {_reason(error)}"
    probe.close()
    return None


def elsewhere() -> str | None:
    """None while the engine runs on this machine; else why what is made here is of no use to it, with the cure."""
    host = os.environ.get("DOCKER_HOST", "")
    if not host or host.startswith("unix://"):
        return None
    return f"the container engine at {host} may run on another machine, and the loop devices are on this one"


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Run the body, which asks the engine to `what`; its failures become Trouble."""
    try:
        yield
    except requests.exceptions.ReadTimeout as error:
        raise Trouble(
            f"the container engine hangs: it was asked to {what} and did not answer within {LIMIT_S} s",
            cure="look at `docker info` and at the engine's log; `assay doctor` says what it sees",
        ) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Trouble(f"the container engine could not {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, docker.errors.APIError):
        return str(error.explanation or error)
    return str(error)


def labels(run: str) -> dict[str, str]:
    """What everything of ours in the engine carries: so that it is known whose it is, also without its ledger."""
    return {LABEL: "1", RUN_LABEL: run, OWNER_LABEL: str(Owner.here())}
