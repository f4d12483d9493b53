"""Dead letters: take back the work of each message that SQS gave up on, then delete the message.

The planner does so at each heartbeat, so that an outage is over when it is over. Recovery does so on its own schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backfill import outbox
from backfill.errors import ContractViolation
from backfill.messages import PlanEvent, SyncRequest, chunk_message, plan_request
from backfill.observability import event, problem
from backfill.queues import DeadLetter, Queues, Source
from backfill.store import backfills, chunks, recoveries
from backfill.store.connection import Database

# Letters of one run. The next run takes the rest.
MOST_LETTERS = 500
# The reason why a letter stays that failed again after it was sent again.
FAILED_AGAIN = "it failed again after a redrive; see the log, then send it again by: backfill dead-letters redrive"


@dataclass(frozen=True, slots=True)
class Taken:
    """Letters whose work was taken back, and letters that stay because they match nothing."""

    matched: int = 0
    left: int = 0


def take_back(db: Database, queues: Queues, has_time: Callable[[], bool] = lambda: True) -> Taken:
    """Deal with the letters of the dead-letter queue, while ``has_time``. A letter is deleted only after its work is safe."""
    matched = left = 0
    planned: set[str] = set()
    for letter in queues.dead_letters(MOST_LETTERS):
        if not has_time():
            break
        reason = _deal_with(db, queues, letter, planned)
        if reason is not None:
            problem("a dead letter matches nothing", message_id=letter.message_id, reason=reason)
            left += 1
            continue
        queues.delete_dead_letter(letter)
        matched += 1
    return Taken(matched, left)


def _deal_with(db: Database, queues: Queues, letter: DeadLetter, planned: set[str]) -> str | None:
    """Take back the work of one letter; or the reason why the letter stays. ``planned`` are the repositories that this run asked a plan for."""
    if letter.reason is not None:
        return letter.reason
    try:
        message = chunk_message(letter.body)
    except ContractViolation as violation:
        return _plan_again(db, queues, letter, planned) if letter.queue is Source.PLANS else str(violation)
    if isinstance(message, SyncRequest):
        return _send_again(queues, letter)
    if chunks.get(db, message.chunk_id) is None:
        event("a dead letter is of a chunk that was removed", chunk_id=message.chunk_id)
        return None
    with db.transaction():
        chunk = recoveries.requeue_dead(db, message)
    event("a dead letter was matched", chunk_id=message.chunk_id, status=chunk.status if chunk else "settled before")
    return None


def _plan_again(db: Database, queues: Queues, letter: DeadLetter, planned: set[str]) -> str | None:
    """A plan request of the product is answered by a fresh one, one for all letters of a repository. A person's is sent again."""
    request = plan_request(letter.body)
    if request is None:
        return "not a plan request"
    if request != PlanEvent(repository_id=request.repository_id) or request.repository_id is None:
        return _send_again(queues, letter)
    backfill = backfills.of_repository(db, request.repository_id)
    if backfill is None:
        event("a dead letter is of a repository that was removed", repository_id=request.repository_id)
        return None
    if request.repository_id not in planned:
        # The request that the row calls on its way may be this letter.
        outbox.request_plan(db, queues, backfill, arrived=True)
        planned.add(request.repository_id)
    event("a dead letter was matched", repository_id=request.repository_id, status=backfill.status)
    return None


def _send_again(queues: Queues, letter: DeadLetter) -> str | None:
    """A person's message is sent again as it is, once: an outage may have ended it, and the outage may be over."""
    if letter.was_redriven:
        return FAILED_AGAIN
    queues.redrive(letter)
    event("a dead letter was sent again", message_id=letter.message_id)
    return None
