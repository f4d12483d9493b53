"""Timelines of pull requests: who reads them, and which pull requests were read without one.

What is marked lacks its detail, so that the planner cuts it into chunks like a changed pull request. What is stored of it stays
until it is read.

Two steps, so that none is forgotten. ``set_wish`` commits first: from then on, a worker that claims a chunk reads timelines. Then
``mark_some`` finds what was stored without. A worker that claimed before and stores afterwards marks its own pull requests
(``mark_if_wanted_since``): it holds the lock of the backfill by then, so it sees the wish, or ``set_wish`` waits for its COMMIT.
"""

from __future__ import annotations

from collections.abc import Sequence

from backfill.model import Lease
from backfill.store.completed import READ_AGAIN
from backfill.store.connection import Database
from backfill.store.leases import under

# Pull requests that one statement marks. The triggers on pull_requests read each of them twice.
MARKED_AT_ONCE = 2_000

_SET_WISH = """
    UPDATE progressive_backfill_state SET reads_timeline = :wish, timeline_to_mark = :wish
    WHERE id = :id AND planner_token = :token
    RETURNING *
"""

# Backfill.wants_timeline for many, in one statement.
_DIFFERING = """
    SELECT s.id FROM progressive_backfill_state AS s
    WHERE s.id = ANY(:ids) AND (s.timeline_to_mark OR s.reads_timeline <> CASE s.metadata ->> 'timeline'
        WHEN 'on' THEN true WHEN 'off' THEN false ELSE :default END)
"""

# SQL: whether the details of p were stored without the timeline of that time.
_LACKS_TIMELINE = "p.detail_updated_at IS NOT NULL AND p.timeline_updated_at IS DISTINCT FROM p.detail_updated_at"

_MARK_SOME = f"""
    WITH locked AS (
        SELECT p.number FROM pull_requests AS p
        WHERE p.repository_id = :repository_id AND p.gone_at IS NULL AND {_LACKS_TIMELINE}
        ORDER BY p.number LIMIT :most FOR UPDATE)
    UPDATE pull_requests AS p SET {READ_AGAIN}
    FROM locked AS l WHERE p.repository_id = :repository_id AND p.number = l.number
"""
_END_MARKING = """
    UPDATE progressive_backfill_state SET timeline_to_mark = false WHERE id = :id AND planner_token = :token RETURNING *
"""

_MARK_IF_WANTED_SINCE = f"""
    UPDATE pull_requests AS p SET {READ_AGAIN}
    WHERE p.repository_id = :repository_id AND p.number = ANY(:numbers) AND {_LACKS_TIMELINE}
      AND (SELECT s.reads_timeline FROM progressive_backfill_state AS s WHERE s.repository_id = p.repository_id)
"""


def differing(db: Database, backfill_ids: Sequence[str], default: bool) -> set[str]:
    """Those that read timelines and should not, or the other way round, and those that are not marked to the end."""
    return {row["id"] for row in db.rows(_DIFFERING, ids=list(backfill_ids), default=default)}


def set_wish(db: Database, lease: Lease, wish: bool) -> Lease:
    """Let workers read timelines, or no longer."""
    return under(db, lease, _SET_WISH, wish=wish)


def mark_some(db: Database, lease: Lease) -> Lease:
    """Mark pull requests that were read without a timeline. ``timeline_to_mark`` says whether there may be more."""
    marked = db.execute(_MARK_SOME, repository_id=lease.backfill.repository_id, most=MARKED_AT_ONCE)
    if marked == MARKED_AT_ONCE:
        return lease
    return under(db, lease, _END_MARKING)


def mark_if_wanted_since(db: Database, repository_id: str, numbers: Sequence[int]) -> None:
    """Mark what the present transaction stored without timelines, if they are wanted by now."""
    db.execute(_MARK_IF_WANTED_SINCE, repository_id=repository_id, numbers=list(numbers))
