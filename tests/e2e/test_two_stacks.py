"""Two local stacks on one machine, started at the same time: neither touches the other."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from backfill.store.connection import Database
from local.in_process import differences
from local.simulator import Simulator, generate
from local.stack import ROOT, STACK_NAME

# Two builds and two deployments.
pytestmark = pytest.mark.soak
SECONDS = 600
FUNCTIONS = ("migrator", "planner", "chunk-worker", "recovery", "console", "widget")


@dataclass(frozen=True, slots=True)
class One:
    """A stack, and the simulator that it reads."""

    folder: Path
    simulator: Simulator
    name: str

    def command(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """A command of the repository, in a shell that knows this stack's folder and ``environment``."""
        own = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "DATABASE_", "GITHUB_", "STACK_"))}
        own |= {"PYTHONPATH": f"{ROOT}:{ROOT}/layers/shared", "LOCAL_FOLDER": str(self.folder), **environment}
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *words: str, **environment: str) -> str:
        process = self.command(*words, **environment)
        output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        return output

    def settings(self) -> dict[str, str]:
        """The settings that `make env` exports. PATH is not one: its value names the shell's own PATH."""
        lines = shlex.split(self.run("local.stack", "env").replace("export ", ""))
        exported = dict(line.split("=", 1) for line in lines)
        del exported["PATH"]
        return exported

    def status(self, settings: dict[str, str]) -> list[dict[str, Any]]:
        output = self.run("cli", "status", "--json", **settings)
        return list(json.loads(output)["backfills"])

    def repositories(self, **environment: str) -> list[str]:
        return [row["repository"] for row in self.status(environment)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[One]]:
    folder = tmp_path_factory.mktemp("two")
    with (
        Simulator(generate(3, {"octo/left": 40}), speed=100) as left,
        Simulator(generate(4, {"octo/right": 60}), speed=100) as right,
    ):
        both = [One(folder / "left", left, "octo/left"), One(folder / "right", right, "octo/right")]
        try:
            starting = [
                each.command("local.stack", "up", GITHUB_TOKEN="ghp_e2e", GITHUB_API_URL=each.simulator.url)
                for each in both
            ]
            for process in starting:
                _, errors = process.communicate(timeout=SECONDS)
                assert process.returncode == 0, errors
            yield both
        finally:
            for each in both:
                each.run("local.stack", "down")


@pytest.mark.timeout(1800)
def test_each_stack_completes_its_own_repository_and_sees_no_other(two: list[One]) -> None:
    settings = {each: each.settings() for each in two}
    for each in two:
        each.run("cli", "add", each.name, **settings[each])
    deadline = time.monotonic() + SECONDS
    for each in two:
        while [row["status"] for row in each.status(settings[each])] != ["completed"]:
            assert time.monotonic() < deadline, each.status(settings[each])
            time.sleep(2)
    for each in two:
        assert each.repositories(**settings[each]) == [each.name]
        assert rows_that_differ(settings[each]["DATABASE_URL"], each.simulator) == []


def rows_that_differ(database_url: str, simulator: Simulator) -> list[str]:
    database = Database(lambda: database_url)
    try:
        return differences(database, simulator)
    finally:
        database.close()


def clients(settings: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_DEFAULT_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.mark.timeout(1800)
def test_ports_processes_data_and_schedules_are_their_own(two: list[One]) -> None:
    one, other = (each.settings() for each in two)
    for name in ("AWS_ENDPOINT_URL", "DATABASE_URL", "CHUNK_QUEUE_URL"):
        assert one[name] != other[name]
    for settings in (one, other):
        assert len(clients(settings, "scheduler").list_schedules()["Schedules"]) == 2
        names = {each["FunctionName"] for each in clients(settings, "lambda").list_functions()["Functions"]}
        assert names == {f"{STACK_NAME}-{name}" for name in FUNCTIONS}


@pytest.mark.timeout(1800)
def test_the_command_finds_the_stack_of_its_folder_unless_the_shell_has_chosen_another(two: list[One]) -> None:
    for each in two:
        each.run("cli", "add", each.name)
        assert each.repositories() == [each.name]
        process = each.command("cli", "status")
        _, said = process.communicate(timeout=SECONDS)
        assert (process.returncode, f"On the local stack in {each.folder};" in said) == (0, True), said
    left, right = two
    assert left.repositories(**right.settings()) == [right.name]
    assert right.repositories(**left.settings()) == [left.name]


@pytest.mark.timeout(1800)
def test_a_stack_stops_and_starts_in_a_shell_that_has_the_settings_of_the_other(two: list[One]) -> None:
    """Its own GitHub is named in that shell, as both stacks here read one that somebody chose."""
    left, right = two
    for each in two:
        each.run("cli", "add", each.name)
    others = right.settings()
    shell = {**others, "GITHUB_TOKEN": "ghp_e2e", "GITHUB_API_URL": left.simulator.url}
    left.run("local.stack", "down", **shell)
    assert not (left.folder / "stack.json").exists()
    assert right.settings() == others
    assert right.repositories(**others) == [right.name]
    left.run("local.stack", "up", **shell)
    assert right.settings() == others
    assert right.repositories(**others) == [right.name]
    own = left.settings()
    assert [name for name in ("AWS_ENDPOINT_URL", "DATABASE_URL", "GITHUB_API_URL") if own[name] == others[name]] == []
    # The deployed functions read the database from their secret, which `make up` wrote; its rows outlived the stop.
    assert left.repositories(**own) == [left.name]
    assert left.repositories() == [left.name]
