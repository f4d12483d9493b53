"""A running local stack is found without exports, is named, and gives way to any other choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import local_stack
from cli.main import app
from cli.options import chosen_stack
from local.simulator import Simulator, generate
from local.stack import Stack, _next_steps
from tests.unit.test_command_line import Lambda

ROOT = Path(__file__).parents[2]
VARIABLES = ("STACK_NAME", *local_stack.CHOICES)


def state(endpoint: str, pid: int) -> dict[str, Any]:
    """As `make up` writes it."""
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "STACK_NAME": "progressive-backfill",
        "DATABASE_URL": "postgresql://a 'b' $c",
    }
    return {"ready": True, "processes": {"ministack": pid}, "environment": environment}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(local_stack, "FOLDER", tmp_path)
    for name in ("LOCAL_FOLDER", *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(folder: Path, endpoint: str = "http://127.0.0.1:9", pid: int | None = None) -> None:
    (folder / "stack.json").write_text(json.dumps(state(endpoint, pid or os.getpid())), encoding="utf-8")


def test_commands_reach_the_local_stack_that_runs_and_say_so(folder: Path) -> None:
    aws = Lambda()
    try:
        write(folder, f"http://127.0.0.1:{aws.server.server_address[1]}")
        aws.payload = {"ok": True, "paused": True}
        done = CliRunner().invoke(app, ["pause", "octo/one", "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == aws.payload, "only the answer is on the standard output"
        assert f"On the local stack in {folder}" in done.stderr
        assert aws.asked == [("progressive-backfill-console", {"action": "pause", "repository": "octo/one"})]
    finally:
        aws.server.shutdown()
        aws.server.server_close()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_chooses_a_stack_or_an_account_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(folder)
    assert local_stack.found() is not None
    monkeypatch.setenv(name, "other")
    stack_name = os.environ.get("STACK_NAME")
    assert chosen_stack(stack_name, None, None).local is None


@pytest.mark.parametrize("given", [("mine", None, None), (None, "eu-central-1", None), (None, None, "work")])
def test_an_option_wins(folder: Path, given: tuple[str | None, str | None, str | None]) -> None:
    write(folder)
    chosen = chosen_stack(*given)
    assert (chosen.local, chosen.region, chosen.profile) == (None, *given[1:])
    assert chosen.name == (given[0] or "progressive-backfill")


def test_a_region_alone_chooses_no_account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    found = chosen_stack(None, None, None).local
    assert found is not None and found.region == "us-east-1"


def test_a_second_stack_is_found_in_its_own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = folder / "second"
    second.mkdir()
    write(second, "http://127.0.0.1:2")
    write(folder, "http://127.0.0.1:1")
    monkeypatch.setenv("LOCAL_FOLDER", str(second))
    found = local_stack.found()
    assert found is not None and (found.folder, found.endpoint_url) == (second, "http://127.0.0.1:2")


def test_a_stack_that_does_not_run_is_not_found(folder: Path) -> None:
    assert local_stack.found() is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write(folder, pid=ended.pid)
    assert local_stack.found() is None
    (folder / "stack.json").write_text('{"ready": true, "proc', encoding="utf-8")
    assert local_stack.found() is None
    (folder / "stack.json").write_text(json.dumps({**state("http://x", os.getpid()), "ready": False}), encoding="utf-8")
    assert local_stack.found() is None


def _env(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.stack", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/shared'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_env_prints_exports_alone_and_the_path_to_the_command(folder: Path) -> None:
    write(folder)
    assert Stack(folder).running() is not None
    done = _env("env", "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    shell = f'{done.stdout}printf "%s\\n" "$DATABASE_URL" "$PATH"'
    url, path = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    ).stdout.splitlines()
    assert url == "postgresql://a 'b' $c"
    assert path == f"{ROOT}/.venv/bin:/usr/bin:/bin"


def test_env_without_a_stack_prints_nothing_to_evaluate(folder: Path) -> None:
    done = _env("env", "--folder", str(folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert "make up" in done.stderr


def test_the_set_up_prints_nothing_that_a_shell_would_evaluate(tmp_path: Path) -> None:
    """On a fresh checkout `make env` sets up first."""
    dry = subprocess.run(
        ["make", "--dry-run", "--always-make", "env"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (line,) = [each for each in dry.splitlines() if "environment:" in each]
    line = line.replace("-m venv --clear .venv", "-c 'print(1)'")
    shown = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == ""
    assert "environment:" in shown.stderr


def test_a_started_stack_ends_with_the_three_commands_that_somebody_wants_next(folder: Path) -> None:
    with Simulator(generate(3, {"octo/large": 9, "octo/small": 2})) as simulator:
        known = state("http://127.0.0.1:9", os.getpid())
        known["environment"]["GITHUB_API_URL"] = simulator.url
        (folder / "stack.json").write_text(json.dumps(known), encoding="utf-8")
        told = _next_steps(Stack(folder)).splitlines()
    command = os.path.relpath(ROOT / ".venv/bin/backfill")
    wanted = [f"  {command} {words}" for words in ("add octo/small", "status --watch", "dashboard")]
    assert told == ["The local stack runs. Next:", *wanted]


def test_where_github_itself_is_asked_a_small_public_repository_is_named(folder: Path) -> None:
    write(folder)
    assert "add octocat/Hello-World" in _next_steps(Stack(folder))
