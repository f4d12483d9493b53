"""A pull request is stored whole or not at all: the longest ones, and those that change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import generate
from tests.integration.demanding import Demanding, asked, comments, commits, files, is_detail, reviews
from tests.reported.harness import Altered, detailed, pass_waits

NAME = "octo/extreme"


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Demanding(generate(5, {NAME: 40}), speed=2000) as simulator:
        yield Stack(db, simulator)


@pytest.fixture
def repository(stack: Stack) -> Any:
    return stack.repository(NAME)


def long_comments(repository: Any, number: int, count: int) -> dict[str, Any]:
    kept = repository.pull_requests[number]
    review_comments = kept["totalCommentsCount"] - len(kept["comments"])
    return {"comments": comments(repository, number, count), "totalCommentsCount": count + review_comments}


def completed(stack: Stack) -> None:
    state = stack.state()
    assert (state["status"], state["processed_prs"], state["total_prs"]) == ("completed", 40, 40)
    stack.assert_equals_github()


def test_the_longest_pull_requests_are_stored_whole(stack: Stack, repository: Any) -> None:
    most = sorted(repository.pull_requests)[::4]
    repository.change(most[0], **long_comments(repository, most[0], 3000))
    repository.change(most[1], commits=commits(most[1], 250))
    repository.change(most[2], files=files(755), changedFiles=755)
    repository.change(most[3], commits=commits(most[3], 2979))
    # Many review comments of few reviews, and of few threads; more than a page below one review, and below one thread.
    repository.change(most[4], **reviews(repository, most[4], [230, 1], 60))
    repository.change(most[5], **reviews(repository, most[5], [1] * 340, 2))
    repository.change(most[6], **reviews(repository, most[6], [3] * 120, 110))
    stack.add(NAME)
    assert set(stack.run()) == {"completed"}
    completed(stack)
    stored = stack.db.rows("SELECT pull_request_number, count(*) FROM commits GROUP BY 1 HAVING count(*) = 250")
    assert {row["pull_request_number"] for row in stored} == {most[1], most[3]}
    # 15 rounds for the comments, from both ends at once; all others find room in them or in a few more.
    assert stack.simulator.statistics()["points of PullRequestDetails"] <= 25


def test_a_change_between_listing_and_detail_is_stored_as_it_is_now(stack: Stack, repository: Any) -> None:
    empty = ("comments", "reviews", "labels", "assignees", "closingIssuesReferences", "reviewRequests")
    number, *others = sorted(repository.pull_requests)
    was = dict(repository.pull_requests[number])
    repository.change(number, **{name: [] for name in empty}, reviewThreads=[], totalCommentsCount=0)
    stack.add(NAME)
    stack.plan_once()
    label, person = {"id": "L_new", "name": "new", "color": "ffffff"}, next(p["author"] for p in (was,))
    repository.change(number, labels=[label], assignees=[person] if person["__typename"] == "User" else [])
    repository.change(number, **reviews(repository, number, [2, 0, 1], 2))
    repository.change(number, **long_comments(repository, number, 250), closingIssuesReferences=[{"number": 7}])
    # Longer than it was listed, shorter, and empty.
    repository.change(others[0], **long_comments(repository, others[0], 130))
    repository.change(others[1], files=files(320), changedFiles=320)
    repository.change(others[2], commits=commits(others[2], 1))
    repository.change(others[3], **long_comments(repository, others[3], 0))
    assert set(stack.run()) == {"completed"}
    completed(stack)
    row = stack.db.one(
        "SELECT detail_updated_at = updated_at AS current FROM pull_requests WHERE number = :n", n=number
    )
    assert row == {"current": True}
    issues = stack.db.rows(
        "SELECT issue_number FROM pull_request_closing_issues WHERE pull_request_number = :n", n=number
    )
    assert issues == [{"issue_number": 7}]


def test_a_pull_request_that_changes_between_its_pages_is_begun_again(stack: Stack, repository: Any) -> None:
    number = max(repository.pull_requests)
    repository.change(number, **long_comments(repository, number, 1000), updatedAt="2029-01-01T00:00:00Z")
    pages: list[str] = []

    def meddle(query: str) -> None:
        if is_detail(query) and number in asked(query):
            pages.append(asked(query)[number])
            if len(pages) == 3:
                grown = long_comments(repository, number, 1050)
                repository.change(number, **grown, title="Begun again", updatedAt="2029-01-02T00:00:00Z")

    stack.simulator.before = meddle  # type: ignore[attr-defined]
    stack.add(NAME)
    assert set(stack.run()) == {"completed"}
    completed(stack)
    # Two pages of the first reading, the one that showed the change, and six of the second.
    assert len(pages) == 3 + 6


def test_one_that_never_rests_does_not_stop_its_neighbours_and_says_so(stack: Stack, repository: Any) -> None:
    number = max(repository.pull_requests)
    repository.change(number, **long_comments(repository, number, 300), updatedAt="2029-01-01T00:00:00Z")
    moments = iter(range(1, 60))

    def meddle(query: str) -> None:
        if is_detail(query) and number in asked(query):
            repository.change(number, updatedAt=f"2029-01-01T00:01:{next(moments):02d}Z")

    stack.simulator.before = meddle  # type: ignore[attr-defined]
    stack.add(NAME)
    stack.plan_once()
    while stack.queues.chunks:
        assert stack.work_once() == "completed"
    (gap,) = stack.db.rows("SELECT number, reason, error_code, error FROM pull_request_gaps")
    assert (gap["number"], gap["reason"], gap["error_code"]) == (number, "failed", "moving")
    assert "changes faster" in gap["error"]
    assert stack.state()["processed_prs"] == 39
    stack.simulator.before = lambda query: None  # type: ignore[attr-defined]
    stack.heartbeat()
    stack.run()
    completed(stack)


def test_review_comments_are_read_whatever_githubs_count_of_all_comments_includes(
    stack: Stack, repository: Any
) -> None:
    without, one = sorted(repository.pull_requests)[:2]
    repository.change(without, **{**reviews(repository, without, [3, 2], 4), "totalCommentsCount": 0})
    repository.change(one, **{**reviews(repository, one, [1] * 30, 3), "totalCommentsCount": None})
    stack.add(NAME)
    assert set(stack.run()) == {"completed"}
    completed(stack)


DENIALS = {
    "NOT_FOUND": (
        {"type": "NOT_FOUND", "message": "Could not resolve to a PullRequest."},
        "not_found",
        "GitHub lists it",
    ),
    "FORBIDDEN": (
        {"type": "FORBIDDEN", "message": "Resource not accessible."},
        "forbidden",
        "Resource not accessible.",
    ),
    "untyped": ({"message": "Something went wrong."}, "unexplained", "Something went wrong."),
}


@pytest.mark.parametrize(("error", "code", "reason"), DENIALS.values(), ids=DENIALS)
def test_one_that_is_listed_and_never_given_fails_alone(
    db: Database, error: dict[str, str], code: str, reason: str
) -> None:
    """The listing says that it is there, and its number says that it is not: neither undoes the other without end."""
    with Altered(generate(5, {NAME: 40}), speed=50_000) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME)
        bad = sorted(stack.repository(NAME).pull_requests)[20]

        def deny(answer: Any, query: str, variables: Any) -> None:
            denied = [alias for alias, each in detailed(answer).items() if each["number"] == bad]
            for alias in denied:
                answer["data"]["node"][alias] = None
            answer.setdefault("errors", []).extend({**error, "path": ["node", alias]} for alias in denied)

        simulator.alter = deny
        stack.run(most=40, between=lambda: pass_waits(db))
        assert simulator.asked <= 15
        for _ in range(2):
            stack.heartbeat()
            stack.run(most=40, between=lambda: pass_waits(db))
        assert simulator.asked <= 20
        state, (gap,) = stack.state(), db.rows("SELECT number, reason, error_code, error FROM pull_request_gaps")
        assert (state["status"], state["processed_prs"], state["error_count"]) == ("completed", 39, 0)
        assert (gap["number"], gap["reason"], gap["error_code"]) == (bad, "failed", code)
        assert gap["error"].startswith(reason)

        # A day later GitHub gives it.
        del simulator.alter
        db.execute("UPDATE pull_requests SET detail_failed_at = now() - interval '25 hours' WHERE number = :n", n=bad)
        stack.heartbeat()
        stack.run(most=40, between=lambda: pass_waits(db))
        stack.assert_equals_github()
        assert db.one("SELECT denied_at FROM pull_requests WHERE number = :n", n=bad) == {"denied_at": None}


@pytest.mark.parametrize(
    "error", [{"message": "Something went wrong."}, {"type": "SERVICE_UNAVAILABLE", "message": "No."}]
)
def test_one_name_that_github_cannot_answer_does_not_hide_the_others(db: Database, error: dict[str, str]) -> None:
    with Altered(generate(9, {f"octo/r{n}": 3 for n in range(5)}), speed=50_000) as simulator:
        stack = Stack(db, simulator)

        def spoil(answer: Any, query: str, variables: Any) -> None:
            answer["data"]["r3"] = None
            answer["errors"] = [{**error, "path": ["r3"]}]

        stack.github.find([("octo", "r0")])
        simulator.alter, before = spoil, simulator.asked
        found = stack.github.find([("octo", f"r{n}") for n in range(5)])
        assert simulator.asked == before + 1
        assert str(found.pop("octo/r3")) == f"octo/r3: {error['message']}"
        assert len(found) == 4 and all(isinstance(each, tuple) for each in found.values())
