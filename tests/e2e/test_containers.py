"""The lines of docs/invoking.md for `sam local invoke`, one by one, in a fresh copy of the repository: six functions in real containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.invoke import FUNCTIONS
from local.stack import ROOT, free_port
from tests.e2e.lambda_containers import NotHere, docker_with_image

START_SECONDS = 60


def lines(page: str, mark: str) -> list[str]:
    """The lines of the block after ``<!-- mark -->``."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- {mark} -->\n```bash\n(.*?)```", text, re.DOTALL)
    return str(block).splitlines()


def test_the_page_invokes_every_function() -> None:
    invoked = {line.split()[3]: line for line in lines("docs/invoking.md", "containers") if "local invoke" in line}
    assert invoked.keys() == {function for function, _ in FUNCTIONS.values()}
    for line in invoked.values():
        assert (ROOT / line.split()[5]).is_file(), line


class Copy:
    """A fresh copy of the repository, and a shell in it."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        own = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "STACK_", "DATABASE_", "GITHUB_"))}
        self.environment = {**own, "PYTHONPATH": f"{folder}:{folder}/layers/shared", **settings}
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, names.split("\0")):
            # An environment may be a link, which no pattern of .gitignore for a folder covers.
            if not name.startswith(".venv") and (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
        for environment in (".venv", ".venv-sam", ".venv-aws", ".venv-lambda"):
            (folder / environment).mkdir()
            for part in ("bin", "lib", "pyvenv.cfg"):
                (folder / environment / part).symlink_to((ROOT / environment).resolve() / part)
        for environment in (".venv", ".venv-sam", ".venv-aws", ".venv-lambda"):
            (folder / environment / ".ready").touch()

    def run(self, line: str, **others: str) -> subprocess.CompletedProcess[str]:
        """One line, as it is copied."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env={**self.environment, **others},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def answer(self, line: str) -> Any:
        """What a line that invokes a function prints, which ends with 0."""
        done = self.run(line)
        assert done.returncode == 0, done.stderr
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"{line}\n{done.stdout}\n{done.stderr}") from None


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The copy after the page's first lines, with a stack that is open to containers."""
    try:
        with docker_with_image() as settings:
            made = Copy(tmp_path_factory.mktemp("copy"), settings)
            try:
                for line in lines("docs/invoking.md", "containers"):
                    if "local invoke" not in line:
                        done = made.run(line)
                        assert done.returncode == 0, f"{line}\n{done.stderr}"
                yield made
            finally:
                made.run("make down")
    except NotHere as reason:
        pytest.skip(f"NOT TESTED, functions in containers: {reason}")


@pytest.mark.soak
def test_all_six_functions_answer_in_containers(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[tuple[str, Any]] = []
    for line in lines("docs/invoking.md", "containers"):
        if "local invoke" in line:
            answers.append((line.split()[3], copy.answer(line)))
    with capsys.disabled():
        for function, answer in answers:
            print(f"\n{function}: {json.dumps(answer)[:300]}")
    assert [function for function, _ in answers] == [
        "MigratorFunction",
        "ConsoleFunction",
        "PlannerFunction",
        "ChunkWorkerFunction",
        "RecoveryFunction",
        "ConsoleFunction",
        "WidgetFunction",
    ]
    migrated, added, planned, worked, recovered, status, page = (answer for _, answer in answers)
    # `make up` deploys, and a deployment migrates.
    assert migrated == {"applied": []}
    assert (added["ok"], added["repository"], added["created"]) == (True, "octo/large", True)
    assert (planned["dry_run"], planned["budgets"][0]["limit"]) == (True, 5000)
    assert worked == {"batchItemFailures": []}
    assert (recovered["dry_run"], recovered["failed"]) == (False, 0)
    assert [each["repository"] for each in status["backfills"]] == ["octo/large"]
    assert page.startswith("<div") and "octo/large" in page


@pytest.mark.soak
@pytest.mark.parametrize("name", FUNCTIONS)
def test_make_invoke_takes_docker_and_the_same_env_file(copy: Copy, name: str) -> None:
    done = copy.run(f"make -s invoke-{name} ENV=env.json")
    assert done.returncode == 0, done.stderr
    assert "SAM_CONTAINER_ID" in done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, str if name == "widget" else dict)


@pytest.mark.soak
def test_make_invoke_fails_when_the_function_fails(copy: Copy) -> None:
    (copy.folder / "wrong.json").write_text('{"chunk_size": 101}', encoding="utf-8")
    done = copy.run("python -m local.invoke planner --event wrong.json --env-vars env.json", PATH=path_of(copy))
    assert done.returncode == 1
    assert "SAM_CONTAINER_ID" in done.stderr
    assert "error: ContractViolation: chunk_size: 101 is greater than the maximum of 100" in done.stderr


@pytest.mark.soak
def test_the_command_drives_containers(copy: Copy) -> None:
    """docs/invoking.md, in two terminals."""
    (start,) = lines("docs/invoking.md", "start-lambda")
    port = str(free_port())
    process = subprocess.Popen(
        ["bash", "-c", f"exec {start} --port {port}"],
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait(lambda: connects(int(port)))
        script = "\n".join(lines("docs/invoking.md", "command")).replace(":3001", f":{port}")
        # The command of the copy, not of the checkout that its environment was made for.
        script = script.replace(".venv/bin/backfill", ".venv/bin/python -m cli")
        done = copy.run(f"set -e\n{script}")
        assert done.returncode == 0, done.stderr
        assert "octo/small added" in done.stdout
        assert "Nothing to recover; nothing failed" in done.stdout
        failed = copy.run(f"{script.rsplit('.venv', 4)[0]} .venv/bin/python -m cli add no/such")
        assert (failed.returncode, "Traceback" in failed.stderr) == (1, False)
        assert "no/such" in failed.stderr
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def path_of(copy: Copy) -> str:
    return f"{copy.folder}/.venv/bin:{copy.environment['PATH']}"


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
