"""Cut listed pull requests without current details into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backfill import outbox
from backfill.github import packing
from backfill.github.records import Listed
from backfill.model import Backfill
from backfill.planner.lease import Held
from backfill.priority import Marks
from backfill.store import chunks, pull_requests, repositories
from backfill.store.connection import Database


def fill(held: Held) -> None:
    """Cut chunks until the mark is reached, then send everything that waits in the outbox."""
    db = held.means.db
    room = room_for(db, held.backfill, held.marks)
    while room > 0 and held.means.has_time_for_page():
        wanted = min(room, packing.POOL_CHUNKS)
        created = _create(held, wanted)
        held.chunks += created
        room -= created
        if created < wanted:
            break
    sent = outbox.send(db, held.means.queues, backfill_id=held.backfill.id)
    held.sent += sent.accepted
    held.unsent = sent.refused


def room_for(db: Database, backfill: Backfill, marks: Marks) -> int:
    """How many chunks may be cut until the mark is reached."""
    return max(0, marks.chunks - chunks.outstanding(db, backfill.id).planned)


def propose(db: Database, backfill: Backfill, marks: Marks, most: int) -> list[list[int]]:
    """The numbers of up to ``most`` next chunks. Reads only: a dry run may ask too."""
    listed: Sequence[Listed] = pull_requests.to_detail(
        db, backfill, pool_size(marks), oldest_first=backfill.is_oldest_first
    )
    # While GitHub refuses nothing, requests have grown to the size of a chunk by the time most of these are read.
    request_size = int(repositories.request_size(db, backfill.repository_id) or packing.PAGE)
    listed = [packing.with_timeline(row, backfill.reads_timeline) for row in listed]
    return choose(listed, backfill, Marks(marks.chunk_size, most), request_size)


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


def _create(held: Held, wanted: int) -> int:
    """Create up to ``wanted`` chunks; how many."""
    db, created = held.means.db, 0
    for numbers in propose(db, held.backfill, held.marks, wanted):
        try:
            chunks.create(db, held.backfill.id, numbers, planner_token=held.lease.token)
        except chunks.InAnotherChunk:
            # A sync request took one of them meanwhile. The next planner run cuts the rest.
            break
        created += 1
    return created
