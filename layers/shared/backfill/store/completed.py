"""When a backfill is completed, and the checks for changes of those that are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backfill.store.connection import Database

# Completed only if nothing is left at this instant: the listing and any refresh have ended, no listed pull request lacks its
# detail (failed ones wait for their retry), and no chunk is unfinished.
_SETTLE = """
    UPDATE progressive_backfill_state AS s SET status = 'completed'
    WHERE s.id = :id AND s.status = 'active' AND s.listing_completed_at IS NOT NULL
      AND s.scan_until IS NULL
      AND NOT EXISTS (SELECT FROM backfill_chunks AS c
                      WHERE c.backfill_state_id = s.id AND c.status IN ('pending', 'processing'))
      AND NOT EXISTS (SELECT FROM pull_requests_lacking_detail AS p WHERE p.repository_id = s.repository_id)
    RETURNING s.id
"""

# A check for changes held the lease too, and did not plan. Without planned_at the present round plans the backfill.
_REOPEN = """
    UPDATE progressive_backfill_state AS s SET status = 'active', planned_at = NULL
    WHERE s.id = ANY(:ids) AND s.status = 'completed'
      AND (s.listing_completed_at IS NULL OR s.scan_until IS NOT NULL OR EXISTS (
            SELECT FROM pull_request_numbers AS n WHERE n.repository_id = s.repository_id AND n.ask_again_at <= now())
        OR EXISTS (SELECT FROM pull_requests_lacking_detail AS p WHERE p.repository_id = s.repository_id))
    RETURNING s.id
"""

# The longest unchecked first. A check in the future was made before the database's clock was put back. Each repository by its key: what a run reads grows only with the number of its checks.
_TO_CHECK = """
    SELECT s.id, s.repository_id, s.total_prs, s.listed_prs, s.unlisted_prs, s.updates_watermark, r.node_id, r.owner
    FROM (SELECT * FROM progressive_backfill_state
          WHERE status = 'completed' AND (asked_at IS NULL OR asked_at NOT BETWEEN :before AND now() + interval '1 minute')
            AND (examined_at IS NULL OR examined_at NOT BETWEEN :before AND now() + interval '1 minute')
          ORDER BY asked_at NULLS FIRST LIMIT :limit) AS s
    CROSS JOIN LATERAL (SELECT node_id, owner FROM repositories WHERE id = s.repository_id OFFSET 0) AS r
    ORDER BY s.asked_at NULLS FIRST
"""

_NOTE_CHECKED = "UPDATE progressive_backfill_state SET examined_at = now(), asked_at = now() WHERE id = ANY(:ids)"

# Asked without an answer: the next round asks again. examined_at keeps the time at which GitHub last answered.
_NOTE_UNCHECKED = """
    UPDATE progressive_backfill_state SET asked_at = now(), last_error = :error, last_error_at = now(),
           error_count = error_count + 1
    WHERE id = :id
"""


@dataclass(frozen=True, slots=True)
class Resting:
    """A completed backfill whose check for changes is due."""

    id: str
    repository_id: str
    total_prs: int
    listed_prs: int
    unlisted_prs: int
    updates_watermark: datetime | None
    node_id: str
    owner: str


def settle(db: Database, backfill_id: str) -> bool:
    """Mark a backfill completed if nothing is left; True if it is now."""
    return db.one(_SETTLE, id=backfill_id) is not None


def reopen(db: Database, backfill_ids: Sequence[str]) -> list[str]:
    """Make completed backfills active if something is left; the ids of those that are now."""
    return [row["id"] for row in db.rows(_REOPEN, ids=list(backfill_ids))]


def to_check(db: Database, limit: int, before: datetime) -> list[Resting]:
    """Completed backfills that GitHub was not asked about since ``before``."""
    return [Resting(**row) for row in db.rows(_TO_CHECK, limit=limit, before=before)]


def note_checked(db: Database, backfill_ids: Sequence[str]) -> None:
    """GitHub answered about these just now."""
    db.execute(_NOTE_CHECKED, ids=list(backfill_ids))


def note_unchecked(db: Database, backfill_id: str, error: str) -> None:
    """GitHub was asked about this one, and did not answer for it."""
    db.execute(_NOTE_UNCHECKED, id=backfill_id, error=error)
