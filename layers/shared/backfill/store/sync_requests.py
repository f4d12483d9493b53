"""Pull requests that a person asks for: which chunks hold them, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backfill.model import ChunkStatus
from backfill.store.connection import Database

_HELD = """
    SELECT m.number, c.status FROM backfill_chunk_members AS m JOIN backfill_chunks AS c ON c.id = m.chunk_id
    WHERE m.backfill_state_id = :backfill_id AND m.number = ANY(:numbers)
"""

# The chunk becomes a person's, and is due now. A chunk that an earlier request made due is on its way: a new dispatch for
# every request would multiply messages. After a minute that message may be lost.
_HURRY = """
    UPDATE backfill_chunks SET origin = 'message', available_at = LEAST(available_at, now()), sent_at = NULL,
           dispatch_id = gen_random_uuid()
    WHERE status = 'pending'
      AND (origin <> 'message' OR available_at > now() OR sent_at < now() - interval '1 minute')
      AND id IN (
        SELECT chunk_id FROM backfill_chunk_members
        WHERE backfill_state_id = :backfill_id AND number = ANY(:numbers))
"""

# A chunk that a worker claimed before the request may have read an older state than the person wants.
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
        WHERE c.backfill_state_id = s.id AND asked.number = ANY(c.pr_numbers) AND c.started_at >= :since
          AND c.status IN ('completed', 'failed')
        ORDER BY c.started_at DESC LIMIT 1) AS c ON true
    WHERE s.id = :backfill_id
    ORDER BY asked.number
"""


@dataclass(frozen=True, slots=True)
class Synced:
    """``state`` is waiting, read, incomplete, failed or gone; ``reason`` says why, where something is wrong."""

    number: int
    state: str
    reason: str | None


def held(db: Database, backfill_id: str, numbers: Sequence[int]) -> dict[int, ChunkStatus]:
    """Which numbers are in an unfinished chunk, and that chunk's status."""
    found = db.rows(_HELD, backfill_id=backfill_id, numbers=list(numbers))
    return {row["number"]: ChunkStatus(row["status"]) for row in found}


def hurry(db: Database, backfill_id: str, numbers: Sequence[int]) -> int:
    """Make the pending chunks that hold these numbers due now, whatever the backfill's state; how many."""
    return db.execute(_HURRY, backfill_id=backfill_id, numbers=list(numbers))


def synced(db: Database, backfill_id: str, numbers: Sequence[int], since: datetime) -> list[Synced]:
    """What became of pull requests that a person asked for at ``since``."""
    found = db.rows(_SYNCED, backfill_id=backfill_id, numbers=list(numbers), since=since)
    return [Synced(**row) for row in found]
