"""How the work on a claimed chunk ends: one function writes any outcome."""

from __future__ import annotations

from typing import Any

from backfill.model import Spent
from backfill.outcomes import ERROR_PAUSE_MINUTES, Completed, Deferred, Failed, Outcome, Retried, Split, Stopped
from backfill.store import backfills, chunks
from backfill.store.connection import Database, Row

# The text of an error is kept up to here.
MOST_TEXT = 2000


def conclude(db: Database, chunk: Row, outcome: Outcome, spent: Spent) -> bool:
    """Inside a transaction: write what became of a claimed chunk, with its booking and any chunk that follows from it. True if
    the backfill is paused now because of it.

    The chunk is locked before its backfill, as everywhere. Raises StaleClaim.
    """
    cost = {"points": spent.points, "requests": spent.requests}
    match outcome:
        case Completed(note, code):
            chunks.complete(db, chunk, **cost, error=note and note[:MOST_TEXT], error_code=code)
        case Failed(code, reason):
            chunks.fail(db, chunk, **cost, error=reason[:MOST_TEXT], error_code=code)
        case Retried(at):
            _give_back(db, chunk, outcome, available_at=at, counts_as_attempt=True, keep=outcome.keep, **cost)
        case Deferred(until) | Stopped(until):
            _give_back(db, chunk, outcome, available_at=until, counts_as_attempt=False, **cost)
        case Split(kept, moved):
            _give_back(db, chunk, outcome, available_at=None, counts_as_attempt=False, keep=kept, **cost)
            chunks.create(db, chunk["backfill_state_id"], moved, origin=chunk["origin"])
    return _note(db, chunk["backfill_state_id"], outcome, spent)


def _give_back(db: Database, chunk: Row, outcome: Deferred | Retried | Split | Stopped, **how: Any) -> None:
    chunks.release(db, chunk, error=outcome.reason[:MOST_TEXT], error_code=outcome.code, **how)


def _note(db: Database, backfill_id: str, outcome: Outcome, spent: Spent) -> bool:
    """Book what was spent, and what the outcome means for the backfill; True if it is paused now because of it."""
    cost = {"points": spent.points, "requests": spent.requests}
    if isinstance(outcome, Completed) or (isinstance(outcome, Retried) and outcome.keep is not None):
        # Of a chunk that keeps some members, the others were stored.
        backfills.record_success(db, backfill_id, **cost)
        return False
    paused = False
    match outcome:
        case Stopped(_, minutes, code, reason):
            backfills.pause(db, backfill_id, code, minutes=minutes, error=reason[:MOST_TEXT])
            paused = True
        case Retried(reason=reason, counts=True) | Failed(reason=reason, counts=True):
            is_outage = isinstance(outcome, Retried) and outcome.is_outage
            paused = backfills.record_error(
                db, backfill_id, reason[:MOST_TEXT], pause_minutes=ERROR_PAUSE_MINUTES, is_outage=is_outage
            )
    backfills.book(db, backfill_id, **cost)
    return paused
