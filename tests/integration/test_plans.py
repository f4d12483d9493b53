"""No statement of a chunk's life, of the planner or of the status reads a large table from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.scale import RecordingDatabase, large_scans, load, operate
from local.postgres import Postgres
from local.simulator import generate


@pytest.fixture(scope="module")
def operated(newest_postgres: Postgres) -> Iterator[RecordingDatabase]:
    """Every statement was run, on a database of which one repository holds a large part."""
    newest_postgres.run("CREATE DATABASE plans TEMPLATE migrated")
    load(newest_postgres.url("plans"), 20_000, 5_000)
    with closing(RecordingDatabase(lambda: newest_postgres.url("plans"))) as db:
        operate(db, generate(3, {"octo/real": 120})[0], repetitions=2)
        yield db
    newest_postgres.run("DROP DATABASE plans WITH (FORCE)")


def test_hot_statements_read_large_tables_by_index(operated: RecordingDatabase) -> None:
    assert len(operated.statements) > 30
    assert large_scans(operated) == {}


def test_a_sequential_scan_of_a_large_table_is_seen(operated: RecordingDatabase) -> None:
    sql = "SELECT count(*) FROM backfill_chunks WHERE created_at::text = :moment"
    operated.rows(sql, moment="never")
    assert large_scans(operated).pop(sql) == ["backfill_chunks"]
    del operated.statements[sql]
