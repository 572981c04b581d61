"""The set-up scripts say what they leave out, refuse what they do not know, and stop only what they started."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.engines import references

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*ROOT.glob("docker/**/*.sh"), ROOT / ".ci" / "run"])


@pytest.fixture
def run(tmp_path: Path):
    """Runs a script of the checkout with a state directory of its own."""

    def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
        return subprocess.run(
            argv,
            cwd=ROOT,
            env=inherited | {"XDG_STATE_HOME": str(tmp_path)} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path):
    subprocess.run(["bash", "-n", script], check=True)


def test_an_unknown_step_is_refused_with_the_known_ones(run):
    answer = run("docker/bootstrap.sh", "nonsense")
    assert answer.returncode == 64
    assert "venv engine programs images" in answer.stderr


def test_steps_left_out_are_announced(run):
    answer = run("docker/bootstrap.sh", "engine", "images", ASSAY_SKIP="engine,images")
    assert "engine:   left out, as ASSAY_SKIP says" in answer.stdout
    assert "images:   left out, as ASSAY_SKIP says" in answer.stdout
    assert "venv" not in answer.stdout


def test_an_engine_asked_for_by_address_is_never_replaced_by_one_of_ours(run, tmp_path):
    nowhere = f"unix://{tmp_path}/none.sock"
    optional = run("docker/bootstrap.sh", "engine", DOCKER_HOST=nowhere)
    assert f"nothing answers at DOCKER_HOST={nowhere}" in optional.stdout
    assert "cure: start that engine, or unset DOCKER_HOST" in optional.stdout
    required = run("docker/bootstrap.sh", "engine", DOCKER_HOST=nowhere, ASSAY_REQUIRE_ENGINE="1")
    assert required.returncode == 69


def test_stop_ends_only_a_dockerd_that_set_up_started(run, tmp_path):
    assert "nothing to stop" in run("docker/engine.sh", "stop").stdout
    (tmp_path / "assay").mkdir(exist_ok=True)
    (tmp_path / "assay" / "dockerd.pid").write_text(f"{os.getpid()} 1\n", encoding="ascii")
    assert "gone already" in run("docker/engine.sh", "stop").stdout


def test_every_image_has_its_recipe_and_a_version():
    for program, reference in references.image_references().items():
        assert (ROOT / "docker" / program / "Dockerfile").is_file()
        assert references.image_version(reference)[0].isdigit()


def test_make_help_names_every_target(run):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    said = run("make", "help").stdout
    assert [target for target in targets[1].split() if f"make {target} " not in said] == []
