"""Migrations from every earlier schema, with rows in every table: nothing is lost, and today's code continues with them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backfill.limits import Ask, Used
from backfill.messages import PlanEvent
from backfill.model import Dispatch, Waiting
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.in_process import Stack
from local.postgres import Postgres
from local.simulator import Simulator, generate
from migrations.runner import MigrationFailed, upgrade

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "migrations/versions").glob("*.sql"))
NAME = "octo/older"

# Rows as the first version wrote them: statements by the revision whose tables they need. Three pull requests are listed, one
# of them is detailed, and a chunk with the other two was sent and never worked on.
FILL = {
    "0001": [
        "INSERT INTO repositories (id, node_id, github_id, owner, name) VALUES"
        " ('11111111-1111-1111-1111-111111111111', :repository, 1, 'octo', 'older')",
        "INSERT INTO contributors (node_id, type, login) VALUES ('U_old', 'User', 'old')",
        "INSERT INTO pull_requests (repository_id, number, node_id, url, title, state, is_draft, locked, merged, created_at,"
        " updated_at, additions, deletions, changed_files, author_id, base_ref_name, head_ref_name, is_cross_repository,"
        " reviews_count, comments_count, commits_count, files_count)"
        " SELECT '11111111-1111-1111-1111-111111111111', number, node_id, 'u', 'old title', 'OPEN', false, false, false,"
        " '2000-01-01', '2000-01-01', 1, 1, 1, 'U_old', 'main', 'topic', false, 1, 1, 1, 1"
        " FROM jsonb_to_recordset(CAST(:pull_requests AS jsonb)) AS given (number integer, node_id text)",
        "UPDATE pull_requests SET detail_synced_at = now(), detail_updated_at = updated_at WHERE node_id = :detailed",
        "INSERT INTO reviews (node_id, repository_id, pull_request_number, state, url, created_at, updated_at)"
        " SELECT 'R_old', repository_id, number, 'APPROVED', 'u', '2000-01-01', '2000-01-01'"
        " FROM pull_requests WHERE node_id = :detailed",
        "INSERT INTO comments (node_id, kind, repository_id, pull_request_number, body, url, created_at, updated_at)"
        " SELECT 'C_old', 'issue_comment', repository_id, number, 'old', 'u', '2000-01-01', '2000-01-01'"
        " FROM pull_requests WHERE node_id = :detailed",
        "INSERT INTO files (repository_id, pull_request_number, path, change_type, additions, deletions)"
        " SELECT repository_id, number, 'old.txt', 'ADDED', 1, 1 FROM pull_requests WHERE node_id = :detailed",
    ],
    "0002": [
        "INSERT INTO progressive_backfill_state (id, repository_id, total_prs, metadata) VALUES"
        " ('22222222-2222-2222-2222-222222222222', '11111111-1111-1111-1111-111111111111', 3, '{\"priority\": \"high\"}')",
        "INSERT INTO backfill_chunks (id, backfill_state_id, repository_id, chunk_number, pr_numbers, sent_at, created_at)"
        " SELECT '33333333-3333-3333-3333-333333333333', '22222222-2222-2222-2222-222222222222',"
        " '11111111-1111-1111-1111-111111111111', 1, array_agg(number), now() - interval '1 day', now() - interval '1 day'"
        " FROM pull_requests WHERE detail_updated_at IS NULL",
        "UPDATE progressive_backfill_state SET next_chunk_number = 2",
    ],
    "0003": ["INSERT INTO github_budget (identity, points_limit, remaining) VALUES ('user:old', 5000, 4000)"],
}
TABLES = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(3, {NAME: 40}), speed=2000) as running:
        yield running


@pytest.fixture
def empty(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database without tables."""
    postgres.run("CREATE DATABASE earlier")
    yield postgres.url("earlier")
    postgres.run("DROP DATABASE earlier WITH (FORCE)")


def fill(db: Database, revision: str, simulator: Simulator) -> None:
    (repository,) = simulator.repositories.values()
    chosen = [{"number": n, "node_id": repository.pull_requests[n]["id"]} for n in sorted(repository.pull_requests)[:3]]
    values = {
        "repository": repository.node["id"],
        "pull_requests": json.dumps(chosen),
        "detailed": chosen[0]["node_id"],
    }
    for needed, statements in FILL.items():
        if needed <= revision:
            for statement in statements:
                db.execute(statement, **{name: value for name, value in values.items() if f":{name}" in statement})


def content(db: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the times that triggers keep themselves."""
    kept = {"progressive_backfill_state": "updated_at", "backfill_chunks": "updated_at"}
    return {
        table["name"]: [
            row["row"]
            for row in db.rows(
                f"SELECT to_jsonb(t) - CAST(:kept AS text) AS row FROM {table['name']} AS t",
                kept=kept.get(table["name"], ""),
            )
        ]
        for table in db.rows(TABLES)
        if table["name"] != "alembic_version"
    }


@pytest.mark.parametrize("revision", [name[:4] for name in NAMES[:-1]])
def test_a_filled_database_of_an_earlier_schema_is_brought_up_to_date_and_goes_on(
    empty: str, simulator: Simulator, revision: str
) -> None:
    assert upgrade(empty, to=revision) == [name for name in NAMES if name[:4] <= revision]
    db = Database(lambda: empty)
    fill(db, revision, simulator)
    before = content(db)
    assert before["pull_requests"]
    assert upgrade(empty) == [name for name in NAMES if name[:4] > revision]
    after = content(db)
    for table, rows in before.items():
        # A row may have more columns; what it held, it holds.
        kept = [{name: row[name] for name in rows[0]} for row in after[table]] if rows else []
        assert sorted(map(json.dumps, kept)) == sorted(map(json.dumps, rows)), table

    stack = Stack(db, simulator)
    stack.console.act({"action": "add", "repository": NAME})
    db.execute("UPDATE progressive_backfill_state SET examined_at = NULL")
    for _ in range(3):
        stack.run()
        stack.planner.plan(PlanEvent())
    # The chunk of the first version whose message is lost.
    for row in db.rows("SELECT id, dispatch_id FROM backfill_chunks WHERE status = 'pending'"):
        stack.queues.send_chunks([Waiting(Dispatch(row["id"], row["dispatch_id"]), 0)])
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    db.close()


def test_every_function_has_a_version_and_is_created_by_one_migration(empty: str) -> None:
    upgrade(empty)
    db = Database(lambda: empty)
    files = {path.stem for path in (ROOT / "migrations/functions").glob("*.sql")}
    text = "".join((ROOT / f"migrations/versions/{name}.sql").read_text(encoding="utf-8") for name in NAMES)
    included = re.findall(r"^-- include functions/(\w+)\.sql$", text, re.MULTILINE)
    assert sorted(included) == sorted(files) and all(re.search(r"_v\d+$", name) for name in files)
    created = {
        row["proname"] for row in db.rows("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    }
    assert files <= created
    db.close()


def test_a_role_for_the_functions_may_call_them_where_public_may_not_call_new_ones(
    postgres: Postgres, empty: str
) -> None:
    """As docs/deploying.md gives rights to the worker's role: on tables alone."""
    postgres.run("CREATE ROLE only_tables LOGIN")
    owner, worker = Database(lambda: empty), Database(lambda: empty.replace("postgres:@", "only_tables:@"))
    try:
        owner.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        owner.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO only_tables")
        upgrade(empty)
        assert worker.only("SELECT current_user AS who") == {"who": "only_tables"}
        ask, budget = Ask("user:somebody", 1, 1.0), PostgresBudget(worker)
        grant = budget.reserve(ask, 5.0)
        budget.settle(ask, grant, Used(1.0))
        assert grant.granted and budget.block("user:somebody", 30.0, "secondary")[1] == 30
    finally:
        worker.close()
        owner.execute("DROP OWNED BY only_tables")
        owner.close()
        postgres.run("DROP ROLE only_tables")


def test_a_failed_migration_changes_nothing_and_says_why(empty: str) -> None:
    upgrade(empty, to="0001")
    db = Database(lambda: empty)
    # What 0002 is about to create is there already.
    db.execute("CREATE TABLE backfill_chunks (mine integer)")
    with pytest.raises(
        MigrationFailed, match=r'relation "backfill_chunks" already exists \(42P07\); nothing was changed'
    ):
        upgrade(empty)
    assert db.one("SELECT version_num FROM alembic_version") == {"version_num": "0001"}
    assert {row["name"] for row in db.rows(TABLES)} & {"progressive_backfill_state", "github_budget"} == set()
    db.execute("DROP TABLE backfill_chunks")
    assert upgrade(empty) == NAMES[1:]
    db.close()


def test_a_schema_newer_than_the_code_is_left_alone(empty: str) -> None:
    upgrade(empty)
    db = Database(lambda: empty)
    db.execute("UPDATE alembic_version SET version_num = '9999'")
    assert upgrade(empty) == []
    assert db.one("SELECT version_num FROM alembic_version") == {"version_num": "9999"}
    db.close()


def test_two_migrators_at_once_migrate_once(empty: str) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from migrations.runner import upgrade; print(len(upgrade(sys.argv[1])))",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "layers/shared")))}
    migrators = [
        subprocess.Popen([*command, empty], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sorted(int(each.communicate(timeout=120)[0]) for each in migrators)[-1] == len(NAMES)
    assert [each.returncode for each in migrators] == [0, 0]
    assert upgrade(empty) == []


def test_a_migration_that_takes_too_long_gives_up_in_time(empty: str) -> None:
    upgrade(empty, to="0001")
    holder = Database(lambda: empty)
    with holder.transaction():
        holder.execute("LOCK TABLE pull_requests")
        with pytest.raises(MigrationFailed, match="canceling statement due to"):
            upgrade(empty, seconds=1)
    holder.close()
