"""The outbox: chunks that are committed and not yet sent are sent, and only then called sent."""

from __future__ import annotations

from backfill.queues import BATCH, LONGEST_DELAY_SECONDS, Queues
from backfill.store import backfills, chunks
from backfill.store.connection import Database, Row


def send(
    db: Database, queues: Queues, *, limit: int = 1000, backfill_id: str | None = None, chunk_id: str | None = None
) -> int:
    """Send what waits in the outbox; how many messages SQS accepted.

    A crash between the sending and the mark sends a batch twice, which the claims ignore; one before the sending
    leaves it here for the next run. Nothing is marked that SQS did not accept.
    """
    waiting = chunks.to_send(db, limit=limit, backfill_id=backfill_id, chunk_id=chunk_id)
    sent = 0
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        accepted = queues.send_chunks((row["id"], row["dispatch_id"], float(row["wait_seconds"])) for row in batch)
        if accepted:
            chunks.mark_sent(db, accepted)
        sent += len(accepted)
    return sent


def request_plan(db: Database, queues: Queues, backfill: Row, seconds: float = 0) -> None:
    """Ask for the next planning of a backfill, after ``seconds``, unless it is asked for already."""
    seconds = min(seconds, LONGEST_DELAY_SECONDS)
    if backfills.request_plan(db, backfill["id"], seconds):
        queues.request_plan(backfill["repository_id"], seconds)
