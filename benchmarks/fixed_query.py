"""The rival of sparse queries: one query of nine connections for every pull request, as backfill tools send it.

It is given every advantage: the page size and the number of review threads that cost least for this repository, known
beforehand, and the pages that follow packed as fully as the product packs its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from backfill.github import cost, packing
from backfill.github.detail_query import DetailQuery
from backfill.github.packing import Part
from backfill.github.transport import Transport
from local.simulator import Repository

# Of each pull request: one for each connection. The comments of its review threads come on top, one for each thread.
NAMES = tuple(name for name in packing.COUNTS if name != packing.TIMELINE)
CONNECTIONS = len(NAMES)
MOST_THREADS = 20
_ORDER = "orderBy: {field: CREATED_AT, direction: ASC}"


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of one connection of one pull request, after those that were read."""

    number: int
    part: Part
    after: str


def best(repository: Repository) -> tuple[int, int]:
    """Pull requests of a page, and review threads of each, for which the formula promises the fewest points."""
    sizes = [
        {name: len(node[name]) for name in NAMES if name != "reviewThreads"}
        for node in repository.pull_requests.values()
    ]
    pages_of_others = sum(-(-size // packing.PAGE) - 1 for each in sizes for size in each.values() if size)
    threads = [len(node["reviewThreads"]) for node in repository.pull_requests.values()]

    def points(page: int, first: int) -> float:
        following = pages_of_others + sum(1 + count - first for count in threads if count > first)
        return -(-len(threads) // page) * cost.points(1 + page * (CONNECTIONS + first)) + following / cost.ONE_POINT

    choices = [(page, first) for page in range(1, packing.PAGE + 1) for first in range(1, MOST_THREADS + 1)]
    return min(choices, key=lambda choice: points(*choice))


def read(api_url: str, node_id: str, page: int, threads: int) -> dict[str, int]:
    """Read a whole repository; how much of everything came."""
    transport, found = Transport(api_url), Counter[str]()
    parts = [
        Part(name, threads, packing.PAGE) if name == "reviewThreads" else Part(name, packing.PAGE) for name in NAMES
    ]
    following: list[_Page] = []
    cursor, more = "", True
    while more:
        after = f'after: "{cursor}", ' if cursor else ""
        query = DetailQuery()
        fields = " ".join(query.connection(part) for part in parts)
        query.field(
            f"pullRequests(first: {page}, {after}{_ORDER}) "
            f"{{ pageInfo {{ hasNextPage endCursor }} nodes {{ ...pullRequest {fields} }} }}"
        )
        answer = _ask(transport, node_id, query)["pullRequests"]
        for node in answer["nodes"]:
            found["pull_requests"] += 1
            following += [each for part in parts for each in _take(found, node, part)]
        cursor, more = answer["pageInfo"]["endCursor"], answer["pageInfo"]["hasNextPage"]
    while following:
        chosen = packing.next_request([(each.part.weight, 1) for each in following], packing.PAGE)
        request = [following[index] for index in chosen]
        following = [each for index, each in enumerate(following) if index not in set(chosen)]
        query = DetailQuery()
        for index, each in enumerate(request):
            query.pull_request(f"p{index}", each.number, f"number {query.connection(each.part, each.after)}")
        answer = _ask(transport, node_id, query)
        for index, each in enumerate(request):
            following += _take(found, answer[f"p{index}"], each.part)
    return dict(found)


def _ask(transport: Transport, node_id: str, query: DetailQuery) -> dict[str, Any]:
    answer: dict[str, Any] = transport.query(
        "ghp_rival", query.text(), {"repository": node_id, **query.variables}, 60.0
    ).data["node"]
    return answer


_KINDS = {"reviews": "reviews", "comments": "issue_comments", "commits": "commits", "files": "files"}


def _take(found: Counter[str], node: dict[str, Any], part: Part) -> list[_Page]:
    """Count the nodes of one connection; return the next page."""
    answer = node[part.connection]
    if part.connection in _KINDS:
        found[_KINDS[part.connection]] += len(answer["nodes"])
    for thread in answer["nodes"] if part.connection == "reviewThreads" else ():
        if thread["comments"]["pageInfo"]["hasNextPage"]:
            raise AssertionError(f"a review thread of more than {packing.PAGE} comments, which this rival cannot read")
        found["review_comments"] += len(thread["comments"]["nodes"])
    if not answer["pageInfo"]["hasNextPage"]:
        return []
    left = packing.PAGE
    if part.nested:
        left = min(packing.PAGE, answer["totalCount"] - part.first)
    return [_Page(node["number"], Part(part.connection, left, part.nested), answer["pageInfo"]["endCursor"])]
