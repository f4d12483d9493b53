"""A worker's decisions about a chunk that it read, and about a claim with an unknown end; without Postgres and GitHub."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from backfill.chunk_worker.handled import Handled, handled
from backfill.chunk_worker.judging import OLDER, Members, judge, undetailed
from backfill.error_codes import ErrorCode
from backfill.github.flaws import Flaw
from backfill.github.reading import ChunkDetails
from backfill.model import Chunk, ChunkStatus, Origin, Spent
from backfill.outcomes import (
    Attempt,
    Completed,
    Deferred,
    Ending,
    Failed,
    Released,
    Retried,
    Split,
    Stopped,
    Superseded,
    after_lost_commit,
)
from backfill.store.dividing import Stored

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, LAST = Attempt((1, 2, 3), 1, 2), Attempt((1, 2, 3), 5, 2)
MOVING = Flaw("reviews", "moving", "it changed while it was read")


def read(*numbers: int, **found: Any) -> ChunkDetails:
    """GitHub's answer about these numbers."""
    tables = {"pull_requests": [{"number": number} for number in numbers]}
    return ChunkDetails(tables, found.get("failed", {}), found.get("gone", []), found.get("incomplete", {}))


@pytest.mark.parametrize(
    ("answer", "missing", "refused", "expected"),
    [
        (read(1, 2, 3), [], {}, Completed()),
        (read(1, 2, gone=[3]), [], {}, Completed("#3: no pull request on GitHub", ErrorCode.MEMBERS_GONE)),
        (read(1, 2), [3], {}, Completed("#3: no pull request on GitHub", ErrorCode.MEMBERS_GONE)),
        (
            read(1, 2, 3, incomplete={2: [MOVING]}),
            [],
            {},
            Completed("#2: stored without reviews", ErrorCode.MEMBERS_INCOMPLETE),
        ),
        (
            read(1, 3, failed={2: ("null", "GitHub gave null")}),
            [],
            {},
            Completed("#2: GitHub gave null", ErrorCode.MEMBERS_FAILED),
        ),
        (read(1, 2, 3), [], {3: "too long"}, Completed("#3: too long", ErrorCode.MEMBERS_FAILED)),
        # The worst kind names the chunk; the note has every member.
        (
            read(1, gone=[3], failed={2: ("null", "x")}, incomplete={1: [MOVING, Flaw("files", "null", "x")]}),
            [],
            {},
            Completed(
                "#2: x; #1: stored without reviews, files; #3: no pull request on GitHub", ErrorCode.MEMBERS_FAILED
            ),
        ),
        (
            read(1, gone=[3], incomplete={1: [MOVING]}),
            [],
            {},
            Completed("#1: stored without reviews; #3: no pull request on GitHub", ErrorCode.MEMBERS_INCOMPLETE),
        ),
    ],
)
def test_a_chunk_that_was_stored_is_completed_with_a_note_about_each_member_that_is_not_whole(
    answer: ChunkDetails, missing: list[int], refused: dict[int, str], expected: Completed
) -> None:
    numbers = [row["number"] for row in answer.tables["pull_requests"]]
    stored = Stored([number for number in numbers if number not in refused], refused)
    assert judge(FIRST, Members([], missing), answer, stored, NOW).outcome == expected


def test_members_that_a_replica_answered_with_an_older_state_are_read_again_alone() -> None:
    judged = judge(FIRST, Members([]), read(1, 2, 3), Stored([2], {}), NOW)
    assert judged.outcome == Retried(
        NOW + timedelta(seconds=30), ErrorCode.OLDER_THAN_LISTED, f"{OLDER} (2 pull requests)", keep=(1, 3)
    )
    assert judged.failed == {}


def test_members_with_an_older_state_fail_with_the_last_attempt_and_the_chunk_is_completed() -> None:
    judged = judge(LAST, Members([]), read(1, 2, 3), Stored([2], {}), NOW)
    assert judged.failed == {1: (ErrorCode.OLDER_THAN_LISTED, OLDER), 3: (ErrorCode.OLDER_THAN_LISTED, OLDER)}
    assert judged.outcome == Completed(f"#1: {OLDER}; #3: {OLDER}", ErrorCode.MEMBERS_FAILED)


def test_refused_values_and_failed_reads_are_recorded_and_are_not_an_older_state() -> None:
    judged = judge(FIRST, Members([]), read(1, 2, failed={3: ("null", "x")}), Stored([1], {2: "too long"}), NOW)
    assert judged.failed == {2: (ErrorCode.VALUE_REFUSED, "too long"), 3: ("null", "x")}
    assert isinstance(judged.outcome, Completed)


def test_numbers_that_github_does_not_have_are_gone_once_and_in_order() -> None:
    assert judge(FIRST, Members([], [9, 2]), read(1, gone=[2, 5]), Stored([1], {}), NOW).gone == [2, 5, 9]


@pytest.mark.parametrize(
    ("detailed", "is_gone", "is_read"),
    [(None, False, True), (NOW - timedelta(1), False, True), (NOW, False, False), (None, True, False)],
    ids=["no detail", "detail of an older state", "current", "gone"],
)
def test_a_planner_s_chunk_reads_the_members_whose_detail_is_missing_or_old(
    detailed: datetime | None, is_gone: bool, is_read: bool
) -> None:
    row = {"detail_updated_at": detailed, "updated_at": NOW, "gone_at": NOW if is_gone else None}
    assert undetailed([row]) == Members([row] if is_read else [])


def chunk(status: ChunkStatus = ChunkStatus.PROCESSING, **changed: Any) -> Chunk:
    """Claimed for the second time; its first attempt has cost three requests."""
    fields: dict[str, Any] = {
        "id": "c",
        "backfill_id": "b",
        "repository_id": "r",
        "chunk_number": 1,
        "pr_numbers": (1, 2),
        "status": status,
        "origin": Origin.PLANNER,
        "dispatch_id": "d",
        "claim_token": None,
        "sent_at": None,
        "attempts": 2,
        "points": 3,
        "requests": 3,
        "error": None,
        "error_code": None,
    }
    return Chunk(**{**fields, **changed})


COMPLETED, FAILED, PENDING = ChunkStatus.COMPLETED, ChunkStatus.FAILED, ChunkStatus.PENDING


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # The COMMIT took effect: the chunk says how.
        (chunk(COMPLETED, requests=5), Completed()),
        (
            chunk(COMPLETED, requests=5, error="#2: x", error_code="members_failed"),
            Completed("#2: x", ErrorCode.MEMBERS_FAILED),
        ),
        (chunk(FAILED, requests=5, error="x", error_code="attempts_spent"), Failed(ErrorCode.ATTEMPTS_SPENT, "x")),
        # A release has booked this attempt's two requests.
        (chunk(PENDING, requests=5), Released()),
        (chunk(PENDING, requests=5, attempts=1), Released()),
        # Recovery took the chunk back, which books nothing; or another worker has it or has ended it.
        (chunk(PENDING), Superseded()),
        (chunk(attempts=3), Superseded()),
        (chunk(COMPLETED, attempts=3, requests=9), Superseded()),
        (chunk(FAILED, attempts=3, error="x", error_code="unexplained"), Superseded()),
        (None, Superseded()),
    ],
)
def test_after_a_commit_without_an_answer_the_chunk_tells_how_the_attempt_ended(
    found: Chunk | None, expected: Ending
) -> None:
    assert after_lost_commit(chunk(), found, Spent(2, 2)) == expected


def test_an_attempt_without_a_request_that_lost_its_claim_is_superseded() -> None:
    assert after_lost_commit(chunk(), chunk(PENDING), Spent()) == Superseded()


def test_each_ending_has_a_word_of_its_own() -> None:
    endings: list[Ending] = [
        Completed(),
        Deferred(NOW, ErrorCode.DEFERRED, "x"),
        Retried(NOW, ErrorCode.RETRYABLE, "x"),
        Split((1,), (2,), ErrorCode.OUT_OF_TIME, "x"),
        Stopped(NOW, 60, ErrorCode.FORBIDDEN, "x"),
        Failed(ErrorCode.UNEXPLAINED, "x"),
        Superseded(),
        Released(),
    ]
    assert {type(ending) for ending in endings} == set(get_args(Ending))
    words = [handled(ending) for ending in endings]
    assert len(set(words)) == len(words)
    assert handled(Stopped(NOW, 60, ErrorCode.FORBIDDEN, "x")) is Handled.PAUSED
