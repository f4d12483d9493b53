"""The SQL of users' runbooks runs unchanged and has its documented effect."""

from __future__ import annotations

import pytest
from pg8000.exceptions import DatabaseError

from backfill.store import chunks
from backfill.store.connection import Database
from migrations.runner import upgrade
from tests.integration.rows import backfill_of


def test_progress_of_active_backfills(db: Database) -> None:
    backfill_of(db, 1, 2)
    rows = db.rows("""
        SELECT r.owner || '/' || r.name AS repository, pbs.processed_prs || '/' || pbs.total_prs AS progress, pbs.status,
               pbs.last_processed_at FROM progressive_backfill_state pbs JOIN repositories r ON r.id = pbs.repository_id
               WHERE pbs.status = 'active';""")
    assert [(row["repository"], row["progress"], row["status"]) for row in rows] == [("octo/hello", "0/2", "active")]


def test_recent_chunks(db: Database) -> None:
    backfill = backfill_of(db, 1, 2, 3)
    chunks.create(db, backfill["id"], [1])
    chunks.create(db, backfill["id"], [2, 3])
    rows = db.rows(f"""
        SELECT chunk_number, status, array_length(pr_numbers, 1) AS pr_count, started_at, completed_at FROM backfill_chunks
               WHERE backfill_state_id = '{backfill["id"]}' ORDER BY chunk_number DESC LIMIT 10;""")
    assert [(row["chunk_number"], row["status"], row["pr_count"]) for row in rows] == [
        (2, "pending", 2),
        (1, "pending", 1),
    ]


def test_a_plain_pause_is_manual_and_a_plain_resume_forgets_it(db: Database) -> None:
    repository_id = backfill_of(db, 1)["repository_id"]
    db.execute(f"UPDATE progressive_backfill_state SET status = 'paused' WHERE repository_id = '{repository_id}';")
    paused = db.one("SELECT status, pause_reason FROM progressive_backfill_state")
    assert paused == {"status": "paused", "pause_reason": "manual"}
    db.execute(
        "UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0"
        f" WHERE repository_id = '{repository_id}';"
    )
    resumed = db.one("SELECT status, pause_reason, paused_until FROM progressive_backfill_state")
    assert resumed == {"status": "active", "pause_reason": None, "paused_until": None}


def test_priority_is_set_by_jsonb_set_and_a_wrong_one_is_refused(db: Database) -> None:
    repository_id = backfill_of(db, 1)["repository_id"]
    db.execute(
        """UPDATE progressive_backfill_state SET metadata = jsonb_set(metadata, '{priority}', '"high"')"""
        f" WHERE repository_id = '{repository_id}';"
    )
    assert db.one("SELECT priority FROM backfill_progress") == {"priority": "high"}
    with pytest.raises(DatabaseError, match="priority_is_high_normal_or_low"):
        db.execute("""UPDATE progressive_backfill_state SET metadata = jsonb_set(metadata, '{priority}', '"urgent"')""")
    with pytest.raises(DatabaseError, match='priority must be high, normal or low, and is "urgent"'):
        db.execute("""UPDATE progressive_backfill_state SET metadata = jsonb_set(metadata, '{priority}', '"urgent"')""")
    with pytest.raises(DatabaseError, match="metadata must be an object, and is 5"):
        db.execute("UPDATE progressive_backfill_state SET metadata = '5'")
    assert db.one("SELECT priority FROM backfill_progress") == {"priority": "high"}


def test_a_second_migration_applies_nothing(database_url: str) -> None:
    assert upgrade(database_url) == []
