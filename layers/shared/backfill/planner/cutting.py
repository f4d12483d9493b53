"""Cut listed pull requests without current details into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backfill import outbox
from backfill.github import packing
from backfill.github.records import Listed
from backfill.github.request_size import START
from backfill.model import Backfill
from backfill.planner.lease import Held
from backfill.priority import Marks
from backfill.store import chunks, pull_requests, repositories
from backfill.store.connection import Database

# Cut for requests of the first size: workers begin them before it has grown, and a chunk for larger ones would cost another point.
FIRST_CHUNKS = 2


def fill(held: Held) -> None:
    """Cut chunks until the mark is reached, then send everything that waits in the outbox."""
    db = held.means.db
    room = room_for(db, held.backfill, held.marks)
    if held.chunks == 0 and held.repository.detail_request_size is None:
        room -= _create(held, min(room, FIRST_CHUNKS), int(START))
    while room > 0 and held.means.has_time_for_page():
        wanted = min(room, packing.POOL_CHUNKS)
        created = _create(held, wanted, _request_size(held))
        room -= created
        if created < wanted:
            break
    sent = outbox.send(db, held.means.queues, backfill_id=held.backfill.id)
    held.sent += sent.accepted
    held.unsent = sent.refused


def room_for(db: Database, backfill: Backfill, marks: Marks) -> int:
    """How many chunks may be cut until the mark is reached."""
    return max(0, marks.chunks - chunks.outstanding(db, backfill.id).planned)


def choose(
    listed: Sequence[Mapping[str, Any]], backfill: Backfill, wanted: Marks, request_size: int = packing.PAGE
) -> list[list[int]]:
    """Pack the pull requests of a pool into ``wanted`` chunks. While others may follow, a chunk that stays half empty waits
    for them."""
    may_follow = not backfill.is_listed or len(listed) == pool_size(wanted)
    return packing.cut(listed, wanted.chunk_size, wanted.chunks, request_size=request_size, more=may_follow)


def pool_size(marks: Marks) -> int:
    """How many pull requests the planner chooses from, for one chunk as for many: requests from a larger pool are fuller."""
    return (packing.POOL_CHUNKS + 1) * marks.chunk_size


def pieces(numbers: Sequence[int], most: int = packing.PAGE) -> Iterator[Sequence[int]]:
    """The same numbers in pieces of at most so many."""
    return (numbers[start : start + most] for start in range(0, len(numbers), most))


def _create(held: Held, wanted: int, request_size: int) -> int:
    """Create up to ``wanted`` chunks; how many."""
    db, backfill, marks = held.means.db, held.backfill, held.marks
    listed: Sequence[Listed] = pull_requests.to_detail(
        db, backfill, pool_size(marks), oldest_first=backfill.is_oldest_first
    )
    listed = [packing.with_timeline(row, backfill.reads_timeline) for row in listed]
    created = 0
    for numbers in choose(listed, backfill, Marks(marks.chunk_size, wanted), request_size):
        try:
            chunks.create(db, backfill.id, numbers, planner_token=held.lease.token)
        except chunks.InAnotherChunk:
            # A sync request took one of them meanwhile. The next planner run cuts the rest.
            break
        created += 1
    held.chunks += created
    return created


def _request_size(held: Held) -> int:
    """The most pull requests of one request. While GitHub refuses nothing, requests have grown to the size of a chunk by the time
    most are read."""
    return int(repositories.request_size(held.means.db, held.backfill.repository_id) or packing.PAGE)
