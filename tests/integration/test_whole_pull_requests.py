"""A pull request is stored whole or not at all: the longest ones, and those that change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import generate
from tests.integration.demanding import Demanding, asked, comments, commits, files, is_detail, reviews

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
