"""How the work on a claimed chunk ends: one function writes any outcome, with its booking and the chunk that follows."""

from __future__ import annotations

from typing import Any

from backfill.errors import MOST_TEXT, StaleClaim
from backfill.model import Chunk, Spent
from backfill.outcomes import ERROR_PAUSE_MINUTES, Completed, Deferred, Failed, Outcome, Retried, Split, Stopped
from backfill.store import backfills, chunks
from backfill.store.connection import Database

# Each statement is fenced: without the claim it touches no row.
_CLAIMED = "id = :id AND claim_token = :claim_token AND status = 'processing'"
_END_OF_CLAIM = """claim_token = NULL, lease_expires_at = NULL, points = points + :points, requests = requests + :requests,
           error = :error, error_code = :error_code"""

_COMPLETE = f"""
    UPDATE backfill_chunks SET status = 'completed', completed_at = now(), {_END_OF_CLAIM}
    WHERE {_CLAIMED}
    RETURNING id
"""

# Back to pending with another dispatch. A deferral gives its attempt back: a limit is not an error. Attempts do not end a
# chunk that is only ever deferred, so its wait is at least 1 s, 2 s, 4 s … 15 minutes. The caller creates a chunk for the
# numbers that this one does not keep, in the same transaction.
_RELEASE = f"""
    UPDATE backfill_chunks SET status = 'pending', sent_at = NULL, {_END_OF_CLAIM},
           dispatch_id = gen_random_uuid(), attempts = attempts - :attempts_back,
           pr_numbers = COALESCE(:keep, pr_numbers),
           deferrals = deferrals + :attempts_back,
           available_at = GREATEST(now() + make_interval(secs => :attempts_back * LEAST(900, 2 ^ LEAST(deferrals, 10))),
                                   :available_at)
    WHERE {_CLAIMED}
    RETURNING id
"""

_FAIL = f"""
    UPDATE backfill_chunks SET status = 'failed', failed_at = now(), {_END_OF_CLAIM}
    WHERE {_CLAIMED}
    RETURNING id
"""

# A failed chunk's pull requests carry its reason. Without it the planner would cut them into chunks again and again.
_FAIL_MEMBERS = """
    WITH locked AS (
        SELECT p.repository_id, p.number, c.error, c.error_code
        FROM backfill_chunks AS c JOIN pull_requests AS p ON p.repository_id = c.repository_id AND p.number = ANY(c.pr_numbers)
        WHERE c.id = ANY(:ids) AND c.status = 'failed' AND (p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at)
        ORDER BY p.repository_id, p.number FOR UPDATE OF p)
    UPDATE pull_requests AS p SET detail_error = l.error, detail_error_code = l.error_code, detail_failed_at = now()
    FROM locked AS l WHERE p.repository_id = l.repository_id AND p.number = l.number
"""

# The next error of the backfill is the first in a row again.
_SUCCEED = """
    UPDATE progressive_backfill_state SET consecutive_errors = 0, last_processed_at = now(), idle_runs = 0,
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = :id
"""


def conclude(db: Database, chunk: Chunk, outcome: Outcome, spent: Spent) -> bool:
    """Inside a transaction: write what became of a claimed chunk, in one round trip for most. True if it pauses the backfill.

    The locks are in the common order: chunk, pull requests, backfill. Raises StaleClaim.
    """
    cost = {"points": spent.points, "requests": spent.requests}
    transition, parameters = _transition(outcome)
    statements = [(transition, {"id": chunk.id, "claim_token": chunk.claim_token, **cost, **parameters})]
    if isinstance(outcome, Failed):
        statements.append((_FAIL_MEMBERS, {"ids": [chunk.id]}))
    statements.append((_SUCCEED if _has_stored(outcome) else backfills.BOOK, {"id": chunk.backfill_id, **cost}))
    if not db.pipeline(statements)[0]:
        raise StaleClaim(f"chunk {chunk.id} was taken back from this worker")
    if isinstance(outcome, Split):
        chunks.create(db, chunk.backfill_id, outcome.moved, origin=chunk.origin)
    return _pause(db, chunk.backfill_id, outcome)


def fail_members(db: Database, *chunk_ids: str) -> None:
    """Give the pull requests of failed chunks the reason of their chunk."""
    if chunk_ids:
        db.execute(_FAIL_MEMBERS, ids=list(chunk_ids))


def _transition(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The statement of an outcome, and its parameters."""
    match outcome:
        case Completed(note, code):
            return _COMPLETE, {"error": note and note[:MOST_TEXT], "error_code": code}
        case Failed(code, reason):
            return _FAIL, {"error": reason[:MOST_TEXT], "error_code": code}
        case Retried(at, keep=keep):
            how = {"available_at": at, "attempts_back": 0, "keep": None if keep is None else list(keep)}
        case Deferred(until) | Stopped(until):
            how = {"available_at": until, "attempts_back": 1, "keep": None}
        case Split(kept):
            how = {"available_at": None, "attempts_back": 1, "keep": list(kept)}
    return _RELEASE, {**how, "error": outcome.reason[:MOST_TEXT], "error_code": outcome.code}


def _has_stored(outcome: Outcome) -> bool:
    """Of a chunk that keeps some members, the others were stored."""
    return isinstance(outcome, Completed) or (isinstance(outcome, Retried) and outcome.keep is not None)


def _pause(db: Database, backfill_id: str, outcome: Outcome) -> bool:
    """Count an error of the backfill, or pause it at once; True if it is paused now."""
    if _has_stored(outcome):
        return False
    match outcome:
        case Stopped(_, minutes, code, reason):
            backfills.pause(db, backfill_id, code, minutes=minutes, error=reason[:MOST_TEXT])
            return True
        case Retried(reason=reason, counts=True) | Failed(reason=reason, counts=True):
            is_outage = isinstance(outcome, Retried) and outcome.is_outage
            return backfills.record_error(
                db, backfill_id, reason[:MOST_TEXT], pause_minutes=ERROR_PAUSE_MINUTES, is_outage=is_outage
            )
    return False
