"""Local stacks of one machine stay apart; without a deployment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local import stack as local_stack
from local.postgres import Postgres, one_start_at_a_time
from local.stack import Failed, Stack, default_folder, free_port


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as process:
        yield process
        process.kill()


def stack_of(folder: Path, pid: int, began: float) -> Stack:
    folder.mkdir(exist_ok=True)
    state = {"ready": True, "processes": {"ministack": pid}, "began": {"ministack": began}, "environment": {}}
    (folder / "stack.json").write_text(json.dumps(state), encoding="utf-8")
    return Stack(folder)


def test_a_process_that_has_the_number_of_a_stacks_process_by_now_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    began = psutil.Process(sleeper.pid).create_time()
    stranger = stack_of(tmp_path, sleeper.pid, began - 3600)
    assert stranger.running() is None
    stranger.down()
    assert sleeper.poll() is None
    assert not stranger.file.exists()
    own = stack_of(tmp_path, sleeper.pid, began)
    assert own.running() is not None
    own.down()
    assert sleeper.wait(10) != 0


def test_the_local_aws_of_another_stack_is_not_taken_for_the_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stacks chose one port: the second starts again at another one."""
    first, second = Stack(tmp_path / "first"), Stack(tmp_path / "second")
    states: list[dict[str, Any]] = [{"ready": False, "processes": {}, "environment": {}} for _ in range(2)]
    taken = free_port()
    ports = iter([taken, taken, free_port()])
    monkeypatch.setattr(local_stack, "free_port", lambda: next(ports))
    try:
        for stack, state in zip((first, second), states, strict=True):
            stack.logs.mkdir(parents=True)
            stack.start_aws(state)
        one, other = (state["environment"]["AWS_ENDPOINT_URL"] for state in states)
        assert one == f"http://127.0.0.1:{taken}"
        assert other != one
    finally:
        first.down()
        second.down()


def test_one_stack_is_started_once_though_two_ask_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    def start(_: Stack, state: dict[str, Any]) -> None:
        starts.append(1)
        time.sleep(0.3)

    monkeypatch.setattr(Stack, "_start", start)
    threads = [threading.Thread(target=Stack(tmp_path).up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 1


def test_variables_that_make_env_left_in_a_shell_do_not_choose_another_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("DATABASE_URL", "postgresql:///left"), ("GITHUB_TOKEN", "own")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(local_stack.GIVEN_BY_A_STACK, '{"DATABASE_URL": "postgresql:///left"}')
    assert local_stack._wished("DATABASE_URL") is None
    assert local_stack._wished("GITHUB_TOKEN") == "own"
    monkeypatch.setenv("DATABASE_URL", "postgresql:///chosen")
    assert local_stack._wished("DATABASE_URL") == "postgresql:///chosen"


def test_a_folder_of_its_own_makes_a_second_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_FOLDER", raising=False)
    assert default_folder().name == ".local"
    monkeypatch.setenv("LOCAL_FOLDER", str(tmp_path / "second"))
    assert default_folder() == tmp_path / "second"
    with pytest.raises(Failed, match="no local stack runs here"):
        Stack(default_folder()).open_doors(containers=False)


def test_servers_start_one_after_the_other_because_the_first_one_may_add_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Postgres] = []
    start = threading.Thread(target=lambda: servers.append(Postgres(tmp_path / "postgres")))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # as some machines set it for root
    with one_start_at_a_time():  # as another process of this machine holds it
        assert {"/usr/sbin", "/sbin"} <= set(os.environ["PATH"].split(":")), "useradd lies there"
        start.start()
        start.join(timeout=1)
        assert start.is_alive()
        assert not (tmp_path / "postgres" / "PG_VERSION").exists()
    start.join(timeout=60)
    servers[0].run("SELECT 1")
    servers[0].stop()
