"""When a backfill is completed, and the checks for changes of those that are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

from backfill.store.connection import Database

# SQL, after SET: a pull request is read again, whether GitHub has changed it or not. What is stored of it stays until then.
READ_AGAIN = "detail_synced_at = NULL, detail_updated_at = NULL, read_again_at = NULL"

# Completed only if nothing is left at this instant: the listing and any refresh have ended, no listed pull request lacks its
# detail (failed ones wait for their retry), and no chunk is unfinished.
_SETTLE = """
    UPDATE progressive_backfill_state AS s SET status = 'completed', next_check_at = now()
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

# Incomplete pull requests whose time has come lack their detail again. Their repositories have work again, and so have those whose
# time has come for a failed pull request or a refused number.
_READ_AGAIN = f"""
    WITH locked AS (
        SELECT repository_id, number FROM pull_requests WHERE read_again_at <= now() AND gone_at IS NULL
        ORDER BY repository_id, number FOR UPDATE),
    again AS (
        UPDATE pull_requests AS p SET {READ_AGAIN}
        FROM locked AS l WHERE p.repository_id = l.repository_id AND p.number = l.number
        RETURNING p.repository_id)
    UPDATE progressive_backfill_state AS s SET status = 'active', planned_at = NULL
    WHERE s.status = 'completed' AND s.repository_id = ANY(ARRAY(
        SELECT repository_id FROM again
        UNION SELECT l.repository_id FROM pull_requests AS f
            JOIN pull_requests_lacking_detail AS l USING (repository_id, number) WHERE f.detail_failed_at IS NOT NULL
        UNION SELECT repository_id FROM pull_request_numbers WHERE ask_again_at <= now()))
"""

# What a check in vain moves behind the others, without hiding how late it is.
_TURN = "GREATEST(next_check_at, asked_at)"
# The oldest due first. A check in the future was made before the database's clock was put back. Each repository by its key:
# what a run reads grows only with the number of its checks.
_TO_CHECK = f"""
    SELECT s.id, s.repository_id, s.total_prs, s.listed_prs, s.unlisted_prs, s.updates_watermark, r.node_id, r.owner
    FROM ((SELECT *, {_TURN} AS turn FROM progressive_backfill_state
           WHERE status = 'completed' AND {_TURN} < :before ORDER BY {_TURN} LIMIT :limit)
          UNION ALL
          (SELECT *, asked_at FROM progressive_backfill_state
           WHERE status = 'completed' AND asked_at > now() + interval '1 minute' LIMIT :limit)) AS s
    CROSS JOIN LATERAL (SELECT node_id, owner FROM repositories WHERE id = s.repository_id OFFSET 0) AS r
    ORDER BY s.turn LIMIT :limit
"""

_NOTE_CHECKED = """
    UPDATE progressive_backfill_state SET examined_at = now(), asked_at = now(),
           next_check_at = now() + make_interval(
               secs => (CAST(:seconds AS float8[]))[array_position(CAST(:ids AS uuid[]), id)])
    WHERE id = ANY(CAST(:ids AS uuid[]))
"""

# Asked without an answer: the next round asks again. examined_at keeps the time at which GitHub last answered.
_NOTE_UNCHECKED = """
    UPDATE progressive_backfill_state SET asked_at = now(), last_error = :error, last_error_at = now(),
           error_count = error_count + 1
    WHERE id = :id
"""

# Null: this GitHub limits no points, or has not told its limit yet.
_POINTS_LEFT = """
    SELECT floor(CAST(:share AS float8) * b.points_limit) - COALESCE(h.check_points, 0) AS points
    FROM github_budget AS b
    LEFT JOIN github_hours AS h ON h.identity = b.identity AND h.hour = date_trunc('hour', now(), 'UTC')
    WHERE b.identity = :identity
"""
_NOTE_POINTS = """
    INSERT INTO github_hours (identity, hour, requests, server_seconds, check_points)
    VALUES (:identity, date_trunc('hour', now(), 'UTC'), 0, 0, :points)
    ON CONFLICT (hour, identity) DO UPDATE SET check_points = github_hours.check_points + EXCLUDED.check_points
"""

_WAITING = f"""
    SELECT count(*) AS due,
           CAST(COALESCE(GREATEST(0, EXTRACT(epoch FROM now() - min(next_check_at))), 0) AS float8) AS late_seconds,
           (SELECT CAST(COALESCE(sum(check_points), 0) AS integer) FROM github_hours
            WHERE hour = date_trunc('hour', now(), 'UTC')) AS points
    FROM progressive_backfill_state WHERE status = 'completed' AND {_TURN} < now()
"""


_DUE_BY_OWNER = f"""
    SELECT r.owner, count(*) AS due FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id
    WHERE s.status = 'completed' AND {_TURN} < now() GROUP BY r.owner
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """Completed backfills whose check is due, how late the oldest is, and the points that checks took in this hour of UTC."""

    due: int
    late_seconds: float
    points: int


def settle(db: Database, backfill_id: str) -> bool:
    """Mark a backfill completed if nothing is left; True if it is now."""
    return db.one(_SETTLE, id=backfill_id) is not None


def reopen(db: Database, backfill_ids: Sequence[str]) -> list[str]:
    """Make completed backfills active if something is left; the ids of those that are now."""
    return [row["id"] for row in db.rows(_REOPEN, ids=list(backfill_ids))]


def read_again(db: Database) -> int:
    """Make completed backfills active if a pull request is to be read again, whether GitHub has changed it or not; how many."""
    return db.execute(_READ_AGAIN)


def to_check(db: Database, limit: int, before: datetime) -> list[Resting]:
    """Completed backfills that were due ``before``, and that GitHub was not asked about since."""
    return [Resting(**row) for row in db.rows(_TO_CHECK, limit=limit, before=before)]


def note_checked(db: Database, seconds: Mapping[str, float]) -> None:
    """GitHub answered about these just now; the seconds until each is due again."""
    db.execute(_NOTE_CHECKED, ids=list(seconds), seconds=list(seconds.values()))


def note_unchecked(db: Database, backfill_id: str, error: str) -> None:
    """GitHub was asked about this one, and did not answer for it."""
    db.execute(_NOTE_UNCHECKED, id=backfill_id, error=error)


def points_left(db: Database, identity: str, share: float) -> float:
    """How many points of this hour are left for checks, if they may take this share of them."""
    row = db.one(_POINTS_LEFT, identity=identity, share=share)
    return inf if row is None or row["points"] is None else row["points"]


def note_points(db: Database, identity: str, points: int) -> None:
    """Checks took these."""
    db.execute(_NOTE_POINTS, identity=identity, points=points)


def waiting(db: Database) -> Waiting:
    """The checks that the next heartbeat has to do."""
    return Waiting(**db.only(_WAITING))


def due_by_owner(db: Database) -> dict[str, int]:
    """How many checks the next heartbeat has to do, by the owner of the repositories."""
    return {row["owner"]: row["due"] for row in db.rows(_DUE_BY_OWNER)}
