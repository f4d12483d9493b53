"""Adaptive size: halved by what GitHub cannot give, kept per repository, grown back slowly; and nobody pays for another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backfill.chunk_processing import Worker
from backfill.errors import Retryable
from backfill.github.reading import Terms
from backfill.github.request_size import GROWTH, START, RequestSize
from backfill.messages import PlanEvent, chunk_message
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import PASSING, Simulator, Validation, generate
from tests.integration.demanding import Demanding, asked, comments, is_detail

NAME = "octo/slow"
COUNT = 60


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Demanding(generate(9, {NAME: COUNT}), speed=2000) as simulator:
        yield Stack(db, simulator)


def refuse(stack: Stack, refuses: Any) -> None:
    stack.simulator.refuses = refuses  # type: ignore[attr-defined]


def learned(stack: Stack) -> float | None:
    (row,) = stack.db.rows("SELECT detail_request_size AS size FROM repositories")
    return None if row["size"] is None else float(row["size"])


def noting(sizes: list[float]) -> Callable[[RequestSize], None]:
    """Notes what is learned."""
    return lambda size: sizes.append(size.value)


def listed(stack: Stack) -> list[dict[str, Any]]:
    (node_id,) = stack.simulator.repositories
    return stack.github.list_pull_requests(node_id, None).pull_requests


def test_a_repository_whose_requests_time_out_completes_in_smaller_ones_and_they_stay_small(stack: Stack) -> None:
    refuse(stack, lambda query: is_detail(query) and len(asked(query)) > 4)
    stack.add(NAME)
    assert set(stack.run()) == {"completed"}
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    size = learned(stack)
    assert size is not None and 2 <= size < 5 * GROWTH
    # What is planned and asked from now on holds no more than that.
    refused = stack.simulator.statistics()["refused"]
    for number in sorted(stack.repository(NAME).pull_requests)[:12]:
        stack.repository(NAME).change(number, title="Changed", updatedAt="2029-01-01T00:00:00Z")
    stack.planner.plan(PlanEvent())
    stack.run()
    stack.assert_equals_github()
    assert stack.simulator.statistics()["refused"] - refused <= 2


def test_the_size_grows_back_slowly(stack: Stack) -> None:
    (node_id,) = stack.simulator.repositories
    rows, sizes, before = listed(stack), [4.0], stack.github.spent
    stack.github.details(node_id, rows, Terms(request_size=RequestSize(4.0), learn=noting(sizes)))
    requests = (stack.github.spent - before).requests
    assert sizes[-1] == pytest.approx(min(100.0, 4.0 * GROWTH**requests), rel=0.35)
    assert 4.0 < sizes[-1] <= 4.0 * GROWTH**requests
    assert requests >= COUNT / sizes[-1]


@pytest.mark.parametrize(
    "name",
    [
        "timeout, 502 JSON",
        "timeout, 502 HTML",
        "timeout, 504 JSON",
        "timeout, 504 HTML",
        "timeout, 200",
        "resource limit",
        "resource limit, thousands",
    ],
)
def test_what_was_too_large_is_asked_for_in_halves(stack: Stack, name: str) -> None:
    (node_id,) = stack.simulator.repositories
    rows, sizes = listed(stack)[:20], list[float]()
    stack.simulator.script(next(each for each in PASSING if each.name == name))
    before = stack.github.spent
    read = stack.github.details(node_id, rows, Terms(request_size=RequestSize(20.0), learn=noting(sizes)))
    assert (len(read.tables["pull_requests"]), read.failed) == (20, {})
    assert sizes[0] == 10.0 and (stack.github.spent - before).requests >= 3


@pytest.mark.parametrize("name", ["stream reset", "unexpected end of file", "truncated document", "500"])
def test_a_reply_that_breaks_off_once_is_asked_for_again_and_twice_in_halves(stack: Stack, name: str) -> None:
    (node_id,) = stack.simulator.repositories
    rows = listed(stack)[:20]
    failure = next(each for each in PASSING if each.name == name)
    for times, first_learned in ((1, 22.0), (2, 10.0)):
        sizes: list[float] = []
        stack.simulator.script(*[failure] * times)
        before = stack.github.spent
        read = stack.github.details(node_id, rows, Terms(request_size=RequestSize(20.0), learn=noting(sizes)))
        assert (len(read.tables["pull_requests"]), read.failed) == (20, {})
        assert sizes[0] == pytest.approx(first_learned)
        assert (stack.github.spent - before).requests >= times + 1


def test_what_an_attempt_learned_outlives_it(stack: Stack) -> None:
    stack.add(NAME, chunk_size=40)
    stack.plan_once()
    refuse(stack, lambda query: is_detail(query) and len(asked(query)) > 4)
    left = iter([600.0] * 4 + [0.0] * 99)
    body = stack.queues.chunks.pop(0)
    hurried = Worker(stack.db, stack.github, stack.queues, lambda: next(left))
    assert hurried.handle(chunk_message(body), body) == "split"
    size = learned(stack)
    assert size is not None and size < 20
    chunk = stack.db.one("SELECT points, requests FROM backfill_chunks WHERE requests > 0")
    assert chunk is not None and chunk["requests"] >= 1 <= chunk["points"]


def test_one_poisonous_pull_request_shows_its_reason_and_nobody_else_suffers(stack: Stack) -> None:
    number = sorted(stack.repository(NAME).pull_requests)[COUNT // 2]
    stack.simulator.poison[number] = "<html>502</html>"
    # Its light listing is given; only its details are not.
    stack.add(NAME)
    assert set(stack.run()) == {"completed"}
    assert stack.state()["status"] == "completed"
    (gap,) = stack.db.rows("SELECT number, reason, error_code, error FROM pull_request_gaps")
    assert (gap["number"], gap["reason"], gap["error_code"]) == (number, "failed", "too_large")
    assert "502" in gap["error"]
    assert stack.state()["processed_prs"] == COUNT - 1
    assert stack.simulator.statistics()["poisoned"] <= 20
    size = learned(stack)
    assert size is None or size >= START
    (noted,) = stack.db.rows("SELECT error, error_code FROM backfill_chunks WHERE error IS NOT NULL")
    assert noted["error_code"] == "members_failed" and noted["error"].startswith(f"#{number}: ")
    stack.simulator.poison.clear()
    stack.operator.act({"action": "resume", "repository": NAME, "retry_failed": True})
    stack.run()
    stack.assert_equals_github()


def test_a_pull_request_too_heavy_for_one_request_is_read_connection_by_connection_in_short_pages(stack: Stack) -> None:
    repository = stack.repository(NAME)
    number = max(repository.pull_requests)
    kept = repository.pull_requests[number]
    total = kept["totalCommentsCount"] - len(kept["comments"]) + 130
    repository.change(number, comments=comments(repository, number, 130), totalCommentsCount=total)

    def is_heavy(query: str) -> bool:
        fields = asked(query).get(number, "") if is_detail(query) else ""
        return fields.count("totalCount") > 1 or any(f"comments(first: {first}" in fields for first in range(20, 101))

    refuse(stack, is_heavy)
    stack.add(NAME)
    assert set(stack.run()) == {"completed"}
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    size = learned(stack)
    assert size is None or size >= START


def test_an_outage_blames_no_pull_request_and_is_booked(stack: Stack) -> None:
    stack.add(NAME)
    stack.plan_once()
    booked = stack.state()
    refuse(stack, lambda query: True)
    before = stack.simulator.statistics()["requests"]
    assert stack.work_once() == "retried"
    requests = stack.simulator.statistics()["requests"] - before
    # Down to one pull request, and one look whether it is GitHub as a whole.
    assert requests <= 8
    assert stack.db.rows("SELECT FROM pull_requests WHERE detail_failed_at IS NOT NULL") == []
    chunk = stack.db.one("SELECT requests, points, error FROM backfill_chunks WHERE attempts = 1")
    assert chunk is not None and (chunk["requests"], "answers nothing" in chunk["error"]) == (requests, True)
    assert chunk["points"] >= requests
    state = stack.state()
    assert state["requests_made"] - booked["requests_made"] == requests
    assert state["points_spent"] - booked["points_spent"] == chunk["points"]


def test_where_all_details_fail_a_chunk_gives_up_after_a_few(stack: Stack) -> None:
    refuse(stack, is_detail)
    (node_id,) = stack.simulator.repositories
    rows, before = listed(stack)[:25], stack.github.spent
    with pytest.raises(Retryable, match="fails"):
        stack.github.details(node_id, rows)
    assert (stack.github.spent - before).requests < 150


def test_a_deferred_attempt_is_booked(stack: Stack) -> None:
    stack.add(NAME, chunk_size=50)
    stack.plan_once()
    booked, served = stack.state(), stack.simulator.statistics()
    stack.simulator.script(
        {}, {"status": 429, "body": {"message": "secondary rate limit"}, "headers": {"retry-after": "60"}}
    )
    assert stack.work_once() == "deferred"
    now = stack.simulator.statistics()
    chunk = stack.db.one("SELECT requests, points, attempts FROM backfill_chunks WHERE requests > 0")
    assert chunk == {"requests": 2, "points": now["points"] - served["points"], "attempts": 0}
    state = stack.state()
    assert state["points_spent"] - booked["points_spent"] == chunk["points"] > 0
    assert state["requests_made"] - booked["requests_made"] == 2


@pytest.mark.parametrize("budget", [Validation(aliases=12), Validation(selections=1500)], ids=["aliases", "selections"])
def test_a_github_that_validates_little_refuses_a_few_times_and_then_no_more(db: Database, budget: Validation) -> None:
    size = 800
    with Simulator(generate(9, {NAME: size}), speed=20_000, validation=budget) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME)
        stack.run()
        served = simulator.statistics()
        assert stack.state()["status"] == "completed"
        assert served["validation_timeouts"] <= 20
        if budget.aliases:
            # Twelve in a request make 8.3 points per 100, and the listing one more; chunks that were cut before are not full.
            assert served["points"] <= 12 * size / 100
        stack.assert_equals_github()
        # What was learned stays: hardly anything is refused when all is read again.
        for number in sorted(stack.repository(NAME).pull_requests)[:200]:
            stack.repository(NAME).change(number, title="Changed", updatedAt="2026-10-01T00:00:00Z")
        stack.heartbeat()
        stack.run()
        assert simulator.statistics()["validation_timeouts"] - served["validation_timeouts"] <= 2
        stack.assert_equals_github()


def test_no_document_is_larger_than_8_kilobytes(stack: Stack) -> None:
    """GitHub reads and validates all of it before it answers."""
    sent: set[str] = set()
    stack.simulator.before = sent.add  # type: ignore[attr-defined]
    stack.add(NAME, chunk_size=100)
    stack.run()
    node_id, names = next(iter(stack.simulator.repositories)), [("octo", f"name-{index:03}") for index in range(100)]
    stack.github.list_numbers(node_id, range(100_000, 100_100))
    stack.github.examine([node_id])
    stack.github.find(names)
    assert max(map(len, sent)) < 8_000, {text[:40]: len(text) for text in sent if len(text) >= 8_000}
