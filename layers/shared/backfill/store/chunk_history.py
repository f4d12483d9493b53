"""backfill_chunks as a person reads them: the newest of a backfill, with what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backfill.store.connection import Database

_NEWEST = """
    SELECT chunk_number, status, COALESCE(array_length(pr_numbers, 1), 0) AS pull_requests, attempts, created_at, started_at,
           completed_at, available_at, lease_expires_at, error_code, error
    FROM backfill_chunks
    WHERE backfill_state_id = CAST(:id AS uuid) AND (CAST(:status AS text) IS NULL OR status = CAST(:status AS text))
    ORDER BY chunk_number DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """``available_at``: not before. ``error`` is of the last attempt that did not succeed."""

    chunk_number: int
    status: str
    pull_requests: int
    attempts: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    available_at: datetime
    lease_expires_at: datetime | None
    error_code: str | None
    error: str | None


def newest(db: Database, backfill_id: str, limit: int, status: str | None) -> list[ChunkRecord]:
    """The newest first, of one status or of all."""
    return [ChunkRecord(**row) for row in db.rows(_NEWEST, id=backfill_id, limit=limit, status=status)]
