"""GitHub's price of a query, as a pure function of its connections.

Each connection counts the parents that it can be reached from; the sum divided by 100, to the nearest, is the points,
at least one. Source: GitHub's documentation of rate limits for the GraphQL API; an upper bound, the reply wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Points for the details of a pull request whose sizes are not known (design section 8).
AVERAGE_POINTS = 0.055
# What its timeline and the state of its threads add, as `python -m benchmarks points` measures it.
TIMELINE_POINTS = 0.007
# The largest sum that is still rounded to one point.
ONE_POINT = 149


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection asked with ``first``, and the connections asked of each of its nodes."""

    first: int
    children: tuple[Connection, ...] = ()


def weight(connections: Iterable[Connection], parents: int = 1) -> int:
    """The sum of the formula: how many connections GitHub expects to fetch."""
    return sum(parents + weight(connection.children, parents * connection.first) for connection in connections)


def node_count(connections: Iterable[Connection], parents: int = 1) -> int:
    """Nodes that the query could return; GitHub refuses more than 500,000."""
    return sum(
        parents * connection.first + node_count(connection.children, parents * connection.first)
        for connection in connections
    )


def seconds(*, listed: int = 0, detailed: int = 0) -> float:
    """Server time of a request for so many pull requests: light ones of a listing, and ones with connections.

    Measurements that others published (section "How long queries take" of the API facts); the governor corrects them.
    """
    return 0.15 + 0.006 * listed + 0.1 * detailed


def points(total: int) -> int:
    """Points for a sum of weights."""
    return max(1, (total + 50) // 100)
