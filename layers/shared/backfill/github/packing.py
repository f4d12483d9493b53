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
_COUNTS = {
    "labels": "labels_count",
    "assignees": "assignees_count",
    "reviewRequests": "review_requests_count",
    "closingIssuesReferences": "closing_issues_count",
    "comments": "comments_count",
    "reviews": "reviews_count",
    "commits": "commits_count",
    "files": "files_count",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One connection of one pull request: ``first`` nodes, and ``nested`` review comments of each."""

    connection: str
    first: int
    nested: int | None = None

    @property
    def weight(self) -> int:
        """Its share of the cost formula's sum."""
        below = (cost.Connection(self.nested),) if self.nested else ()
        return cost.weight([cost.Connection(self.first, below)])


def parts_of(listed: Mapping[str, Any], *, threads: bool = True) -> tuple[Part, ...]:
    """The cheapest parts that read a pull request of these sizes completely.

    Review comments come with their reviews, or with their threads where that weighs less (and ``threads`` allows it).
    """
    review_comments = max(0, (listed["total_comments_count"] or 0) - listed["comments_count"])
    by_review = min(PAGE, listed["reviews_count"])
    by_thread = 1 + min(PAGE, listed["review_threads_count"])
    use_threads = threads and listed["review_threads_count"] > 0 and by_thread < by_review
    parts = []
    for connection, column in _COUNTS.items():
        first = min(PAGE, listed[column])
        if first:
            nested = min(PAGE, review_comments) if connection == "reviews" and not use_threads else 0
            parts.append(Part(connection, first, nested or None))
    if review_comments and use_threads:
        parts.append(Part("reviewThreads", min(PAGE, listed["review_threads_count"]), min(PAGE, review_comments)))
    return tuple(parts)


def weight_of(listed: Mapping[str, Any]) -> int:
    """What the details of a pull request weigh."""
    return sum(part.weight for part in parts_of(listed))


T = TypeVar("T")


def pack(weighted: Iterable[tuple[int, T]], most: int) -> list[list[T]]:
    """Fill requests of at most ``most`` things and one point's weight, heaviest first.

    A thing that weighs more than a point alone gets a request of its own.
    """
    bins: list[tuple[int, list[T]]] = []
    for weight, thing in sorted(weighted, key=lambda pair: -pair[0]):
        for index, (filled, things) in enumerate(bins):
            if filled + weight <= cost.ONE_POINT and len(things) < most:
                things.append(thing)
                bins[index] = (filled + weight, things)
                break
        else:
            bins.append((weight, [thing]))
    return [things for _, things in bins]


def cut(listed: Sequence[Mapping[str, Any]], chunk_size: int, max_chunks: int) -> list[list[int]]:
    """Numbers for up to ``max_chunks`` chunks of at most ``chunk_size``, in the given order, their requests full.

    A chunk ends where the next pull request would begin another request, unless the chunk is less than half full.
    """
    chunks: list[list[int]] = []
    current: list[Mapping[str, Any]] = []
    for row in listed:
        if len(chunks) == max_chunks:
            return chunks
        if current and (len(current) == chunk_size or _begins_a_request(current, row, chunk_size)):
            chunks.append([each["number"] for each in current])
            current = []
        current.append(row)
    if current and len(chunks) < max_chunks:
        chunks.append([each["number"] for each in current])
    return chunks


def predict(listed: Sequence[Mapping[str, Any]], chunk_size: int) -> tuple[int, int]:
    """Points and requests that the details of these pull requests will cost, chunked as ``cut`` does."""
    by_number = {row["number"]: row for row in listed}
    points = requests = 0
    for chunk in cut(listed, chunk_size, len(listed)):
        rows = [by_number[number] for number in chunk]
        for request in pack([(weight_of(row), row) for row in rows], chunk_size):
            points += cost.points(sum(weight_of(row) for row in request))
            requests += 1
    return points, requests


def _begins_a_request(current: Sequence[Mapping[str, Any]], row: Mapping[str, Any], chunk_size: int) -> bool:
    weights = [weight_of(each) for each in current]
    if len(current) * 2 < chunk_size and sum(weights) <= cost.ONE_POINT:
        return (
            sum(weights) + weight_of(row) > cost.ONE_POINT
            and weight_of(row) <= cost.ONE_POINT
            and sum(weights) * 10 > cost.ONE_POINT * 9
        )
    before = sum(cost.points(sum(request)) for request in pack([(w, w) for w in weights], chunk_size))
    after = sum(cost.points(sum(request)) for request in pack([(w, w) for w in [*weights, weight_of(row)]], chunk_size))
    return after > before and sum(weights) >= before * cost.ONE_POINT * 0.9
