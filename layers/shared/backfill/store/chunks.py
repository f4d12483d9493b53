"""Chunks: create, claim and fence them. Each transition is one statement, beside the race that it closes.

docs/architecture.md draws the states. ``conclusions`` ends a claim, ``dispatches`` sends, ``recoveries`` repairs.

Every transaction takes its locks in one order: chunk, contributors, labels, pull requests (by number), backfill,
pull_request_numbers. A chunk's members belong to the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pg8000.exceptions import DatabaseError

from backfill.errors import LeaseLost, Removed, Retryable, StaleClaim
from backfill.limits import LONGEST_LEASE_SECONDS, LONGEST_WINDOW_SECONDS
from backfill.model import Chunk, Dispatch, Origin
from backfill.outcomes import MAX_ATTEMPTS
from backfill.store.connection import Database

# SQL: whether chunk c of backfill s may run. A person's chunk runs whatever the backfill's state, unless a pause with an
# end says that GitHub refuses.
MAY_RUN = "(s.status = 'active' OR (c.origin = 'message' AND s.paused_until IS NULL))"

# SQL: whether the claim of a processing chunk has expired. A lease that ends later than any lease can was taken before the
# database's clock was put back.
IS_EXPIRED = f"(lease_expires_at NOT BETWEEN now() AND now() + interval '{LONGEST_LEASE_SECONDS} seconds')"
# SQL: whether the time of a chunk has come, or lies further ahead than GitHub's window of points. Such a time is of a clock
# that was put back, or of a longer limit: then the governor defers the chunk again, without a request.
_IS_DUE = (
    f"(available_at NOT BETWEEN now() + interval '2 seconds' AND now() + interval '{LONGEST_WINDOW_SECONDS} seconds')"
)

# The primary key of backfill_chunk_members refuses a number that another unfinished chunk holds. The backfill row counts
# the chunks, and its lock makes two creators wait for each other. A planner that lost its lease chose its numbers too long
# ago: they may be stored by now, and the backfill completed.
# A worker that ends a chunk deletes its members and then locks the backfill: wait for that chunk before the backfill is locked.
_CREATE = """
    WITH held AS (
        SELECT c.id FROM backfill_chunks AS c
        WHERE c.id IN (SELECT m.chunk_id FROM backfill_chunk_members AS m
                       WHERE m.backfill_state_id = :backfill_id AND m.number = ANY(:pr_numbers))
        ORDER BY c.id FOR UPDATE OF c),
    numbered AS (
        UPDATE progressive_backfill_state SET next_chunk_number = next_chunk_number + 1
        WHERE id = :backfill_id AND (SELECT count(*) FROM held) >= 0
          AND (CAST(:planner_token AS uuid) IS NULL OR planner_token = :planner_token)
        RETURNING id, repository_id, next_chunk_number - 1 AS chunk_number)
    INSERT INTO backfill_chunks (backfill_state_id, repository_id, chunk_number, pr_numbers, origin)
    SELECT id, repository_id, chunk_number, :pr_numbers, :origin FROM numbered
    RETURNING *
"""

# One worker wins: the row lock makes the second wait, and then its predicate fails (duplicate message, older dispatch).
# The redelivered message of a dead worker finds its own dispatch, processing, with an expired lease: it takes the claim over.
# FOR SHARE of the backfill orders a pause and a claim: after a committed pause nothing is claimed.
# The chunk is locked first: a late worker that stores holds it, and locks the backfill later.
_CLAIM = f"""
    WITH chunk AS MATERIALIZED (
        SELECT id, backfill_state_id FROM backfill_chunks WHERE id = :id FOR UPDATE),
    backfill AS MATERIALIZED (
        SELECT s.id, s.status, s.paused_until, s.reads_timeline FROM progressive_backfill_state AS s
        WHERE s.id = (SELECT backfill_state_id FROM chunk) FOR SHARE OF s)
    UPDATE backfill_chunks AS c SET
        status = 'processing', claim_token = gen_random_uuid(), started_at = now(), attempts = attempts + 1,
        lease_expires_at = now() + make_interval(secs => :lease_seconds), sent_at = COALESCE(sent_at, now())
    FROM backfill AS s
    WHERE c.id = :id AND s.id = c.backfill_state_id AND c.dispatch_id = :dispatch_id
      AND (c.status = 'pending' OR (c.status = 'processing' AND {IS_EXPIRED}))
      AND {MAY_RUN} AND c.attempts < :max_attempts
      AND {_IS_DUE}
    RETURNING c.*, s.reads_timeline
"""

# A worker that lost the claim (recovery took the chunk back) gets no row, and rolls everything back. The lock is kept to
# the end of the transaction, so recovery skips the chunk while its work is being stored.
_FENCE = """
    SELECT now() AS now FROM backfill_chunks
    WHERE id = :id AND claim_token = :claim_token AND status = 'processing'
    FOR UPDATE
"""

_OUTSTANDING = """
    SELECT count(*) FILTER (WHERE origin = 'planner') AS planned, count(*) AS total FROM backfill_chunks
    WHERE backfill_state_id = :backfill_id AND status IN ('pending', 'processing')
"""


class InAnotherChunk(Retryable):
    """One of the pull requests is in another unfinished chunk of the backfill."""


@dataclass(frozen=True, slots=True)
class Outstanding:
    """Unfinished chunks of a backfill: ``planned`` by the planner, and in ``total``."""

    planned: int = 0
    total: int = 0


def create(
    db: Database,
    backfill_id: str,
    pr_numbers: Sequence[int],
    *,
    origin: Origin = Origin.PLANNER,
    planner_token: str | None = None,
) -> Chunk:
    """Insert a pending chunk, which is its own outbox record. A planner creates it under its lease, ``planner_token``.

    Raises InAnotherChunk, LeaseLost and Removed.
    """
    asked = {"backfill_id": backfill_id, "pr_numbers": list(pr_numbers)}
    try:
        row = db.one(_CREATE, **asked, origin=origin, planner_token=planner_token)
    except DatabaseError as error:
        if error.args[0].get("n") == "backfill_chunk_members_pkey":
            raise InAnotherChunk(f"backfill {backfill_id}: one of {list(pr_numbers)} is in another chunk") from error
        raise
    if row is not None:
        return Chunk.from_row(row)
    if planner_token is not None:
        raise LeaseLost
    raise Removed(f"backfill {backfill_id} does not exist")


def claim(db: Database, dispatch: Dispatch, lease_seconds: float) -> Chunk | None:
    """Take a chunk for ``lease_seconds``; None for a duplicate, a stale message, or a backfill that is not active."""
    row = db.one(
        _CLAIM,
        id=dispatch.chunk_id,
        dispatch_id=dispatch.dispatch_id,
        lease_seconds=lease_seconds,
        max_attempts=MAX_ATTEMPTS,
    )
    return Chunk.from_row(row) if row else None


def get(db: Database, chunk_id: str) -> Chunk | None:
    """A chunk by uuid."""
    row = db.one("SELECT * FROM backfill_chunks WHERE id = :id", id=chunk_id)
    return Chunk.from_row(row) if row else None


def fence(db: Database, chunk: Chunk) -> datetime:
    """Inside a transaction: keep the claim to its end; the transaction's time. Raises StaleClaim."""
    row = db.one(_FENCE, id=chunk.id, claim_token=chunk.claim_token)
    if row is None:
        raise StaleClaim(f"chunk {chunk.id} was taken back from this worker")
    now: datetime = row["now"]
    return now


def outstanding(db: Database, backfill_id: str) -> Outstanding:
    """How many chunks of a backfill are unfinished."""
    row = db.one(_OUTSTANDING, backfill_id=backfill_id)
    return Outstanding(**row) if row else Outstanding()
