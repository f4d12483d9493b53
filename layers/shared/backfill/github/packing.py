"""Which connections to ask of which pull request, and how they share requests: everything for the fewest points.

A pull request weighs one per connection that is not empty, and one per review or thread whose comments are asked.
Requests are filled up to the largest weight that GitHub still rounds to one point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from backfill.github import cost

PAGE = 100

# Connection, and the column that says how many nodes it has.
COUNTS = {
    "labels": "labels_count",
    "assignees": "assignees_count",
    "reviewRequests": "review_requests_count",
    "closingIssuesReferences": "closing_issues_count",
    "comments": "comments_count",
    "reviews": "reviews_count",
    "commits": "commits_count",
    "files": "files_count",
    "reviewThreads": "review_threads_count",
    "timelineItems": "timeline_pages",
}
# Not a count of GitHub: whether the timeline is to be read. Rows of a listing lack it (with_timeline).
TIMELINE = "timelineItems"


# Where GitHub ends a connection, whatever it counts; the far end of a longer one is not what it seems.
ENDS = {"commits": 250, "files": 3000}
# Whose totalCount says nothing: of a timeline it counts every item, whatever itemTypes are asked for. Only hasNextPage ends
# it. https://github.com/strands-labs/robots/issues/2146
UNCOUNTED = frozenset({TIMELINE})
# A request is full from this share of a point's weight on.
FULL = 0.97
# What may wait for one planning, in chunks: the choice from which full requests are cut.
POOL_CHUNKS = 10


def with_timeline(listed: Mapping[str, Any], is_read: bool) -> Mapping[str, Any]:
    """The same pull request, if its timeline is to be read, and whether its threads are resolved."""
    return {**listed, COUNTS[TIMELINE]: 1} if is_read else listed


@dataclass(frozen=True, slots=True)
class Part:
    """One connection of one pull request: ``first`` nodes and the ``last`` ones, with ``nested`` review comments of each.

    What has more than a page is read from both ends at once: half as many requests until nothing is left between.
    """

    connection: str
    first: int
    nested: int | None = None
    last: int = 0

    @property
    def weight(self) -> int:
        """Its share of the cost formula's sum."""
        below = (cost.Connection(self.nested),) if self.nested else ()
        return cost.weight([cost.Connection(count, below) for count in (self.first, self.last) if count])


def page_of(connection: str, total: int, left: int, nested: int | None, page: int = PAGE) -> Part:
    """The next request's part of a connection of ``total`` nodes, ``left`` of them unread."""
    if connection in UNCOUNTED:
        return Part(connection, page, nested)
    from_both_ends = total <= ENDS.get(connection, total) and left > page == PAGE
    # One more from the far end than is left: where the ends meet, they show the same node, and the count was right.
    return Part(connection, min(page, left), nested, min(page, left - page + 1) if from_both_ends else 0)


def rounds_of(connection: str, total: int, left: int) -> int:
    """How many requests, one after the other, read ``left`` nodes of a connection of ``total``."""
    if connection in UNCOUNTED:
        return 1
    both = total <= ENDS.get(connection, total)
    return -(-min(left, ENDS.get(connection, left)) // (2 * PAGE if both else PAGE))


def parts_of(listed: Mapping[str, Any], *, threads: bool = True) -> tuple[Part, ...]:
    """The cheapest parts that read a pull request of these sizes, or the first round of it.

    Review comments come with their reviews, or with their threads where that weighs less (and ``threads`` allows it).
    """
    return tuple(page_of(name, total, total, nested) for name, total, nested in _connections(listed, threads))


def review_comments(listed: Mapping[str, Any]) -> int:
    """How many review comments there are at least: by GitHub's count of all comments, and one in each thread.

    What that count includes is nowhere documented exactly; threads are enough to know that there is something to read.
    """
    return max(
        int(listed["total_comments_count"] or 0) - int(listed["comments_count"]), int(listed["review_threads_count"])
    )


def _connections(listed: Mapping[str, Any], threads: bool = True) -> list[tuple[str, int, int | None]]:
    """Connection, nodes, and review comments to ask of each node, for every connection that is to be read."""
    reads_timeline = bool(listed.get(COUNTS[TIMELINE]))
    # Whether threads are resolved is asked for anyway.
    page_of_threads = 0 if reads_timeline else 1
    count = listed["review_threads_count"]
    by_thread = threads and count > 0 and page_of_threads + count < listed["reviews_count"]
    nested = min(PAGE, review_comments(listed)) or None
    found = []
    for connection, column in COUNTS.items():
        holds_comments = connection == ("reviewThreads" if by_thread else "reviews")
        total = int(reads_timeline if connection == TIMELINE else listed[column])
        if connection == "files" and not total and listed["commits_count"]:
            # Of a very large pull request GitHub says that it changes no files, and gives null for them.
            total = 1
        is_wanted = connection != "reviewThreads" or reads_timeline or (by_thread and nested)
        if total and is_wanted:
            found.append((connection, total, nested if holds_comments else None))
    return found


@dataclass(frozen=True, slots=True)
class Load:
    """What reading a whole pull request takes: the sum of its weights, and requests one after the other."""

    number: int
    weight: int
    rounds: int


def load_of(listed: Mapping[str, Any]) -> Load:
    """The load of a pull request of these sizes; pages of single reviews and threads cannot be foreseen."""
    weight, rounds = 0, 1
    for connection, total, nested in _connections(listed):
        nodes = min(total, ENDS.get(connection, total))
        weight += -(-nodes // PAGE) + (nodes if nested else 0)
        rounds = max(rounds, rounds_of(connection, total, total))
    return Load(int(listed["number"]), weight, rounds)


def next_request(waiting: Sequence[tuple[int, int]], most: int) -> list[int]:
    """Indexes of the ``(weight, rounds)`` to ask for now, at most ``most`` of them.

    Those with the most rounds to go cannot wait; the others fill up the request. Something that weighs more than a
    point gets the points it needs, and others fill up its last one.
    """
    order = sorted(range(len(waiting)), key=lambda index: (-waiting[index][1], -waiting[index][0]))
    urgent, weight = 0, 0
    for index in order[:most]:
        if urgent and (waiting[index][1] == 1 or weight + waiting[index][0] > cost.ONE_POINT):
            break
        urgent, weight = urgent + 1, weight + waiting[index][0]
    chosen = _fullest([waiting[index][0] for index in order], most, _capacity(weight), urgent)
    return [order[index] for index in chosen]


def cut(
    listed: Sequence[Mapping[str, Any]],
    chunk_size: int,
    max_chunks: int,
    *,
    request_size: int = PAGE,
    more: bool = False,
) -> list[list[int]]:
    """Numbers for up to ``max_chunks`` chunks of at most ``chunk_size``, whose requests come out full.

    ``listed`` is in the wanted order: each chunk begins with the first that is left, and is filled up with those that
    make its weight whole. Pull requests that take several rounds share a chunk, with the heaviest others to fill their
    rounds. ``request_size`` is the most pull requests of one request. With ``more`` still to come, a chunk that would
    stay half empty is not cut yet.
    """
    loads = [load_of(row) for row in listed]
    giants = [load for load in loads if load.rounds > 1]
    left = [load for load in loads if load.rounds == 1]
    chunks: list[list[int]] = []
    while giants and len(chunks) < max_chunks:
        together, giants = giants[:chunk_size], giants[chunk_size:]
        weight = sum(load.weight for load in together)
        capacity = max(cost.ONE_POINT * max(load.rounds for load in together), _capacity(weight))
        weights = [load.weight for load in (*together, *left)]
        chosen = _fullest(weights, chunk_size, capacity, len(together))[len(together) :]
        chunks.append([load.number for load in (*together, *(left[index - len(together)] for index in chosen))])
        left = _without(left, [index - len(together) for index in chosen])
    while left and len(chunks) < max_chunks:
        chunk: list[int] = []
        while left and len(chunk) < chunk_size:
            most = min(request_size, chunk_size - len(chunk))
            chosen = _fullest([load.weight for load in left], most, _capacity(left[0].weight))
            is_full = sum(left[index].weight for index in chosen) >= FULL * cost.ONE_POINT
            # The best of a large choice is as full as it gets.
            is_best = not chunk and len(left) - len(chosen) >= chunk_size
            is_whole = is_full or is_best or len(chosen) >= min(request_size, chunk_size)
            if not is_whole and (more or (chunk and len(chosen) < len(left))):
                break  # less than a request: for a later chunk, unless it is all that is left
            chunk += [left[index].number for index in chosen]
            left = _without(left, chosen)
        if not chunk:
            break
        chunks.append(chunk)
    return chunks


class Prediction(NamedTuple):
    """What reading the details of some pull requests takes."""

    points: int
    requests: int
    chunks: int


def predict(listed: Sequence[Mapping[str, Any]], chunk_size: int) -> Prediction:
    """What the details of these pull requests will cost, chunked as ``cut`` does."""
    left = {row["number"]: row for row in listed}
    points = requests = chunks = 0
    while left:
        pool = list(islice(left.values(), (POOL_CHUNKS + 1) * chunk_size))
        for numbers in cut(pool, chunk_size, POOL_CHUNKS, more=len(pool) < len(left)):
            chunks += 1
            waiting = [(load.weight, load.rounds) for load in (load_of(left.pop(number)) for number in numbers)]
            rounds = max(rounds for _, rounds in waiting)
            if rounds > 1:
                needed = max(rounds, -(-sum(weight for weight, _ in waiting) // cost.ONE_POINT))
                points, requests, waiting = points + needed, requests + needed, []
            while waiting:
                chosen = next_request(waiting, PAGE)
                points += cost.points(sum(waiting[index][0] for index in chosen))
                requests += 1
                waiting = _without(waiting, chosen)
    return Prediction(points, requests, chunks)


T = TypeVar("T")


def _without(things: Sequence[T], indexes: Iterable[int]) -> list[T]:
    chosen = set(indexes)
    return [thing for index, thing in enumerate(things) if index not in chosen]


def _capacity(weight: int) -> int:
    """The largest sum that costs no more than this weight alone."""
    return cost.ONE_POINT + 100 * max(0, -(-(weight - cost.ONE_POINT) // 100))


def _fullest(weights: Sequence[int], most: int, capacity: int, given: int = 1) -> list[int]:
    """Indexes of the first ``given`` things and of those that fill the capacity best: most weight, then most things,
    then the first.

    Subset sum by dynamic programming: for every weight within reach, a bit for each number of things that makes it.
    """
    room = max(0, capacity - sum(weights[:given]))
    mask = (1 << (most - given + 1)) - 1
    reach = [1] + [0] * room
    before: list[list[int]] = []
    for weight in weights[given:]:
        if reach[room] >> (most - given):
            break  # the whole weight with as many things as allowed: nothing later can do better
        before.append(reach)
        if weight <= room:
            added = [old | (new << 1 & mask) for old, new in zip(reach[weight:], reach, strict=False)]
            reach = reach[:weight] + added
    total = max(weight for weight, things in enumerate(reach) if things)
    things = reach[total].bit_length() - 1
    chosen = []
    for index in range(len(before) - 1, -1, -1):
        if not before[index][total] >> things & 1:
            chosen.append(given + index)
            total, things = total - weights[given + index], things - 1
    return [*range(given), *reversed(chosen)]
