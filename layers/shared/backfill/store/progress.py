"""How far backfills are: counts, rates and rows for the status and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from backfill.store.connection import Database, Row

# An active backfill without progress for this long is stalled: no budget window of GitHub's is longer than an hour.
STALLED_HOURS = 2
# A completed one whose check for changes is later than this is unchecked: six heartbeats of the default schedule did not reach
# it.
UNCHECKED_HOURS = 3

# Chosen first: what the view counts is counted for these alone.
_PROGRESS = """
    WITH chosen AS MATERIALIZED (
        SELECT id, repository_id, chunk_size, requests_made, listing_completed_at, scan_until, created_at, last_error_at, progressed_at,
               status = 'active' AND progressed_at < now() - make_interval(hours => :stalled_hours) AS stalled,
               COALESCE(examined_at, listing_completed_at, created_at) AS checked_at,
               next_check_at,
               status = 'completed' AND next_check_at < now() - make_interval(hours => :unchecked_hours) AS unchecked,
               row_number() OVER (ORDER BY CASE WHEN CAST(:after_id AS uuid) IS NOT NULL THEN 0
                                                WHEN status = 'active' THEN 0 WHEN status = 'paused' THEN 1 ELSE 2 END,
                                           CASE WHEN CAST(:after_id AS uuid) IS NULL THEN last_processed_at END
                                               DESC NULLS LAST, id) AS place
        FROM progressive_backfill_state
        WHERE (CAST(:repository_id AS uuid) IS NULL OR repository_id = CAST(:repository_id AS uuid))
          AND (CAST(:after_id AS uuid) IS NULL OR id > CAST(:after_id AS uuid))
        ORDER BY place LIMIT :limit)
    SELECT p.*, (SELECT url FROM repositories WHERE id = s.repository_id) AS url, s.id AS backfill_id, s.chunk_size, s.requests_made, s.listing_completed_at, s.scan_until, s.created_at,
           s.last_error_at, s.progressed_at, s.stalled, s.checked_at, s.next_check_at, s.unchecked,
           CAST(GREATEST(0, EXTRACT(epoch FROM now() - s.checked_at)) AS float8) AS check_age_seconds,
           c.pending, c.processing, c.failed, c.expired_leases, c.due, c.next_at, c.next_code, c.next_error
    FROM chosen AS s
    JOIN backfill_progress AS p ON p.repository_id = s.repository_id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
               count(*) FILTER (WHERE status = 'processing') AS processing,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(*) FILTER (WHERE status = 'processing' AND lease_expires_at < now()) AS expired_leases,
               count(*) FILTER (WHERE status = 'pending' AND available_at <= now()) AS due,
               min(available_at) FILTER (WHERE status = 'pending') AS next_at,
               (array_agg(error_code ORDER BY available_at) FILTER (WHERE status = 'pending'))[1] AS next_code,
               (array_agg(error ORDER BY available_at) FILTER (WHERE status = 'pending'))[1] AS next_error
        FROM backfill_chunks WHERE backfill_state_id = s.id AND status <> 'completed') AS c
    ORDER BY s.place
"""

_STORED = """
    SELECT (SELECT count(*) FROM reviews WHERE repository_id = :repository_id) AS reviews,
           (SELECT count(*) FROM comments WHERE repository_id = :repository_id AND kind = 'issue_comment')
               AS issue_comments,
           (SELECT count(*) FROM comments WHERE repository_id = :repository_id AND kind = 'review_comment')
               AS review_comments,
           (SELECT count(*) FROM commits WHERE repository_id = :repository_id) AS commits,
           (SELECT count(*) FROM files WHERE repository_id = :repository_id) AS files
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """A row of backfill_progress (docs/data.md), with the state of its backfill and of its chunks.

    ``next_…`` are of the pending chunk that comes next.
    """

    repository_id: str
    repository: str
    url: str | None
    status: str
    priority: str | None
    total_prs: int
    listed_prs: int
    processed_prs: int
    failed_prs: int
    incomplete_prs: int
    percent: Decimal | None
    points_spent: int
    prs_per_hour: Decimal | None
    waiting_until: datetime | None
    estimated_finish: datetime | None
    pause_reason: str | None
    paused_until: datetime | None
    consecutive_errors: int
    last_error: str | None
    last_processed_at: datetime | None
    backfill_id: str
    chunk_size: int
    requests_made: int
    listing_completed_at: datetime | None
    scan_until: datetime | None
    created_at: datetime
    last_error_at: datetime | None
    progressed_at: datetime
    stalled: bool
    checked_at: datetime
    check_age_seconds: float
    next_check_at: datetime
    unchecked: bool
    pending: int
    processing: int
    failed: int
    expired_leases: int
    due: int
    next_at: datetime | None
    next_code: str | None
    next_error: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of the statement. A newer schema's view may have more columns."""
        return cls(**{name: row[name] for name in cls.__slots__})


def rows(db: Database, repository_id: str | None, limit: int, after_id: str | None = None) -> list[Progress]:
    """One repository or all: active first, then paused, then completed, in the order of their last progress.

    With ``after_id`` they come in the order of their ids, from the next one on.
    """
    found = db.rows(
        _PROGRESS,
        repository_id=repository_id,
        after_id=after_id,
        stalled_hours=STALLED_HOURS,
        unchecked_hours=UNCHECKED_HOURS,
        limit=limit,
    )
    return [Progress.from_row(row) for row in found]


def counts(db: Database) -> dict[str, int]:
    """How many backfills are active, paused and completed."""
    found = db.rows("SELECT status, count(*) AS backfills FROM progressive_backfill_state GROUP BY status")
    return {**dict.fromkeys(("active", "paused", "completed"), 0), **{row["status"]: row["backfills"] for row in found}}


def stored(db: Database, repository_id: str) -> Row:
    """How many rows of each kind are stored for a repository."""
    return db.one(_STORED, repository_id=repository_id) or {}
