"""A repository that is tracked no more: its backfill goes first, its data afterwards, in pieces."""

from __future__ import annotations

import time

from backfill.store.connection import Database

# Messages that were on their way when a repository was removed arrive within this time.
REMEMBERED_HOURS = 24
# Pull requests deleted in one transaction, with everything that hangs on them.
BATCH = 500

# Workers take the chunk before the backfill: so does this. A worker that is storing is waited for; one that comes later
# finds no chunk, and rolls back.
_UNFINISHED = """
    SELECT id FROM backfill_chunks WHERE repository_id = :id AND status IN ('pending', 'processing')
"""
_LOCK_CHUNKS = f"{_UNFINISHED} ORDER BY id FOR UPDATE"
_LOCK_BACKFILL = "SELECT id FROM progressive_backfill_state WHERE repository_id = :id FOR UPDATE"
_DELETE_BACKFILL = "DELETE FROM progressive_backfill_state WHERE repository_id = :id"
_DELETE_SOME = """
    DELETE FROM pull_requests AS p USING (
        SELECT repository_id, number FROM pull_requests WHERE repository_id = :id LIMIT :batch) AS chosen
    WHERE p.repository_id = chosen.repository_id AND p.number = chosen.number
      AND NOT EXISTS (SELECT FROM progressive_backfill_state AS s WHERE s.repository_id = p.repository_id)
"""
# With each batch: a number whose row is missing would be a gap of the backfill that is added again after an interruption.
_DELETE_NUMBERS = """
    DELETE FROM pull_request_numbers AS n WHERE n.repository_id = :id
      AND NOT EXISTS (SELECT FROM pull_requests AS p WHERE p.repository_id = n.repository_id AND p.number = n.number)
      AND NOT EXISTS (SELECT FROM progressive_backfill_state AS s WHERE s.repository_id = n.repository_id)
"""
# Somebody may add the repository again while its data is deleted. Its backfill would go with the repository's row: with the
# row locked no backfill can begin, and one that has begun keeps the row.
_LOCK_REPOSITORY = "SELECT id FROM repositories WHERE id = :id FOR UPDATE"
_DELETE_REPOSITORY = """
    DELETE FROM repositories AS r WHERE r.id = :id
      AND NOT EXISTS (SELECT FROM progressive_backfill_state AS s WHERE s.repository_id = r.id)
"""
_WAS_REMOVED = """
    SELECT FROM removed_repositories
    WHERE full_name = lower(:full_name) AND removed_at > now() - make_interval(hours => :hours)
"""


def remove_backfill(db: Database, repository_id: str) -> bool:
    """Delete the backfill of a repository and its chunks; False if there was none."""
    while True:
        with db.transaction():
            locked = {row["id"] for row in db.rows(_LOCK_CHUNKS, id=repository_id)}
            db.rows(_LOCK_BACKFILL, id=repository_id)
            # A planner may commit chunks between the two locks. They are locked before the backfill, too: begin again.
            if {row["id"] for row in db.rows(_UNFINISHED, id=repository_id)} <= locked:
                return db.execute(_DELETE_BACKFILL, id=repository_id) > 0


def delete_data(db: Database, repository_id: str, seconds: float) -> bool:
    """Delete a repository whose backfill is gone, and all its rows, for so long; True when nothing is left."""
    end = time.monotonic() + seconds
    while _delete_some(db, repository_id):
        if time.monotonic() > end:
            return False
    with db.transaction():
        db.rows(_LOCK_REPOSITORY, id=repository_id)
        db.execute(_DELETE_REPOSITORY, id=repository_id)
    return True


def _delete_some(db: Database, repository_id: str) -> bool:
    """Delete a batch of pull requests and their numbers; False if there was none."""
    with db.transaction():
        deleted = db.execute(_DELETE_SOME, id=repository_id, batch=BATCH)
        db.execute(_DELETE_NUMBERS, id=repository_id)
    return deleted > 0


def was_removed(db: Database, full_name: str) -> bool:
    """Whether messages about this name may be older than its removal."""
    return bool(db.rows(_WAS_REMOVED, full_name=full_name, hours=REMEMBERED_HOURS))
