"""Recovery's statements: requeue chunks whose worker or message is gone, count what a run would do, clean up."""

from __future__ import annotations

from backfill.limits import LONGEST_WINDOW_SECONDS
from backfill.model import Chunk, ChunkStatus, Dispatch
from backfill.outcomes import MAX_ATTEMPTS
from backfill.store.chunks import IS_EXPIRED, MAY_RUN
from backfill.store.conclusions import fail_members
from backfill.store.connection import Database

# Lambda ends every function after 15 minutes: a chunk that began longer ago has no worker, whatever its lease says.
LONGEST_LIFE_MINUTES = 16

# A claim has expired if it is older than the threshold and its lease has ended. A low threshold does not rob a living worker.
# A start in the future is of a clock that was put back.
_EXPIRED = f"""status = 'processing'
          AND started_at NOT BETWEEN now() - make_interval(mins => :threshold_minutes) AND now() + interval '1 minute'
          AND ({IS_EXPIRED} OR started_at < now() - make_interval(mins => {LONGEST_LIFE_MINUTES}))"""

# Sent, and never claimed. A long queue is not loss: either the queue is empty, or chunks that were sent well after this
# one were claimed already.
_LOST = f"""c.status = 'pending' AND c.sent_at IS NOT NULL
          AND GREATEST(c.sent_at, c.available_at) NOT BETWEEN now() - make_interval(mins => :threshold_minutes)
                                                          AND now() + interval '{LONGEST_WINDOW_SECONDS} seconds'
          AND {MAY_RUN}
          AND (:queue_is_empty OR GREATEST(c.sent_at, c.available_at) + make_interval(mins => :threshold_minutes) < (
                SELECT max(later.sent_at) FROM backfill_chunks AS later
                WHERE later.started_at IS NOT NULL AND later.status IN ('processing', 'completed')))"""

# One statement with all predicates: a worker that is storing holds the row lock and is skipped; one that finished in
# between no longer matches; two recoveries skip each other's rows. The fence stops the late worker.
_REQUEUE_EXPIRED = f"""
    WITH expired AS (
        SELECT id FROM backfill_chunks
        WHERE {_EXPIRED}
        ORDER BY started_at LIMIT :limit
        FOR UPDATE SKIP LOCKED)
    UPDATE backfill_chunks AS c SET
        status = CASE WHEN c.attempts < :max_attempts THEN 'pending' ELSE 'failed' END,
        failed_at = CASE WHEN c.attempts < :max_attempts THEN NULL ELSE now() END,
        claim_token = NULL, lease_expires_at = NULL, sent_at = NULL, dispatch_id = gen_random_uuid(), available_at = now(),
        error = 'no word from its worker for ' || :threshold_minutes || ' minutes', error_code = 'stale'
    FROM expired WHERE c.id = expired.id
    RETURNING c.*
"""

# The fresh dispatch makes the old message harmless if it comes after all.
_REQUEUE_LOST = f"""
    WITH lost AS (
        SELECT c.id FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
        WHERE {_LOST}
        ORDER BY c.sent_at LIMIT :limit
        FOR UPDATE OF c SKIP LOCKED)
    UPDATE backfill_chunks AS c SET sent_at = NULL, dispatch_id = gen_random_uuid()
    FROM lost WHERE c.id = lost.id
    RETURNING c.id
"""

# A dead letter is matched by its dispatch, so a finished or redispatched chunk matches nothing. Receives are not attempts:
# only a claim counts one. Without attempts left the chunk has failed.
_REQUEUE_DEAD = f"""
    UPDATE backfill_chunks SET
        status = CASE WHEN attempts < :max_attempts THEN 'pending' ELSE 'failed' END,
        failed_at = CASE WHEN attempts < :max_attempts THEN NULL ELSE now() END, claim_token = NULL, lease_expires_at = NULL, sent_at = NULL,
        dispatch_id = gen_random_uuid(), available_at = GREATEST(available_at, now()),
        error = 'its message ended in the dead-letter queue', error_code = 'dead_letter'
    WHERE id = :chunk_id AND dispatch_id = :dispatch_id
      AND (status = 'pending' OR (status = 'processing' AND {IS_EXPIRED}))
    RETURNING *
"""

_OLD = "status = 'completed' AND completed_at < now() - make_interval(days => :days)"
_CLEAN_UP = f"""
    WITH old AS (
        SELECT id FROM backfill_chunks
        WHERE {_OLD}
        ORDER BY completed_at LIMIT :batch FOR UPDATE SKIP LOCKED)
    DELETE FROM backfill_chunks AS c USING old WHERE c.id = old.id
"""

# Without locks, for a dry run.
_COUNT = f"""
    SELECT (SELECT count(*) FROM backfill_chunks WHERE {_EXPIRED} AND attempts < :max_attempts) AS requeued,
           (SELECT count(*) FROM backfill_chunks WHERE {_EXPIRED} AND attempts >= :max_attempts) AS failed,
           (SELECT count(*) FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
            WHERE {_LOST}) AS lost,
           (SELECT count(*) FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
            WHERE c.status = 'pending' AND c.sent_at IS NULL AND {MAY_RUN}) AS unsent,
           (SELECT count(*) FROM backfill_chunks WHERE {_OLD}) AS old
"""


def requeue_expired(db: Database, threshold_minutes: int, limit: int) -> list[Chunk]:
    """Inside a transaction: requeue, or fail, chunks whose claim has expired; the chunks as they are now."""
    rows = db.rows(_REQUEUE_EXPIRED, threshold_minutes=threshold_minutes, limit=limit, max_attempts=MAX_ATTEMPTS)
    taken = [Chunk.from_row(row) for row in rows]
    fail_members(db, *(each.id for each in taken if each.status is ChunkStatus.FAILED))
    return taken


def requeue_lost(db: Database, threshold_minutes: int, limit: int, *, queue_is_empty: bool) -> int:
    """Give chunks whose message was lost back to the outbox; how many."""
    return len(db.rows(_REQUEUE_LOST, threshold_minutes=threshold_minutes, limit=limit, queue_is_empty=queue_is_empty))


def requeue_dead(db: Database, dispatch: Dispatch) -> Chunk | None:
    """Inside a transaction: requeue, or fail, the chunk of a dead letter; None if the letter is not its current message."""
    row = db.one(_REQUEUE_DEAD, chunk_id=dispatch.chunk_id, dispatch_id=dispatch.dispatch_id, max_attempts=MAX_ATTEMPTS)
    if row is None:
        return None
    chunk = Chunk.from_row(row)
    if chunk.status is ChunkStatus.FAILED:
        fail_members(db, chunk.id)
    return chunk


def clean_up(db: Database, days: int, batch: int) -> int:
    """Delete one batch of old completed chunks; how many."""
    return db.execute(_CLEAN_UP, days=days, batch=batch)


def recoverable(db: Database, threshold_minutes: int, cleanup_days: int, *, queue_is_empty: bool) -> dict[str, int]:
    """How many chunks a recovery would requeue, fail, send and delete now, by reading only."""
    limits = {"threshold_minutes": threshold_minutes, "days": cleanup_days, "max_attempts": MAX_ATTEMPTS}
    (row,) = db.rows(_COUNT, **limits, queue_is_empty=queue_is_empty)
    return row
