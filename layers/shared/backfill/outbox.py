"""The outbox: chunks that are committed and not yet sent are sent, and only then called sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backfill.errors import NotSent
from backfill.model import Backfill, Waiting
from backfill.queues import BATCH, LONGEST_DELAY_SECONDS, Queues
from backfill.store import dispatches, leases
from backfill.store.connection import Database


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


def request_plan(
    db: Database, queues: Queues, backfill: Backfill, seconds: float = 0, *, arrived: bool = False
) -> None:
    """Request the next planning of a backfill, after ``seconds``, unless a request is on its way. ``arrived``: the request
    that should have been on its way is the one at hand.

    While a planner holds the lease, the request comes after the lease's end: it would find it taken and go away. A living
    planner requests planning itself when it ends the lease (``leases.end``); a dead one cannot.
    """
    reservation = leases.reserve_plan(db, backfill.id, arrived=arrived)
    if reservation is not None:
        delay = min(max(seconds, reservation.lease_seconds), LONGEST_DELAY_SECONDS)
        queues.request_plan(backfill.repository_id, delay)
        leases.note_plan_sent(db, backfill.id, reservation, delay)
