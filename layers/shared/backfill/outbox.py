"""The outbox: chunks that are committed and not yet sent are sent, and only then called sent."""

from __future__ import annotations

from backfill.queues import Queues
from backfill.store import chunks
from backfill.store.connection import Database


def send(
    db: Database, queues: Queues, *, limit: int = 1000, backfill_id: str | None = None, chunk_id: str | None = None
) -> int:
    """Send what waits in the outbox; how many messages SQS accepted.

    A crash between the sending and the mark sends a chunk twice, which its claim ignores; one before the sending
    leaves it here for the next run. Nothing is marked that SQS did not accept.
    """
    waiting = chunks.to_send(db, limit=limit, backfill_id=backfill_id, chunk_id=chunk_id)
    if not waiting:
        return 0
    accepted = queues.send_chunks((row["id"], row["dispatch_id"], float(row["wait_seconds"])) for row in waiting)
    for chunk, dispatch in accepted:
        chunks.mark_sent(db, chunk, dispatch)
    return len(accepted)
