"""The outbox: chunks that are committed and not yet sent are sent, and only then called sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backfill.errors import NotSent
from backfill.model import Waiting
from backfill.queues import BATCH, LONGEST_DELAY_SECONDS, Queues
from backfill.store import backfills, dispatches
from backfill.store.connection import Database, Row


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages that SQS accepted, and that it did not: those wait in the outbox, and somebody has to come back."""

    accepted: int
    refused: int


def send(
    db: Database, queues: Queues, *, limit: int = 1000, backfill_id: str | None = None, chunk_id: str | None = None
) -> Sent:
    """Send everything that waits in the outbox, ``limit`` rows read at once.

    A crash between the sending and the mark sends a batch twice, which the claims ignore; one before the sending
    leaves it here for the next run. Nothing is marked that SQS did not accept.
    """
    sent = Sent(0, 0)
    while waiting := dispatches.to_send(db, limit=limit, backfill_id=backfill_id, chunk_id=chunk_id):
        page = _send(db, queues, waiting)
        sent = Sent(sent.accepted + page.accepted, page.refused)
        if page.refused or len(waiting) < limit:
            break
    return sent


def send_all(db: Database, queues: Queues, *, backfill_id: str | None = None, chunk_id: str | None = None) -> None:
    """Send the outbox of a backfill or a chunk. Raises NotSent if SQS does not take it all."""
    sent = send(db, queues, backfill_id=backfill_id, chunk_id=chunk_id)
    if sent.refused:
        raise NotSent(f"SQS did not take {sent.refused} messages of {sent.refused + sent.accepted}")


def _send(db: Database, queues: Queues, waiting: Sequence[Waiting]) -> Sent:
    sent = 0
    for start in range(0, len(waiting), BATCH):
        accepted = queues.send_chunks(waiting[start : start + BATCH])
        if accepted:
            dispatches.mark_sent(db, accepted)
        sent += len(accepted)
    return Sent(sent, len(waiting) - sent)


def request_plan(db: Database, queues: Queues, backfill: Row, seconds: float = 0, *, arrived: bool = False) -> None:
    """Ask for the next planning of a backfill, after ``seconds``, unless it is asked for already; ``arrived``: by the
    request that asks once more.

    While a planner holds the lease, the request comes after the lease's end: it would find it taken and go away. The
    planner itself asks once more when it is done before (``backfills.end_lease``); one that died cannot.
    """
    reserved = backfills.reserve_plan(db, backfill["id"], arrived=arrived)
    if reserved is not None:
        delay = min(max(seconds, reserved["lease_seconds"]), LONGEST_DELAY_SECONDS)
        queues.request_plan(backfill["repository_id"], delay)
        backfills.note_plan_sent(db, backfill["id"], reserved["reserved_at"], delay)
