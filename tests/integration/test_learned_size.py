"""Learned size: divided by two when GitHub cannot answer, kept per repository, grown back slowly, without effect on others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backfill.chunk_worker.worker import Worker
from backfill.errors import Retryable
from backfill.github.reading import Terms
from backfill.github.request_size import GROWTH, START, RequestSize
from backfill.messages import PlanEvent, chunk_message
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import PASSING, Simulator, Validation, generate
from local.simulator.server import Answer
from local.simulator.viewers import EVERYBODY, Viewer
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
def test_a_request_that_was_too_large_is_repeated_in_halves(stack: Stack, name: str) -> None:
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


def test_a_size_that_an_attempt_learned_outlives_it(stack: Stack) -> None:
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
    stack.console.act({"action": "resume", "repository": NAME, "retry_failed": True})
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


@pytest.mark.parametrize(
    ("budget", "size"),
    [(Validation(aliases=12), 600), (Validation(selections=1500), 200)],
    ids=["aliases", "selections"],
)
def test_a_github_that_validates_little_refuses_a_few_times_and_then_no_more(
    db: Database, budget: Validation, size: int
) -> None:
    with Simulator(generate(9, {NAME: size}), speed=20_000, validation=budget) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME)
        stack.run()
        served = simulator.statistics()
        assert stack.state()["status"] == "completed"
        assert served["validation_timeouts"] <= 20
        # The light listing is one of them.
        assert served["points"] <= 9 * size / 100
        stack.assert_equals_github()
        # What was learned stays: nothing is refused when all is read again.
        for number in sorted(stack.repository(NAME).pull_requests)[:200]:
            stack.repository(NAME).change(number, title="Changed", updatedAt="2026-10-01T00:00:00Z")
        stack.heartbeat()
        stack.run()
        assert simulator.statistics()["validation_timeouts"] == served["validation_timeouts"]
        stack.assert_equals_github()


LITTLE = Validation(aliases=12)


@pytest.fixture
def little(db: Database) -> Iterator[Stack]:
    with Simulator(generate(9, {NAME: COUNT}), speed=20_000, validation=LITTLE) as simulator:
        yield Stack(db, simulator)


def refused(stack: Stack) -> int:
    return int(stack.simulator.statistics().get("validation_timeouts", 0))


def test_a_refusal_by_validation_is_known_to_all_and_tried_again_after_a_day(little: Stack) -> None:
    little.add(NAME)
    little.run()
    assert refused(little) == 1
    assert (learned(little) or START) >= START, "it says nothing about the number of pull requests"
    for times in (1, 2):
        # Another container, and another repository of the same identity.
        another = Stack(little.db, little.simulator, queues=little.queues)
        for number in sorted(little.repository(NAME).pull_requests):
            little.repository(NAME).change(number, updatedAt=f"2028-0{times}-01T00:00:00Z")
        another.heartbeat()
        another.run()
        little.assert_equals_github()
        assert refused(little) == times
        little.db.execute("UPDATE github_withheld SET since = now() - interval '25 hours'")
    assert little.console.act({"action": "status"})["advice"] == []


def test_a_grouped_request_is_whole_under_any_change_of_node_ids(little: Stack) -> None:
    """Another id since the listing, gone, changed, and grown in what was empty: by number GitHub shows what it has."""
    little.add(NAME, chunk_size=100)
    little.plan_once()
    repository = little.repository(NAME)
    first, second, third, fourth, *_ = sorted(repository.pull_requests)
    repository.change(first, id="PR_next_1")
    repository.pull_requests.pop(second)
    repository.change(third, title="Changed", updatedAt="2028-01-01T00:00:00Z")
    repository.change(fourth, comments=comments(repository, fourth, 3), updatedAt="2028-01-01T00:00:00Z")
    little.run()
    assert refused(little) == 1
    assert little.state()["processed_prs"] == COUNT - 1
    little.heartbeat()
    little.run()
    little.assert_equals_github()


@pytest.mark.parametrize("fault", ["null", "FORBIDDEN", "null connection", "NOT_FOUND below", "null node"])
def test_one_bad_place_costs_one_place_where_many_are_asked_for_together(little: Stack, fault: str) -> None:
    number = max(each for each, node in little.repository(NAME).pull_requests.items() if node["commits"])
    plain = little.simulator.answer

    def answer(body: dict[str, Any], viewer: Viewer = EVERYBODY) -> Answer:
        reply = plain(body, viewer)
        found = json.loads(reply.body)
        spoil(found, fault, number)
        return Answer(reply.status, reply.headers, json.dumps(found).encode(), reply.cut)

    little.simulator.answer = answer  # type: ignore[method-assign]
    little.add(NAME, chunk_size=100)
    little.run()
    assert refused(little) == 1
    state = little.state()
    assert state["status"] == "completed"
    if fault == "FORBIDDEN":
        (gap,) = little.db.rows("SELECT number, error_code FROM pull_request_gaps")
        assert gap == {"number": number, "error_code": "forbidden"}
    elif fault == "null":
        # By number GitHub shows it.
        assert little.db.rows("SELECT FROM pull_request_gaps") == []
        little.assert_equals_github()
    else:
        (gap,) = little.db.rows("SELECT number, reason FROM pull_request_gaps")
        assert gap == {"number": number, "reason": "incomplete"}
    assert little.db.rows("SELECT count(*) AS n FROM pull_requests WHERE detail_updated_at IS NOT NULL") == [
        {"n": COUNT - (fault == "FORBIDDEN")}
    ]


def spoil(answer: dict[str, Any], fault: str, number: int) -> None:
    """What GitHub does not show of one pull request, whichever way it is asked for."""
    data = answer.get("data") or {}
    of_repository = data.get("node") or {}
    places = [(["node", alias], of_repository) for alias in of_repository if alias[:1] == "p" and alias[1:].isdigit()]
    by_id = [([alias, index], data[alias]) for alias in data if alias[:1] == "g" for index in range(len(data[alias]))]
    base = [(path, holder) for path, holder in (*places, *by_id) if "number" in (holder[path[-1]] or {})]
    wanted = [path for path, holder in base if holder[path[-1]]["number"] == number]
    of_commits = [
        (path, holder)
        for path, holder in (*places, *by_id)
        if "commits" in (holder[path[-1]] or {}) and is_of(holder[path[-1]], number, path, wanted)
    ]
    errors = answer.setdefault("errors", [])
    for path, holder in [each for each in base if each[0] in wanted]:
        if fault == "FORBIDDEN" or (fault == "null" and path[0] != "node"):
            holder[path[-1]] = None
            errors += [{"type": fault, "path": path, "message": "no"}] if fault == "FORBIDDEN" else []
    for path, holder in of_commits:
        node = holder[path[-1]]
        if fault == "null connection" and node:
            node["commits"] = None
        elif fault == "NOT_FOUND below" and node:
            node["commits"] = None
            errors.append({"type": "NOT_FOUND", "path": [*path, "commits"], "message": "gone"})
        elif fault == "null node" and node and node["commits"]["nodes"]:
            node["commits"]["nodes"][0] = None
    if not errors:
        del answer["errors"]


def is_of(node: dict[str, Any], number: int, path: list[Any], wanted: list[list[Any]]) -> bool:
    return node["number"] == number if "number" in node else path in wanted


def test_few_names_in_a_document_are_enough_to_list_numbers_and_to_find_repositories(db: Database) -> None:
    with Simulator(generate(9, {f"octo/r{n:02}": 30 for n in range(30)}), speed=20_000, validation=LITTLE) as simulator:
        stack = Stack(db, simulator)
        found = stack.github.find([("octo", f"r{n:02}") for n in range(30)])
        assert all(isinstance(each, tuple) for each in found.values()) and len(found) == 30
        assert refused(stack) == 1
        repository = next(iter(simulator.repositories.values()))
        numbers = sorted(repository.pull_requests)
        listed = stack.github.list_numbers(repository.node["id"], [*numbers, 10**6])
        assert ([row["number"] for row in listed.pull_requests], listed.missing) == (numbers, [10**6])
        assert refused(stack) == 1


@pytest.mark.parametrize(
    ("seed", "size"),
    [
        (11, 400),
        pytest.param(11, 3000, marks=pytest.mark.soak),
        pytest.param(5, 3000, marks=pytest.mark.soak),
    ],
)
def test_no_document_has_8_kilobytes(db: Database, seed: int, size: int) -> None:
    """GitHub reads and validates all of it before it answers. tests/unit/test_document_size.py has what is rarer."""
    sent: set[str] = set()
    with Demanding(generate(seed, {NAME: size}), speed=20_000) as found:
        simulator: Any = found
        simulator.before = sent.add
        stack = Stack(db, simulator)
        stack.add(NAME, chunk_size=100)
        stack.run()
        assert stack.state()["status"] == "completed"
        node_id = next(iter(simulator.repositories))
        stack.github.list_numbers(node_id, range(100_000, 100_100))
        stack.github.check_for_changes([node_id])
        # The longest names that GitHub allows.
        stack.github.find([(f"{index:039}", f"{index:0100}") for index in range(100)])
    assert max(len(text.encode()) for text in sent) < 8_000
