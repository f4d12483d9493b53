"""A sync request: its numbers become chunks of their own, except those that a pending chunk covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backfill import outbox, tracking
from backfill.chunk_worker.handled import Handled
from backfill.errors import ContractViolation
from backfill.github.packing import COUNTS, cut
from backfill.messages import SyncRequest
from backfill.model import ChunkStatus, Origin
from backfill.observability import count, event
from backfill.queues import Queues
from backfill.store import chunks, pull_requests, removals, sync_requests
from backfill.store.connection import Database

# A request for pull requests that a worker is reading comes back after this.
BUSY_SECONDS = 60


def accept(db: Database, queues: Queues, request: SyncRequest, body: str) -> Handled:
    """Create the chunks of a request and send them. Raises ContractViolation if the repository is not tracked."""
    try:
        backfill = tracking.named(db, request.repository)
    except ContractViolation:
        if not removals.was_removed(db, request.repository):
            raise
        event("a message is of a repository that was removed", repository=request.repository)
        return Handled.REMOVED
    held = sync_requests.held(db, backfill.id, request.pr_numbers)
    if ChunkStatus.PROCESSING in held.values():
        # A worker may be reading an older state than this person wants.
        return _busy(queues, body)
    sync_requests.hurry(db, backfill.id, list(held))
    known = pull_requests.by_numbers(db, backfill.repository_id, request.pr_numbers)
    free = _in_order([number for number in request.pr_numbers if number not in held], known)
    try:
        with db.transaction():
            for numbers in cut(free, backfill.chunk_size, len(free)):
                chunks.create(db, backfill.id, numbers, origin=Origin.MESSAGE)
    except chunks.InAnotherChunk:
        return _busy(queues, body)
    outbox.send_all(db, queues, backfill_id=backfill.id)
    count("SyncRequests")
    return Handled.ACCEPTED


def _busy(queues: Queues, body: str) -> Handled:
    queues.send_body(body, BUSY_SECONDS)
    return Handled.BUSY


def _in_order(numbers: Sequence[int], known: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A row for each number. One that was never listed counts as one without connections when chunks are cut."""
    rows = {row["number"]: row for row in known}
    unlisted = {"total_comments_count": 0, **dict.fromkeys(COUNTS.values(), 0)}
    return [rows.get(number, {"number": number, **unlisted}) for number in numbers]
