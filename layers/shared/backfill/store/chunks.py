"""The life of a chunk: every transition is one statement, beside the race that it closes (docs/architecture.md).

    pending ──claim──→ processing ──→ completed
       ↑                   │  └─────→ failed
       └── release / defer / recovery ┘

Locks are taken in one order everywhere: chunk, contributors, labels, pull requests (by number), backfill,
pull_request_numbers. A chunk's members go with the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pg8000.exceptions import DatabaseError

from backfill.errors import LeaseLost, Removed, Retryable, StaleClaim
from backfill.outcomes import MAX_ATTEMPTS
from backfill.store.connection import Database, Row

# SQL: whether chunk c of backfill s may run. A chunk that a person asked for runs whatever the backfill's state, unless a pause
# with an end says that GitHub refuses.
MAY_RUN = "(s.status = 'active' OR (c.origin = 'message' AND s.paused_until IS NULL))"
# Lambda ends every function after 15 minutes: a chunk that began longer ago has no worker, whatever its lease says.
LONGEST_LIFE_MINUTES = 16

# Numbers that another unfinished chunk holds are refused by the primary key of backfill_chunk_members. The counter of
# the backfill row gives the chunk number, and its row lock makes two creators queue up. A planner whose lease another one
# took over meanwhile chose its numbers too long ago: they may be stored by now, and the backfill completed.
# A worker that ends a chunk deletes its members and then locks the backfill: wait for it before the backfill is locked.
_CREATE = """
    WITH held AS (
        SELECT c.id FROM backfill_chunks AS c
        WHERE c.id IN (SELECT m.chunk_id FROM backfill_chunk_members AS m
                       WHERE m.backfill_state_id = CAST(:backfill_id AS uuid) AND m.number = ANY(CAST(:pr_numbers AS integer[])))
        ORDER BY c.id FOR UPDATE OF c),
    numbered AS (
        UPDATE progressive_backfill_state SET next_chunk_number = next_chunk_number + 1
        WHERE id = CAST(:backfill_id AS uuid) AND (SELECT count(*) FROM held) >= 0
          AND (CAST(:planner_token AS uuid) IS NULL OR planner_token = CAST(:planner_token AS uuid))
        RETURNING id, repository_id, next_chunk_number - 1 AS chunk_number)
    INSERT INTO backfill_chunks (backfill_state_id, repository_id, chunk_number, pr_numbers, origin)
    SELECT id, repository_id, chunk_number, CAST(:pr_numbers AS integer[]), :origin FROM numbered
    RETURNING *
"""

# The outbox. A chunk of an active backfill that is due and was never handed to SQS; a chunk that a person asked for is
# sent whatever the backfill's state. Two senders at once may both send it: the second message is a duplicate, which
# the claim ignores.
_TO_SEND = f"""
    SELECT c.id, c.dispatch_id, GREATEST(0, ceil(EXTRACT(epoch FROM c.available_at - now()))) AS wait_seconds
    FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
    WHERE c.status = 'pending' AND c.sent_at IS NULL AND {MAY_RUN}
      AND (CAST(:backfill_id AS uuid) IS NULL OR c.backfill_state_id = CAST(:backfill_id AS uuid))
      AND (CAST(:chunk_id AS uuid) IS NULL OR c.id = CAST(:chunk_id AS uuid))
    ORDER BY c.available_at, c.created_at, c.chunk_number
    LIMIT :limit
"""

# Guarded by the dispatch: a chunk that was requeued since has another message, which this one must not call sent. Two
# senders that mark the same chunks lock them in the same order.
_MARK_SENT = """
    WITH accepted AS (
        SELECT c.id FROM backfill_chunks AS c
        JOIN unnest(CAST(:ids AS uuid[]), CAST(:dispatch_ids AS uuid[])) AS a(id, dispatch_id)
          ON a.id = c.id AND a.dispatch_id = c.dispatch_id
        WHERE c.status = 'pending' AND c.sent_at IS NULL
        ORDER BY c.id FOR UPDATE OF c)
    UPDATE backfill_chunks AS c SET sent_at = now() FROM accepted WHERE c.id = accepted.id
"""

# One worker wins: the row lock makes the second wait, and then its predicate fails (duplicate message, older dispatch).
# The redelivered message of a worker that died finds its own dispatch, processing, with an expired lease: it takes over.
# FOR SHARE of the backfill makes a pause and a claim follow each other: after a committed pause nothing is claimed.
# The chunk is locked first: a late worker that stores holds it, and locks the backfill later.
_CLAIM = f"""
    WITH chunk AS MATERIALIZED (
        SELECT id, backfill_state_id FROM backfill_chunks WHERE id = CAST(:id AS uuid) FOR UPDATE),
    backfill AS MATERIALIZED (
        SELECT s.id, s.status, s.paused_until FROM progressive_backfill_state AS s
        WHERE s.id = (SELECT backfill_state_id FROM chunk) FOR SHARE OF s)
    UPDATE backfill_chunks AS c SET
        status = 'processing', claim_token = gen_random_uuid(), started_at = now(), attempts = attempts + 1,
        lease_expires_at = now() + make_interval(secs => :lease_seconds), sent_at = COALESCE(sent_at, now())
    FROM backfill AS s
    WHERE c.id = CAST(:id AS uuid) AND s.id = c.backfill_state_id AND c.dispatch_id = CAST(:dispatch_id AS uuid)
      AND (c.status = 'pending' OR (c.status = 'processing' AND c.lease_expires_at < now()))
      AND {MAY_RUN} AND c.attempts < :max_attempts
      AND c.available_at <= now() + interval '2 seconds'
    RETURNING c.*
"""

# The message arrived while the backfill is paused: the chunk goes back to the outbox, which sends it after the resume. So does the
# chunk of a worker that died, whose message comes back during the pause: nobody else would bring it back.
_UNSEND = f"""
    UPDATE backfill_chunks AS c SET status = 'pending', claim_token = NULL, lease_expires_at = NULL, sent_at = NULL,
           dispatch_id = gen_random_uuid()
    FROM progressive_backfill_state AS s
    WHERE s.id = c.backfill_state_id
      AND NOT {MAY_RUN}
      AND c.id = CAST(:id AS uuid) AND c.dispatch_id = CAST(:dispatch_id AS uuid)
      AND (c.status = 'pending' OR (c.status = 'processing' AND c.lease_expires_at < now() AND c.attempts < :max_attempts))
"""

# SQS delays a message by 15 minutes at most: one that comes too early is sent again, with the rest of the wait. So is
# one whose time came between the refused claim and this look: it is the chunk's only message.
_EARLY = """
    SELECT CAST(GREATEST(1, ceil(EXTRACT(epoch FROM available_at - now()))) AS integer) AS wait_seconds FROM backfill_chunks
    WHERE id = CAST(:id AS uuid) AND dispatch_id = CAST(:dispatch_id AS uuid) AND status = 'pending'
      AND attempts < :max_attempts
"""

# The fence: whoever lost the claim (recovery took the chunk back) gets no row, and rolls back everything. The lock is
# kept to the end of the transaction, so that recovery skips the chunk while its work is being stored.
_FENCE = """
    SELECT id FROM backfill_chunks
    WHERE id = CAST(:id AS uuid) AND claim_token = CAST(:claim_token AS uuid) AND status = 'processing'
    FOR UPDATE
"""

_COMPLETE = """
    UPDATE backfill_chunks SET status = 'completed', completed_at = now(), claim_token = NULL, lease_expires_at = NULL,
           points = points + :points, requests = requests + :requests,
           error = CAST(:error AS text), error_code = CAST(:error_code AS text)
    WHERE id = CAST(:id AS uuid) AND claim_token = CAST(:claim_token AS uuid) AND status = 'processing'
    RETURNING id
"""

# Back to pending with another dispatch. A deferral gives its attempt back: a limit is not an error. Attempts do not end a
# chunk that is only ever deferred, so its wait is at least 1 s, 2 s, 4 s … 15 minutes. What a chunk does not
# keep goes into a chunk of its own, in the same transaction.
_RELEASE = """
    UPDATE backfill_chunks SET status = 'pending', claim_token = NULL, lease_expires_at = NULL, sent_at = NULL,
           dispatch_id = gen_random_uuid(), attempts = attempts - :attempts_back,
           pr_numbers = COALESCE(CAST(:keep AS integer[]), pr_numbers),
           deferrals = deferrals + :attempts_back,
           available_at = GREATEST(now() + make_interval(secs => :attempts_back * LEAST(900, 2 ^ LEAST(deferrals, 10))),
                                   CAST(:available_at AS timestamptz)),
           points = points + :points, requests = requests + :requests,
           error = CAST(:error AS text), error_code = CAST(:error_code AS text)
    WHERE id = CAST(:id AS uuid) AND claim_token = CAST(:claim_token AS uuid) AND status = 'processing'
    RETURNING id
"""

_FAIL = """
    UPDATE backfill_chunks SET status = 'failed', failed_at = now(), claim_token = NULL, lease_expires_at = NULL,
           points = points + :points, requests = requests + :requests, error = :error, error_code = :error_code
    WHERE id = CAST(:id AS uuid) AND claim_token = CAST(:claim_token AS uuid) AND status = 'processing'
    RETURNING id
"""

# Recovery, one statement with all its predicates: a worker that is storing holds the row lock and is skipped; one that
# finished in between no longer matches; two recoveries skip each other's rows. The fence stops the late worker. A low
# threshold does not rob a living worker: its lease must have ended too, or no function can live that long.
_RECOVER_STALE = """
    WITH stale AS (
        SELECT id FROM backfill_chunks
        WHERE status = 'processing' AND started_at < now() - make_interval(mins => :threshold_minutes)
          AND (lease_expires_at < now() OR started_at < now() - make_interval(mins => :longest_life_minutes))
        ORDER BY started_at LIMIT :limit
        FOR UPDATE SKIP LOCKED)
    UPDATE backfill_chunks AS c SET
        status = CASE WHEN c.attempts < :max_attempts THEN 'pending' ELSE 'failed' END,
        failed_at = CASE WHEN c.attempts < :max_attempts THEN NULL ELSE now() END,
        claim_token = NULL, lease_expires_at = NULL, sent_at = NULL, dispatch_id = gen_random_uuid(), available_at = now(),
        error = 'no word from its worker for ' || :threshold_minutes || ' minutes', error_code = 'stale'
    FROM stale WHERE c.id = stale.id
    RETURNING c.*
"""

# Sent, and never claimed. A queue that is merely long is not loss: either the queue is empty, or chunks that were sent
# well after this one were claimed already. The fresh dispatch makes the old message harmless if it comes after all.
_RECOVER_LOST = f"""
    WITH lost AS (
        SELECT c.id FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
        WHERE c.status = 'pending' AND c.sent_at IS NOT NULL
          AND GREATEST(c.sent_at, c.available_at) < now() - make_interval(mins => :threshold_minutes)
          AND {MAY_RUN}
          AND (:queue_is_empty OR GREATEST(c.sent_at, c.available_at) + make_interval(mins => :threshold_minutes) < (
                SELECT max(later.sent_at) FROM backfill_chunks AS later
                WHERE later.started_at IS NOT NULL AND later.status IN ('processing', 'completed')))
        ORDER BY c.sent_at LIMIT :limit
        FOR UPDATE OF c SKIP LOCKED)
    UPDATE backfill_chunks AS c SET sent_at = NULL, dispatch_id = gen_random_uuid()
    FROM lost WHERE c.id = lost.id
    RETURNING c.id
"""

# A message in the dead-letter queue, matched by its dispatch: unhandled failures ended it. The chunk gets another dispatch.
# Receives are not attempts: only a claim counts one. Without attempts left the chunk has failed. Finished or redispatched
# chunks match nothing.
_RECOVER_DEAD = """
    UPDATE backfill_chunks SET
        status = CASE WHEN attempts < :max_attempts THEN 'pending' ELSE 'failed' END,
        failed_at = CASE WHEN attempts < :max_attempts THEN NULL ELSE now() END, claim_token = NULL, lease_expires_at = NULL, sent_at = NULL,
        dispatch_id = gen_random_uuid(), available_at = GREATEST(available_at, now()),
        error = 'its message ended in the dead-letter queue', error_code = 'dead_letter'
    WHERE id = CAST(:id AS uuid) AND dispatch_id = CAST(:dispatch_id AS uuid)
      AND (status = 'pending' OR (status = 'processing' AND lease_expires_at < now()))
    RETURNING *
"""

# Children of a failed chunk carry its reason, so that the planner does not cut them into chunks for ever.
_FAIL_MEMBERS = """
    WITH locked AS (
        SELECT p.repository_id, p.number, c.error, c.error_code
        FROM backfill_chunks AS c JOIN pull_requests AS p ON p.repository_id = c.repository_id AND p.number = ANY(c.pr_numbers)
        WHERE c.id = ANY(CAST(:ids AS uuid[])) AND (p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at)
        ORDER BY p.repository_id, p.number FOR UPDATE OF p)
    UPDATE pull_requests AS p SET detail_error = l.error, detail_error_code = l.error_code, detail_failed_at = now()
    FROM locked AS l WHERE p.repository_id = l.repository_id AND p.number = l.number
"""

_CLEAN_UP = """
    WITH old AS (
        SELECT id FROM backfill_chunks
        WHERE status = 'completed' AND completed_at < now() - make_interval(days => :days)
        ORDER BY completed_at LIMIT :batch FOR UPDATE SKIP LOCKED)
    DELETE FROM backfill_chunks AS c USING old WHERE c.id = old.id
"""

_COVERED = """
    SELECT m.number, c.status FROM backfill_chunk_members AS m JOIN backfill_chunks AS c ON c.id = m.chunk_id
    WHERE m.backfill_state_id = CAST(:backfill_id AS uuid) AND m.number = ANY(CAST(:numbers AS integer[]))
"""

# A person asks for pull requests that a pending chunk holds: the chunk becomes a person's, and is due now.
# A chunk that a request before this one has made due is on its way: a new dispatch for every request would multiply messages.
# After a minute that message may be lost.
_HURRY = """
    UPDATE backfill_chunks SET origin = 'message', available_at = LEAST(available_at, now()), sent_at = NULL,
           dispatch_id = gen_random_uuid()
    WHERE status = 'pending'
      AND (origin <> 'message' OR available_at > now() OR sent_at < now() - interval '1 minute')
      AND id IN (
        SELECT chunk_id FROM backfill_chunk_members
        WHERE backfill_state_id = CAST(:backfill_id AS uuid) AND number = ANY(CAST(:numbers AS integer[])))
"""

# A chunk that a worker claimed before the request may have read what the person wants to have read again.
_SYNCED = """
    SELECT asked.number,
           CASE WHEN c.status IS NULL THEN 'waiting'
                WHEN c.status = 'failed' OR p.detail_failed_at >= c.started_at THEN 'failed'
                WHEN p.number IS NULL OR p.gone_at IS NOT NULL THEN 'gone'
                WHEN p.incomplete IS NOT NULL THEN 'incomplete'
                ELSE 'read' END AS state,
           CASE WHEN c.status IS NULL THEN held.error
                WHEN c.status = 'failed' THEN c.error
                WHEN p.detail_failed_at >= c.started_at THEN p.detail_error
                WHEN p.incomplete IS NOT NULL THEN (
                    SELECT g.error FROM pull_request_gaps AS g WHERE g.repository_id = p.repository_id AND g.number = p.number)
           END AS reason
    FROM progressive_backfill_state AS s
    CROSS JOIN unnest(CAST(:numbers AS integer[])) AS asked(number)
    LEFT JOIN pull_requests AS p ON p.repository_id = s.repository_id AND p.number = asked.number
    LEFT JOIN backfill_chunk_members AS m ON m.backfill_state_id = s.id AND m.number = asked.number
    LEFT JOIN backfill_chunks AS held ON held.id = m.chunk_id
    LEFT JOIN LATERAL (
        SELECT c.status, c.error, c.started_at FROM backfill_chunks AS c
        WHERE c.backfill_state_id = s.id AND asked.number = ANY(c.pr_numbers) AND c.started_at >= CAST(:since AS timestamptz)
          AND c.status IN ('completed', 'failed')
        ORDER BY c.started_at DESC LIMIT 1) AS c ON true
    WHERE s.id = CAST(:backfill_id AS uuid)
    ORDER BY asked.number
"""

_OUTSTANDING = """
    SELECT count(*) FILTER (WHERE origin = 'planner') AS planned, count(*) AS total FROM backfill_chunks
    WHERE backfill_state_id = CAST(:backfill_id AS uuid) AND status IN ('pending', 'processing')
"""

# What recovery would do, for a dry run: the same predicates, and no lock.
_COUNT_STALE = """
    SELECT count(*) FILTER (WHERE attempts < :max_attempts) AS requeued, count(*) FILTER (WHERE attempts >= :max_attempts) AS failed
    FROM backfill_chunks
    WHERE status = 'processing' AND started_at < now() - make_interval(mins => :threshold_minutes)
      AND (lease_expires_at < now() OR started_at < now() - make_interval(mins => :longest_life_minutes))
"""
_COUNT_UNSENT = f"""
    SELECT count(*) AS unsent
    FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
    WHERE c.status = 'pending' AND c.sent_at IS NULL AND {MAY_RUN}
"""
_COUNT_LOST = f"""
    SELECT count(*) AS lost
    FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
    WHERE c.status = 'pending' AND c.sent_at IS NOT NULL
      AND GREATEST(c.sent_at, c.available_at) < now() - make_interval(mins => :threshold_minutes)
      AND {MAY_RUN}
      AND (:queue_is_empty OR GREATEST(c.sent_at, c.available_at) + make_interval(mins => :threshold_minutes) < (
            SELECT max(later.sent_at) FROM backfill_chunks AS later
            WHERE later.started_at IS NOT NULL AND later.status IN ('processing', 'completed')))
"""
_COUNT_OLD = """
    SELECT count(*) AS old FROM backfill_chunks
    WHERE status = 'completed' AND completed_at < now() - make_interval(days => :days)
"""


class InAnotherChunk(Retryable):
    """One of the pull requests is in another unfinished chunk of the backfill."""


def create(
    db: Database,
    backfill_id: str,
    pr_numbers: Sequence[int],
    *,
    origin: str = "planner",
    planner_token: str | None = None,
) -> Row:
    """Insert a pending chunk, which is its own outbox record; a planner does so under its lease, ``planner_token``.

    Raises InAnotherChunk, LeaseLost and Removed.
    """
    try:
        chunk = db.one(
            _CREATE,
            backfill_id=backfill_id,
            pr_numbers=list(pr_numbers),
            origin=origin,
            planner_token=planner_token,
        )
    except DatabaseError as error:
        if error.args[0].get("n") == "backfill_chunk_members_pkey":
            raise InAnotherChunk(f"backfill {backfill_id}: one of {list(pr_numbers)} is in another chunk") from error
        raise
    if chunk is None and planner_token is not None:
        raise LeaseLost
    if chunk is None:
        raise Removed(f"backfill {backfill_id} does not exist")
    return chunk


def to_send(db: Database, *, limit: int, backfill_id: str | None = None, chunk_id: str | None = None) -> list[Row]:
    """Chunks to hand to SQS: ``id``, ``dispatch_id``, and ``wait_seconds`` until they may be claimed."""
    return db.rows(_TO_SEND, backfill_id=backfill_id, chunk_id=chunk_id, limit=limit)


def mark_sent(db: Database, accepted: Sequence[tuple[str, str]]) -> None:
    """SQS has accepted the messages of these chunks and dispatches."""
    ids, dispatch_ids = [chunk for chunk, _ in accepted], [dispatch for _, dispatch in accepted]
    db.execute(_MARK_SENT, ids=ids, dispatch_ids=dispatch_ids)


def claim(db: Database, chunk_id: str, dispatch_id: str, lease_seconds: float) -> Row | None:
    """Take a chunk for ``lease_seconds``; None for a duplicate, a stale message, or a backfill that is not active."""
    return db.one(_CLAIM, id=chunk_id, dispatch_id=dispatch_id, lease_seconds=lease_seconds, max_attempts=MAX_ATTEMPTS)


def unsend(db: Database, chunk_id: str, dispatch_id: str) -> bool:
    """Give a chunk of a paused backfill back to the outbox; True if that was the reason why it was not claimed."""
    return db.execute(_UNSEND, id=chunk_id, dispatch_id=dispatch_id, max_attempts=MAX_ATTEMPTS) > 0


def seconds_early(db: Database, chunk_id: str, dispatch_id: str) -> int:
    """How long before its time the message of a pending chunk came; 0 if that is not why it was not claimed."""
    row = db.one(_EARLY, id=chunk_id, dispatch_id=dispatch_id, max_attempts=MAX_ATTEMPTS)
    return int(row["wait_seconds"]) if row else 0


def get(db: Database, chunk_id: str) -> Row | None:
    """A chunk by uuid."""
    return db.one("SELECT * FROM backfill_chunks WHERE id = CAST(:id AS uuid)", id=chunk_id)


def fence(db: Database, chunk: Row) -> None:
    """Inside a transaction: keep the claim to its end, or raise StaleClaim."""
    if db.one(_FENCE, id=chunk["id"], claim_token=chunk["claim_token"]) is None:
        raise StaleClaim(f"chunk {chunk['id']} was taken back from this worker")


def complete(
    db: Database, chunk: Row, *, points: int, requests: int, error: str | None = None, error_code: str | None = None
) -> None:
    """Completed, with what it cost; ``error`` tells about members that could not be read."""
    _fenced(
        db.one(
            _COMPLETE,
            id=chunk["id"],
            claim_token=chunk["claim_token"],
            points=points,
            requests=requests,
            error=error,
            error_code=error_code,
        ),
        chunk,
    )


def release(
    db: Database,
    chunk: Row,
    *,
    available_at: datetime | None,
    counts_as_attempt: bool,
    points: int,
    requests: int,
    error: str,
    error_code: str,
    keep: Sequence[int] | None = None,
) -> None:
    """Back to pending, to be claimed again from ``available_at`` (default: now), with the numbers of ``keep`` alone."""
    _fenced(
        db.one(
            _RELEASE,
            id=chunk["id"],
            claim_token=chunk["claim_token"],
            attempts_back=0 if counts_as_attempt else 1,
            keep=None if keep is None else list(keep),
            available_at=available_at,
            points=points,
            requests=requests,
            error=error,
            error_code=error_code,
        ),
        chunk,
    )


def fail(db: Database, chunk: Row, *, points: int, requests: int, error: str, error_code: str) -> None:
    """Failed for good, its undetailed pull requests with it."""
    _fenced(
        db.one(
            _FAIL,
            id=chunk["id"],
            claim_token=chunk["claim_token"],
            points=points,
            requests=requests,
            error=error,
            error_code=error_code,
        ),
        chunk,
    )
    fail_members(db, chunk["id"])


def fail_members(db: Database, *chunk_ids: str) -> None:
    """Give the pull requests of failed chunks the reason of their chunk."""
    if chunk_ids:
        db.execute(_FAIL_MEMBERS, ids=list(chunk_ids))


def recover_stale(db: Database, threshold_minutes: int, limit: int) -> list[Row]:
    """Take back chunks that began longer ago than the threshold and have no living worker; the rows as they are now."""
    return db.rows(
        _RECOVER_STALE,
        threshold_minutes=threshold_minutes,
        longest_life_minutes=LONGEST_LIFE_MINUTES,
        limit=limit,
        max_attempts=MAX_ATTEMPTS,
    )


def recover_lost(db: Database, threshold_minutes: int, limit: int, *, queue_is_empty: bool) -> int:
    """Give chunks whose message was lost back to the outbox; how many."""
    return len(db.rows(_RECOVER_LOST, threshold_minutes=threshold_minutes, limit=limit, queue_is_empty=queue_is_empty))


def recover_dead(db: Database, chunk_id: str, dispatch_id: str) -> Row | None:
    """Requeue (or fail) the chunk of a dead letter; None if the message is not the chunk's current one."""
    return db.one(_RECOVER_DEAD, id=chunk_id, dispatch_id=dispatch_id, max_attempts=MAX_ATTEMPTS)


def clean_up(db: Database, days: int, batch: int) -> int:
    """Delete one batch of old completed chunks; how many."""
    return db.execute(_CLEAN_UP, days=days, batch=batch)


def covered(db: Database, backfill_id: str, numbers: Sequence[int]) -> dict[int, str]:
    """Which numbers are in an unfinished chunk, and that chunk's status."""
    found = db.rows(_COVERED, backfill_id=backfill_id, numbers=list(numbers))
    return {row["number"]: row["status"] for row in found}


def hurry(db: Database, backfill_id: str, numbers: Sequence[int]) -> int:
    """Make the pending chunks that hold these numbers due now, whatever the backfill's state; how many."""
    return db.execute(_HURRY, backfill_id=backfill_id, numbers=list(numbers))


def synced(db: Database, backfill_id: str, numbers: Sequence[int], since: datetime) -> list[Row]:
    """What became of pull requests that a person asked for at ``since``: ``number``, ``state`` (waiting, read, incomplete,
    failed, gone) and ``reason``."""
    return db.rows(_SYNCED, backfill_id=backfill_id, numbers=list(numbers), since=since)


def outstanding(db: Database, backfill_id: str) -> Row:
    """Unfinished chunks: ``planned`` by the planner, and in ``total``."""
    return db.one(_OUTSTANDING, backfill_id=backfill_id) or {"planned": 0, "total": 0}


def what_recovery_would_do(
    db: Database, threshold_minutes: int, cleanup_days: int, *, queue_is_empty: bool
) -> dict[str, Any]:
    """Counts for a dry run, by reading only."""
    stale = db.one(
        _COUNT_STALE,
        threshold_minutes=threshold_minutes,
        longest_life_minutes=LONGEST_LIFE_MINUTES,
        max_attempts=MAX_ATTEMPTS,
    )
    lost = db.one(_COUNT_LOST, threshold_minutes=threshold_minutes, queue_is_empty=queue_is_empty) or {}
    return {**(stale or {}), **lost, **(db.one(_COUNT_UNSENT) or {}), **(db.one(_COUNT_OLD, days=cleanup_days) or {})}


def _fenced(row: Row | None, chunk: Row) -> None:
    if row is None:
        raise StaleClaim(f"chunk {chunk['id']} was taken back from this worker")
