"""The files for contributors: workflow, hooks, changelog and editor settings fit the code."""

from __future__ import annotations

import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from backfill import __version__
from local.postgres import NEWEST, Postgres
from local.servers import NotHere, installed_postgres
from migrations.runner import OLDEST_POSTGRES
from tests.docs.pages import ROOT, files

_SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TOOLS = _SETTINGS["project"], _SETTINGS["tool"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_workflow_runs_the_gate_on_every_supported_version() -> None:
    (job,) = read(".github/workflows/test.yml")["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert matrix["postgres"] == [str(version) for version in range(OLDEST_POSTGRES, NEWEST + 1)]
    assert matrix["python"][0] == PROJECT["requires-python"].removeprefix(">=")
    minors = [int(version.split(".")[1]) for version in matrix["python"]]
    assert minors == list(range(minors[0], 15))
    assert job["env"] == {"PYTHON": "python${{ matrix.python }}", "POSTGRES": "${{ matrix.postgres }}"}
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_the_tests_run_on_the_postgres_that_is_asked_for(postgres: Postgres, postgres_version: int) -> None:
    folder = Path(postgres.url("postgres").partition("host=")[2])
    assert (folder / "PG_VERSION").read_text(encoding="utf-8").strip() == str(postgres_version)
    with pytest.raises(NotHere, match="apt-get install postgresql-99"):
        installed_postgres(99)


def test_the_python_that_is_asked_for_is_taken_first() -> None:
    def found(*arguments: str, **settings: str) -> str:
        return subprocess.run(
            ["sh", "local/find-python.sh", *arguments],
            cwd=ROOT,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    import sys

    assert found(PYTHON=sys.executable, PATH="/usr/bin:/bin") == sys.executable
    version = "{}.{}".format(*sys.version_info)
    assert found(version, PYTHON=sys.executable, PATH="/usr/bin:/bin") == sys.executable
    assert found("3.0", PYTHON=sys.executable, PATH="/usr/bin:/bin") == ""


def test_hooks_call_what_the_checkout_has() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    dev = (ROOT / "requirements/dev.in").read_text(encoding="utf-8") + (ROOT / "requirements/checks.in").read_text(
        encoding="utf-8"
    )
    (local,) = read(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        program, *arguments = hook["entry"].split()
        if program == "make":
            assert f"\n{arguments[-1]}:" in makefile
        elif not program.endswith("/python"):
            assert re.search(rf"^{Path(program).name}(-cli)?$", dev, re.MULTILINE), program
        pattern = re.compile(hook.get("files", r"\.py$"))
        assert any(pattern.search(str(file.relative_to(ROOT))) for file in files()), hook["id"]
        for name in arguments:
            if "/" in name or name.endswith(".yaml"):
                assert (ROOT / name).exists(), name


def test_the_changelog_tells_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert None not in released
    versions = [tuple(map(int, each.groups()[:3])) for each in released if each]
    assert versions == sorted(set(versions), reverse=True)
    assert ".".join(map(str, versions[0])) == __version__
    assert TOOLS["hatch"]["version"]["fallback-version"] == __version__
    assert all(date.fromisoformat(each[4]) for each in released if each)
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_dependabot_looks_where_the_lock_files_are() -> None:
    folders = {f"/{file.parent.relative_to(ROOT)}" for file in files() if file.suffix == ".in"}
    watched = {
        folder
        for update in read(".github/dependabot.yml")["updates"]
        if update["package-ecosystem"] == "pip"
        for folder in update["directories"]
    }
    assert watched == folders


def test_forms_name_commands_and_pages_that_exist() -> None:
    for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = read(str(file.relative_to(ROOT)))
        if file.name == "config.yml":
            continue
        ids = [field["id"] for field in form["body"] if "id" in field]
        assert len(ids) == len(set(ids)) >= 3
        assert {"name", "description", "body"} <= form.keys()


def test_text_files_follow_the_editor_settings() -> None:
    wrong = []
    for file in files():
        if file.suffix in {".py", ".md", ".sql", ".yml", ".yaml", ".toml", ".json", ".sh"} or file.name == "Makefile":
            text = file.read_bytes()
            if b"\r\n" in text or (text and not text.endswith(b"\n")):
                wrong.append(str(file.relative_to(ROOT)))
    assert wrong == []
