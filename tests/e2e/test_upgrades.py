"""Deployments over a running stack: in the middle of a backfill, with a migration that fails, and back to the older version.

The tests follow one stack through its life, so they run in their order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from local.simulator import Simulator, generate
from local.stack import ROOT, STACK_NAME, Failed
from tests.e2e.conftest import Deployed, running_stack

NAME = "octo/upgraded"
TOTAL = 200
# A pull request takes half a second, so that the backfill outlasts a deployment, and afterwards next to nothing.
SLOW, FAST = 0.2, 100.0
# What a later version's worker says.
LATER = "handled by the later version"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with (
        Simulator(generate(5, {NAME: TOTAL}), speed=SLOW) as simulator,
        running_stack(tmp_path_factory.mktemp("stack"), simulator) as running,
    ):
        yield running


@dataclass(frozen=True, slots=True)
class Version:
    """A built template, and the revision of the schema that it brings."""

    template: Path
    revision: str


@pytest.fixture(scope="module")
def first(deployed: Deployed) -> Version:
    """The version at hand, which is deployed."""
    newest = max(path.stem[:4] for path in (ROOT / "migrations/versions").glob("*.sql"))
    return Version(deployed.stack.folder / "build/template.yaml", newest)


@pytest.fixture(scope="module")
def later(deployed: Deployed, first: Version, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A later version: its workers say so, and there is a new column."""
    source = tmp_path_factory.mktemp("later")
    for name in ("functions", "layers", "migrations", "requirements"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("template.yaml", "monitoring.yaml"):
        shutil.copy(ROOT / name, source)
    replace(source / "functions/chunk_worker/app.py", '"message handled"', f'"{LATER}"')
    migrate(source / "migrations", "9000", "ALTER TABLE files ADD COLUMN later text DEFAULT 'yes';")
    replace(source / "template.yaml", f'SchemaVersion: "{first.revision}"', 'SchemaVersion: "9000"')
    return Version(deployed.stack.build(source, "later"), "9000")


@pytest.fixture(scope="module")
def broken(deployed: Deployed, later: Version) -> Version:
    """A version after it, as built: its migration fails half way."""
    folder = shutil.copytree(later.template.parent, deployed.stack.folder / "broken")
    sql = "ALTER TABLE files ADD COLUMN half integer; SELECT 1 / 0;"
    migrate(folder / "MigratorFunction/migrations", "9001", sql)
    replace(folder / "template.yaml", "SchemaVersion: '9000'", "SchemaVersion: '9001'")
    return Version(folder / "template.yaml", "9001")


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old} in {file}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def migrate(folder: Path, revision: str, sql: str) -> None:
    """One more migration."""
    (folder / f"versions/{revision}_more.sql").write_text(sql, encoding="utf-8")


def deploy(deployed: Deployed, version: Version) -> None:
    deployed.stack.deploy(deployed.stack.running() or {}, version.template)


def revision(deployed: Deployed) -> str:
    row = deployed.db.one("SELECT version_num FROM alembic_version")
    return str(row and row["version_num"])


def stored(deployed: Deployed) -> int:
    row = deployed.db.one("SELECT count(*) AS n FROM pull_requests WHERE detail_updated_at >= updated_at")
    return int(row["n"]) if row else 0


def columns(deployed: Deployed) -> set[str]:
    rows = deployed.db.rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'files'")
    return {row["column_name"] for row in rows}


def stack_status() -> str:
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"]
    return str(stack["StackStatus"])


def workers_say(text: str) -> bool:
    logs = boto3.client("logs").get_paginator("filter_log_events")
    pages = logs.paginate(logGroupName=f"/aws/lambda/{STACK_NAME}-chunk-worker")
    return any(f'"{text}"' in each["message"] for page in pages for each in page["events"])


def sync(deployed: Deployed, title: str) -> None:
    """A pull request is changed, and synchronised by the workers that are deployed."""
    (repository,) = deployed.simulator.repositories.values()
    number = max(repository.pull_requests)
    repository.pull_requests[number]["title"] = title
    deployed.functions.invoke("console", {"action": "sync", "repository": NAME, "pr_numbers": [number]})

    def is_stored() -> bool:
        return deployed.db.one("SELECT FROM pull_requests WHERE title = :title", title=title) is not None

    deployed.wait(f"{title!r} is stored", is_stored, 60)


@pytest.mark.timeout(900)
def test_a_deployment_in_the_middle_of_a_backfill_loses_nothing(
    deployed: Deployed, first: Version, later: Version
) -> None:
    assert revision(deployed) == first.revision
    deployed.functions.invoke("console", {"action": "add", "repository": NAME, "chunk_size": 10})
    deployed.wait("the backfill is under way", lambda: stored(deployed) >= 20, 120)
    deploy(deployed, later)
    assert 20 <= stored(deployed) < TOTAL, "the backfill ended before the deployment did"
    assert revision(deployed) == later.revision
    deployed.simulator.speed = FAST
    # The local AWS ends functions that run when it replaces their code; AWS lets them finish.
    deployed.finish(300)
    deployed.assert_whole()
    # The chunks that were left may all have been with workers of before, which the local AWS keeps until they are done.
    sync(deployed, "as the later version reads it")
    deployed.wait("both versions have worked", lambda: workers_say(LATER) and workers_say("message handled"), 60)


@pytest.mark.timeout(600)
def test_a_failed_migration_fails_the_deployment_with_its_reason_and_changes_nothing(
    deployed: Deployed, later: Version, broken: Version
) -> None:
    with pytest.raises(Failed):
        deploy(deployed, broken)
    client = boto3.client("cloudformation")
    events = client.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    reasons = [each["ResourceStatusReason"] for each in events if each["ResourceStatus"] == "UPDATE_FAILED"]
    assert reasons[0] == "Postgres: division by zero (22012); nothing was changed"
    assert stack_status() == "UPDATE_ROLLBACK_COMPLETE"
    assert revision(deployed) == later.revision
    assert "later" in columns(deployed) and "half" not in columns(deployed)
    sync(deployed, "Read by the version that was there")


@pytest.mark.timeout(600)
def test_the_way_back_works_on_the_newer_schema(deployed: Deployed, first: Version, later: Version) -> None:
    deploy(deployed, first)
    assert stack_status() == "UPDATE_COMPLETE"
    assert revision(deployed) == later.revision and "later" in columns(deployed)
    sync(deployed, "Read by older code")
    deployed.assert_whole()
