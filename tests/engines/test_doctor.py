"""The doctor names what is missing and its cure, changes nothing, and does not wait for an engine that hangs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engines import doctor, references


def points_at(host: str):
    return {"DOCKER_HOST": host}.get


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[object]:
    """An engine's socket that answers every request with the given bytes, or with silence."""
    servers: list[socket.socket] = []

    def listen(answer: bytes | None) -> str:
        server = socket.socket(socket.AF_UNIX)
        path = tmp_path / f"{len(servers)}.sock"
        server.bind(str(path))
        server.listen()
        servers.append(server)

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                if answer is None:
                    connection.recv(4096)  # until the doctor gives up
                else:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"unix://{path}"

    yield listen
    for server in servers:
        server.close()


def test_no_engine_is_a_finding_with_a_cure(tmp_path):
    findings = {f.name: f for f in doctor.examine(environ=points_at(f"unix://{tmp_path}/none.sock"))}
    engine = findings["docker engine"]
    assert not engine.available
    assert "no engine at unix://" in engine.reason
    assert "make setup" in engine.cure
    assert not findings["image rabbitmq"].available


def test_an_engine_that_hangs_is_given_up_within_the_limit(answering, monkeypatch):
    monkeypatch.setattr(doctor, "ENGINE_TIMEOUT_S", 0.2)
    with pytest.raises(doctor.EngineSilent, match="does not answer in"):
        doctor.ask_engine("/version", environ=points_at(answering(None)))


def test_what_is_no_engine_is_said_to_be_none(answering):
    host = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    with pytest.raises(doctor.EngineSilent, match="no container engine"):
        doctor.ask_engine("/version", environ=points_at(host))


def test_an_engine_we_cannot_talk_to_is_named():
    with pytest.raises(doctor.EngineSilent, match="ssh://elsewhere"):
        doctor.ask_engine("/version", environ=points_at("ssh://elsewhere"))


def test_a_finding_that_is_not_available_gives_a_reason():
    with pytest.raises(ValueError, match="'disk'"):
        doctor.Finding("disk", available=False)


def test_json_says_which_engine_is_ready():
    here = [doctor.Finding(name, available=True) for name in ("nats-server", "toxiproxy-server")]
    engine = doctor.Finding("docker engine", available=False, reason="none", required=True)
    document = json.loads(doctor.as_json([*here, engine]))
    assert document["ready"] == {"containers": False, "processes": True}
    assert document["findings"][2]["reason"] == "none"


def test_memory_runs_as_a_process_and_never_in_a_container():
    assert doctor.available("memory", "processes") is None
    assert "no image" in str(doctor.available("memory", "containers"))
    with pytest.raises(ValueError, match="'cloud'"):
        doctor.available("nats", "cloud")


def test_what_set_up_made_comes_before_what_is_pinned(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    pinned = references.image_references()
    assert set(pinned) == {"rabbitmq", "nats", "toxiproxy", "tools"}
    (tmp_path / "assay").mkdir()
    (tmp_path / "assay" / "images.resolved").write_text("rabbitmq=rabbitmq:9.9.9-management\n", encoding="utf-8")
    assert references.image_references() == pinned | {"rabbitmq": "rabbitmq:9.9.9-management"}


def test_another_version_of_an_image_keeps_its_name_and_flavour():
    reference = references.image_reference("rabbitmq", "3.13.7")
    assert reference == "rabbitmq:3.13.7-management"
    assert references.image_version(reference) == "3.13.7"


def test_the_doctor_loads_no_driver():
    code = (
        "import sys, harness.engines.doctor;"
        "print({'docker', 'requests', 'testcontainers', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
