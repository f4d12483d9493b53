"""The cost model: the formula gives the price that the simulator charges, and GitHub's reply decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from graphql import parse
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.github import cost, packing, session
from backfill.github.detail_query import DetailQuery
from backfill.github.packing import COUNTS
from backfill.model import Spent
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import generate
from local.simulator.price import price_of
from tests.integration.demanding import Demanding

NAME = "octo/priced"

sizes = st.fixed_dictionaries({column: st.integers(0, 400) for column in sorted(set(COUNTS.values()))})


@given(st.lists(st.tuples(sizes, st.integers(0, 500)), min_size=1, max_size=8), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_formula_gives_the_simulators_points_and_nodes(rows: list[tuple[dict[str, int], int]], more: bool) -> None:
    plans = [
        packing.parts_of({"number": 1, **each, "total_comments_count": each["comments_count"] + review_comments})
        for each, review_comments in rows
    ]
    query = DetailQuery()
    for index, parts in enumerate(plans):
        query.pull_request(f"p{index}", index + 1, " ".join(["id", *map(query.connection, parts)]))
    if more:
        query.more_review_comments("n0", "PRR_1", "reviews", (100, "cursor"))
    price = price_of(parse(query.text()), {"repository": "R_1"})
    weight = sum(part.weight for parts in plans for part in parts) + more
    assert (price.weight, price.points) == (weight, cost.points(weight))
    connections = [
        cost.Connection(count, (cost.Connection(part.nested),) if part.nested else ())
        for parts in plans
        for part in parts
        for count in (part.first, part.last)
        if count
    ]
    # Pages are rounded up where that costs nothing.
    assert cost.node_count(connections) + 100 * more <= price.nodes <= 500_000


def test_a_pull_request_is_read_once_however_many_pages_follow() -> None:
    """What tests count as read again is neither a look at the list's fields nor a further page."""
    part, _ = packing.parts_of(
        {"number": 1, "total_comments_count": 0, **dict.fromkeys(COUNTS.values(), 0), "commits_count": 250}
    )
    query = DetailQuery()
    query.pull_request("p1", 1, "...listed")
    query.pull_request("p2", 2, f"...pullRequest {query.connection(part)}")
    query.pull_request("p3", 3, f"...pullRequest {query.connection(part, after='cursor')}")
    query.pull_request("p4", 4, "...pullRequest")
    price = price_of(parse(query.text()), {"repository": "R_1"})
    assert (price.asked, price.read) == ([1, 2, 3, 4], [2, 4])


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Demanding(generate(3, {NAME: 120}), speed=2000) as simulator:
        yield Stack(db, simulator)


class Noted:
    """What the client counts and tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counted: list[str] = []
        self.told: list[dict[str, Any]] = []
        monkeypatch.setattr(session, "count", lambda name, value=1: self.counted.append(name))
        monkeypatch.setattr(session, "problem", lambda message, **fields: self.told.append(fields))


def test_every_request_of_a_backfill_costs_what_the_formula_says(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    stack.add(NAME)
    stack.run()
    stack.heartbeat()
    assert stack.state()["status"] == "completed"
    assert "CostsMispredicted" not in noted.counted
    # All but the question whose token it is, which the client asks before it knows whose points it spends.
    served = stack.simulator.statistics()
    assert stack.github.spent == Spent(served["points"] - 1, served["requests"] - 1)


def test_a_price_that_differs_is_told_once_counted_and_taken_from_the_reply(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Noted(monkeypatch)
    reported = stack.simulator.limits.rate_limit
    monkeypatch.setattr(
        stack.simulator.limits, "rate_limit", lambda price: {**(reported(price) or {}), "cost": price.points + 2}
    )
    stack.add(NAME)
    (node_id,) = stack.simulator.repositories
    for _ in range(3):
        stack.github.check_for_changes([node_id])
    assert noted.counted.count("CostsMispredicted") == 4
    (told,) = noted.told
    assert (told["formula"], told["cost"]) == (1, 3)
    assert stack.github.spent == Spent(points=4 * 3, requests=4)
