"""The wheel in an empty environment outside the checkout: the command with its page, and nothing that only Lambda needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backfill import __version__
from local.simulator import generate
from tests.e2e.conftest import Deployed, OneStack

ROOT = Path(__file__).parents[2]
UV = str(Path(sys.executable).parent / "uv")
NAMES = ["octo/one", "octo/two", "octo/copy"]


def run(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that knows nothing of the checkout."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    own |= {"UV_SYSTEM_CERTS": "1", **environment}
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=300)


def built(source: Path, folder: Path) -> Path:
    done = run(UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(source), folder=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment that has the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = built(ROOT, folder)
    assert run(UV, "venv", "--quiet", "--python", sys.executable, "empty", folder=folder).returncode == 0
    done = run(UV, "pip", "install", "--quiet", str(wheel), folder=folder, VIRTUAL_ENV=str(folder / "empty"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def deployed(one_stack: OneStack) -> Iterator[Deployed]:
    repositories = generate(21, dict.fromkeys(NAMES, 12))
    repositories[2].set(isFork=True)
    with one_stack.lent(repositories, speed=100, heartbeat="DISABLED") as running:
        yield running


def test_the_installed_command_drives_a_stack_from_outside_the_checkout(installed: Path, deployed: Deployed) -> None:
    def backfill(*words: str) -> str:
        done = run(str(installed / "empty/bin/backfill"), *words, folder=installed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    answer: dict[str, Any] = json.loads(backfill("add", "--org", "octo", "--no-forks", "--dry-run", "--json"))
    assert (answer["fates"]["joins"], answer["fates"]["fork"]) == (2, 1)
    assert json.loads(backfill("add", "--org", "octo", "--no-forks", "--json"))["joined"] == 2
    deployed.finish(120)
    answer = json.loads(backfill("status", "--org", "octo", "--exit-code", "--json"))
    assert (answer["completed"], answer["processed_prs"], answer["forks_left_out"]) == (2, 24, 1)
    assert "octo/one" in backfill("status", "--all")
    own, theirs = backfill("--version").splitlines()
    assert re.fullmatch(r"backfill \d+\.\d+\S*", own)
    assert theirs.endswith(f": {__version__}")
    backfill("remove", "--org", "octo")


def test_the_installed_command_serves_its_page(installed: Path, deployed: Deployed) -> None:
    command = [str(installed / "empty/bin/backfill"), "dashboard", "--no-browser", "--json"]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, cwd=installed, env=own, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["url"].partition("#")[0]
            for name, part in (("", "<html"), ("page.js", "fetch"), ("page.css", "{")):
                with urllib.request.urlopen(f"{address}{name}", timeout=20) as reply:  # noqa: S310 - its own address
                    assert part in reply.read().decode()
        finally:
            server.terminate()


def test_the_environment_has_nothing_that_only_lambda_needs(installed: Path) -> None:
    done = run(UV, "pip", "list", "--format", "json", folder=installed, VIRTUAL_ENV=str(installed / "empty"))
    names = {each["name"] for each in json.loads(done.stdout)}
    assert {"progressive-backfill", "boto3", "typer", "rich"} <= names
    assert (
        names & {"aws-lambda-powertools", "pg8000", "jsonschema", "alembic", "sqlalchemy", "cfn-lint", "pyjwt"} == set()
    )
    # No package of a common name beside it.
    library = next((installed / "empty").glob("lib/python*/site-packages"))
    assert [each.name for each in library.iterdir() if each.name in ("cli", "backfill", "migrations")] == []


@pytest.mark.parametrize("tag", [None, "v3.4.5"])
def test_the_version_comes_from_the_tag_and_a_checkout_without_tags_builds(tmp_path: Path, tag: str | None) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", ".local", ".aws-sam", "*cache*", "dist")
    )
    commands = [
        ["init", "--quiet"],
        ["add", "pyproject.toml", "cli", "layers", "migrations", "README.md", "LICENSE", ".gitignore"],
        ["-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "All of it"],
        *([["tag", tag]] if tag else []),
    ]
    for words in commands:
        assert run("git", *words, folder=copy).returncode == 0, words
    for each in [path for path in copy.iterdir() if path.name not in (".git", "cli", "layers", "migrations")]:
        if each.name not in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    (tmp_path / "out").mkdir()
    version = built(copy, tmp_path / "out").name.split("-")[1]
    assert re.fullmatch(r"3\.4\.5" if tag else r"0\.1\.1\.dev\d+\S*", version), version


def test_a_source_without_git_builds_as_the_version_of_the_source(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("cli", "layers", "migrations"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (tmp_path / "out").mkdir()
    assert built(copy, tmp_path / "out").name.split("-")[1] == __version__
