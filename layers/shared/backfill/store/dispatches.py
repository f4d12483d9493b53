"""The outbox of chunks: which messages to send, which are sent, and what a refused message does."""

from __future__ import annotations

from collections.abc import Sequence

from backfill.model import Dispatch, Waiting
from backfill.outcomes import MAX_ATTEMPTS
from backfill.store.chunks import IS_EXPIRED, MAY_RUN
from backfill.store.connection import Database

# A chunk of an active backfill that was never handed to SQS; a person's chunk is sent whatever the backfill's state. Two
# senders may both send it: the second message is a duplicate, which the claim ignores.
_TO_SEND = f"""
    SELECT c.id AS chunk_id, c.dispatch_id, GREATEST(0, ceil(EXTRACT(epoch FROM c.available_at - now()))) AS wait_seconds
    FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
    WHERE c.status = 'pending' AND c.sent_at IS NULL AND {MAY_RUN}
      AND (CAST(:backfill_id AS uuid) IS NULL OR c.backfill_state_id = :backfill_id)
      AND (CAST(:chunk_id AS uuid) IS NULL OR c.id = :chunk_id)
    ORDER BY c.available_at, c.created_at, c.chunk_number
    LIMIT :limit
"""

# Guarded by the dispatch: a chunk that was requeued since has another message. Two senders that mark the same chunks lock
# them in the same order.
_MARK_SENT = """
    WITH accepted AS (
        SELECT c.id FROM backfill_chunks AS c
        JOIN unnest(CAST(:ids AS uuid[]), CAST(:dispatch_ids AS uuid[])) AS a(id, dispatch_id)
          ON a.id = c.id AND a.dispatch_id = c.dispatch_id
        WHERE c.status = 'pending' AND c.sent_at IS NULL
        ORDER BY c.id FOR UPDATE OF c)
    UPDATE backfill_chunks AS c SET sent_at = now() FROM accepted WHERE c.id = accepted.id
"""

# The message came during a pause: the chunk goes back to the outbox, which sends it after the resume. So does the chunk of
# a dead worker, whose message returns during the pause: nothing else would bring it back.
_UNSEND = f"""
    UPDATE backfill_chunks AS c SET status = 'pending', claim_token = NULL, lease_expires_at = NULL, sent_at = NULL,
           dispatch_id = gen_random_uuid()
    FROM progressive_backfill_state AS s
    WHERE s.id = c.backfill_state_id
      AND NOT {MAY_RUN}
      AND c.id = :chunk_id AND c.dispatch_id = :dispatch_id
      AND (c.status = 'pending' OR (c.status = 'processing' AND {IS_EXPIRED} AND c.attempts < :max_attempts))
"""

# SQS delays a message by 15 minutes at most: one that comes too early is sent again, with the rest of the wait. So is one
# whose time came between the refused claim and this look: it is the chunk's only message.
_EARLY = """
    SELECT CAST(GREATEST(1, ceil(EXTRACT(epoch FROM available_at - now()))) AS integer) AS wait_seconds FROM backfill_chunks
    WHERE id = :chunk_id AND dispatch_id = :dispatch_id AND status = 'pending' AND attempts < :max_attempts
"""


def to_send(db: Database, *, limit: int, backfill_id: str | None = None, chunk_id: str | None = None) -> list[Waiting]:
    """Messages to hand to SQS."""
    return [
        Waiting(Dispatch(row["chunk_id"], row["dispatch_id"]), float(row["wait_seconds"]))
        for row in db.rows(_TO_SEND, backfill_id=backfill_id, chunk_id=chunk_id, limit=limit)
    ]


def mark_sent(db: Database, accepted: Sequence[Dispatch]) -> None:
    """SQS has accepted these messages."""
    db.execute(
        _MARK_SENT,
        ids=[each.chunk_id for each in accepted],
        dispatch_ids=[each.dispatch_id for each in accepted],
    )


def unsend(db: Database, dispatch: Dispatch) -> bool:
    """Give a chunk of a paused backfill back to the outbox; True if the pause was why it was not claimed."""
    return db.execute(_UNSEND, **_key(dispatch)) > 0


def seconds_early(db: Database, dispatch: Dispatch) -> int:
    """How long before its time the message of a pending chunk came; 0 if that is not why it was not claimed."""
    row = db.one(_EARLY, **_key(dispatch))
    return int(row["wait_seconds"]) if row else 0


def _key(dispatch: Dispatch) -> dict[str, str | int]:
    return {"chunk_id": dispatch.chunk_id, "dispatch_id": dispatch.dispatch_id, "max_attempts": MAX_ATTEMPTS}
