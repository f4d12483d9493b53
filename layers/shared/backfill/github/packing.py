"""Which connections to ask of which pull request, and how they share requests: everything for the fewest points.

A pull request weighs one per connection that is not empty, and one per review or thread whose comments are asked.
Requests are filled up to the largest weight that GitHub still rounds to one point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
}


# A request is full from this share of a point's weight on.
FULL = 0.97
# What may wait for one planning, in chunks: the choice from which full requests are cut.
POOL_CHUNKS = 10
# Beyond this many pull requests a prediction extrapolates from the newest.
PREDICTED_EXACTLY = 2000


@dataclass(frozen=True, slots=True)
class Part:
    """One connection of one pull request: ``first`` nodes and the ``last`` ones, with ``nested`` review comments of each.

    A connection of 101 to 200 nodes is read from both ends in one request, so that no page has to follow.
    """

    connection: str
    first: int
    nested: int | None = None
    last: int = 0

    @property
    def weight(self) -> int:
        """Its share of the cost formula's sum."""
        below = (cost.Connection(self.nested),) if self.nested else ()
        ends = [cost.Connection(count, below) for count in (self.first, self.last) if count]
        return cost.weight(ends)


def parts_of(listed: Mapping[str, Any], *, threads: bool = True) -> tuple[Part, ...]:
    """The cheapest parts that read a pull request of these sizes completely.

    Review comments come with their reviews, or with their threads where that weighs less (and ``threads`` allows it).
    """
    review_comments = max(0, (listed["total_comments_count"] or 0) - listed["comments_count"])
    by_review = listed["reviews_count"]
    by_thread = 1 + listed["review_threads_count"]
    use_threads = threads and listed["review_threads_count"] > 0 and by_thread < by_review
    nested = min(PAGE, review_comments) or None
    parts = []
    for connection, column in COUNTS.items():
        if listed[column] and connection != "reviewThreads":
            below = nested if connection == "reviews" and not use_threads else None
            parts.append(_part(connection, listed[column], below))
    if review_comments and use_threads:
        parts.append(_part("reviewThreads", listed["review_threads_count"], nested))
    return tuple(parts)


def _part(connection: str, nodes: int, nested: int | None) -> Part:
    return Part(connection, min(PAGE, nodes), nested, nodes - PAGE if PAGE < nodes <= 2 * PAGE else 0)


def weight_of(listed: Mapping[str, Any]) -> int:
    """What the details of a pull request weigh."""
    return sum(part.weight for part in parts_of(listed))


T = TypeVar("T")


def pack(weighted: Iterable[tuple[int, T]], most: int) -> list[list[T]]:
    """Share things out to requests of at most ``most`` of them, each as full as one point allows.

    A thing that weighs more than a point gets the points it needs, and others fill up its last one.
    """
    left = sorted(weighted, key=lambda pair: -pair[0])
    requests = []
    while left:
        chosen = _fullest([weight for weight, _ in left], most)
        requests.append([left[index][1] for index in chosen])
        left = [each for index, each in enumerate(left) if index not in set(chosen)]
    return requests


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
    make its weight whole. ``request_size`` is the most pull requests of one request. With ``more`` still to come, a
    chunk that would stay half empty is not cut yet.
    """
    left = [(weight_of(row), int(row["number"])) for row in listed]
    chunks: list[list[int]] = []
    while left and len(chunks) < max_chunks:
        chunk: list[int] = []
        while left and len(chunk) < chunk_size:
            chosen = _fullest([weight for weight, _ in left], min(request_size, chunk_size - len(chunk)))
            request = [left[index] for index in chosen]
            is_full = sum(weight for weight, _ in request) >= FULL * cost.ONE_POINT
            # The best of a large choice is as full as it gets.
            is_best = not chunk and len(left) - len(request) >= chunk_size
            is_whole = is_full or is_best or len(request) >= min(request_size, chunk_size)
            if not is_whole and (more or (chunk and len(request) < len(left))):
                break  # less than a request: for a later chunk, unless it is all that is left
            chunk += [number for _, number in request]
            left = [each for index, each in enumerate(left) if index not in set(chosen)]
        if not chunk:
            break
        chunks.append(chunk)
    return chunks


def predict(listed: Sequence[Mapping[str, Any]], chunk_size: int) -> tuple[int, int]:
    """Points and requests that the details of these pull requests will cost, chunked as ``cut`` does."""
    exact = listed[:PREDICTED_EXACTLY]
    left = {row["number"]: row for row in exact}
    points = requests = 0
    while left:
        pool = list(left.values())[: (POOL_CHUNKS + 1) * chunk_size]
        for numbers in cut(pool, chunk_size, POOL_CHUNKS, more=len(pool) < len(left)):
            rows = [left.pop(number) for number in numbers]
            weights = [weight_of(row) for row in rows]
            for request in pack([(weight, weight) for weight in weights], PAGE):
                points += cost.points(sum(request))
                requests += 1
            follow_ups = sum(any(row[column] > 2 * PAGE for column in COUNTS.values()) for row in rows)
            points, requests = points + follow_ups, requests + follow_ups
    scale = len(listed) / len(exact) if exact else 0
    return round(points * scale), round(requests * scale)


def _fullest(weights: Sequence[int], most: int) -> list[int]:
    """Indexes of the first thing and of those that fill its request best: most weight, then most things, then the first.

    Subset sum by dynamic programming: for every weight within reach, a bit for each number of things that makes it.
    """
    capacity = cost.ONE_POINT + 100 * max(0, -(-(weights[0] - cost.ONE_POINT) // 100))
    room = capacity - weights[0]
    mask = (1 << most) - 1
    reach = [1] + [0] * room
    before: list[list[int]] = []
    for weight in weights[1:]:
        if reach[room] >> (most - 1):
            break  # the whole weight with as many things as allowed: nothing later can do better
        before.append(reach)
        if weight <= room:
            added = [old | (new << 1 & mask) for old, new in zip(reach[weight:], reach, strict=False)]
            reach = reach[:weight] + added
    total = max(weight for weight, things in enumerate(reach) if things)
    things = reach[total].bit_length() - 1
    chosen = []
    for index in range(len(before), 0, -1):
        if not before[index - 1][total] >> things & 1:
            chosen.append(index)
            total, things = total - weights[index], things - 1
    return [0, *reversed(chosen)]
