"""Every decision of the planner, as tables: no Postgres, no GitHub."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill import brake, errors, priority
from backfill.error_codes import ErrorCode
from backfill.github.errors import (
    BadCredentials,
    BrokenOff,
    Forbidden,
    InvalidQuery,
    RepositoryUnavailable,
    ScopeMissing,
    TooLarge,
    Unexplained,
    UnknownField,
    Unreachable,
)
from backfill.github.finding import RepositoryState
from backfill.github.packing import COUNTS, PAGE
from backfill.model import Backfill, BackfillStatus
from backfill.planner import changes, cutting, failures, turn
from backfill.planner.completed import is_current
from backfill.planner.means import Margins, Part
from backfill.planner.run import follow_up_seconds
from backfill.priority import Marks
from backfill.store.completed import Resting

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BACKFILL = Backfill(
    id="b",
    repository_id="r",
    status=BackfillStatus.ACTIVE,
    metadata={},
    chunk_size=25,
    max_chunks=10,
    total_prs=100,
    listed_prs=100,
    unlisted_prs=0,
    processed_prs=0,
    last_processed_cursor="c",
    listing_page_size=100,
    listing_started_at=NOW - timedelta(hours=1),
    listing_completed_at=NOW,
    scan_cursor=None,
    scan_until=None,
    updates_watermark=NOW,
    examined_at=None,
    pause_reason=None,
    paused_until=None,
    reads_timeline=False,
    timeline_to_mark=False,
)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


# Changes


@pytest.mark.parametrize(
    ("latest", "known"),
    [
        (None, None),
        (ago(days=3), ago(days=3)),
        (ago(seconds=60), ago(seconds=60)),
        # Within the last minute another change may get the same second.
        (ago(seconds=59), ago(seconds=60)),
        (NOW, ago(seconds=1)),
        # A clock that was set wrong: changes from now on are older.
        (NOW + timedelta(days=9), ago(seconds=1)),
    ],
)
def test_every_change_is_known_up_to_a_second_that_has_passed(latest: datetime | None, known: datetime | None) -> None:
    assert changes.known_until(latest, NOW) == known


@pytest.mark.parametrize(
    ("latest", "hours"),
    [
        (NOW, 0),
        # A clock that was set wrong.
        (NOW + timedelta(days=9), 0),
        (ago(days=6, hours=23), 0),
        (ago(days=7), 4),
        (ago(days=27), 4),
        (ago(days=28), 8),
        (ago(days=3000), 8),
        # It never had a pull request, and GitHub does not say when it began.
        (None, 8),
    ],
)
def test_the_longer_a_repository_rests_the_later_it_is_checked(latest: datetime | None, hours: int) -> None:
    assert changes.next_check(latest, NOW) == timedelta(hours=hours)


def test_the_known_time_is_a_whole_second_like_githubs() -> None:
    assert changes.known_until(NOW + timedelta(days=1), NOW.replace(microsecond=999_999)) == ago(seconds=1)


@pytest.mark.parametrize(
    ("latest", "watermark", "expected"),
    [
        (None, None, False),
        (None, NOW, False),
        (NOW, None, True),
        (NOW, NOW, False),
        (NOW, ago(seconds=1), True),
        (ago(seconds=1), NOW, False),
    ],
)
def test_a_repository_has_moved_if_its_newest_change_is_past_the_watermark(
    latest: datetime | None, watermark: datetime | None, expected: bool
) -> None:
    assert changes.has_moved(latest, watermark) is expected


@pytest.mark.parametrize(
    ("counted", "listed", "unlisted", "expected"),
    [(9, 9, 0, False), (10, 9, 0, True), (8, 9, 0, True), (10, 9, 1, False), (9, 9, 1, False), (11, 9, 1, True)],
)
def test_counts_differ_unless_nothing_or_only_the_hidden_is_missing(
    counted: int, listed: int, unlisted: int, expected: bool
) -> None:
    assert changes.counts_differ(counted, listed, unlisted) is expected


@pytest.mark.parametrize(
    ("total", "unlisted", "begun", "expected"),
    [
        (103, 2, ago(hours=23), True),
        # No whole listing has confirmed anything, or not within a day.
        (103, 0, ago(hours=1), False),
        (103, 2, ago(hours=24), False),
        (103, 2, None, False),
        # Fewer or as many as were hidden: something vanished or came.
        (102, 2, ago(hours=1), False),
        (101, 2, ago(hours=1), False),
    ],
)
def test_more_hidden_pull_requests_cause_a_whole_listing_a_day_at_most(
    total: int, unlisted: int, begun: datetime | None, expected: bool
) -> None:
    backfill = replace(BACKFILL, total_prs=total, unlisted_prs=unlisted, listing_started_at=begun)
    assert changes.is_more_hidden(backfill, NOW) is expected


@pytest.mark.parametrize(
    ("seen", "watermark", "expected"),
    [
        ([ago(minutes=11), NOW], NOW, True),
        ([ago(minutes=10), NOW], NOW, False),
        ([NOW, None], NOW, False),
        ([], NOW, False),
        ([ago(days=9)], None, False),
    ],
)
def test_a_refresh_reads_ten_minutes_further_back_than_the_watermark(
    seen: list[datetime | None], watermark: datetime | None, expected: bool
) -> None:
    assert changes.is_far_enough(seen, watermark) is expected


# Checks of completed backfills

RESTING = Resting(
    "b", "r", total_prs=10, listed_prs=10, unlisted_prs=0, updates_watermark=NOW, node_id="R_1", owner="octo"
)


@pytest.mark.parametrize(
    ("resting", "total", "latest", "expected"),
    [
        (RESTING, 10, iso(NOW), True),
        (RESTING, 10, None, True),
        (RESTING, 10, iso(NOW + timedelta(seconds=1)), False),
        (RESTING, 11, iso(NOW), False),
        (RESTING, 9, iso(NOW), False),
        (replace(RESTING, updates_watermark=None), 10, iso(NOW), False),
        # GitHub counts one that it hides; and then hides it no more.
        (replace(RESTING, total_prs=11, unlisted_prs=1), 11, iso(NOW), True),
        (replace(RESTING, total_prs=11, unlisted_prs=1), 10, iso(NOW), False),
        # The same total, which differs from what is listed.
        (replace(RESTING, listed_prs=9), 10, iso(NOW), False),
        (replace(RESTING, total_prs=10, unlisted_prs=1), 10, iso(NOW), False),
    ],
)
def test_a_completed_backfill_is_current_if_nothing_moved_and_the_counts_agree(
    resting: Resting, total: int, latest: str | None, expected: bool
) -> None:
    assert is_current(resting, RepositoryState({}, total, latest)) is expected


# Failures

LIMIT = errors.Deferred(NOW, 90.0, "server time")
FIELD = UnknownField("x")
UNLISTED = replace(BACKFILL, last_processed_cursor=None)


@pytest.mark.parametrize(
    ("error", "backfill", "looked_before", "expected"),
    [
        (LIMIT, BACKFILL, False, failures.Deferred(NOW, 90.0)),
        # The new owner may be dead, so planning is requested once more.
        (errors.LeaseLost(), BACKFILL, False, failures.LostLease(1.0)),
        (Unexplained("x"), BACKFILL, False, failures.Counted(False, 60.0)),
        (TooLarge("x"), BACKFILL, False, failures.Counted(False, 60.0)),
        (BrokenOff("x"), BACKFILL, False, failures.Counted(False, 60.0)),
        (errors.NotSent("x"), BACKFILL, False, failures.Counted(False, 60.0)),
        (Unreachable("x"), BACKFILL, False, failures.Counted(True, 60.0)),
        # Only the second look pauses.
        (RepositoryUnavailable("x"), BACKFILL, False, failures.LookAgain(60.0)),
        (RepositoryUnavailable("x"), BACKFILL, True, failures.Paused(ErrorCode.REPOSITORY_UNAVAILABLE, 24 * 60)),
        (BadCredentials("x"), BACKFILL, False, failures.Paused(ErrorCode.BAD_CREDENTIALS, 60)),
        (Forbidden("x"), BACKFILL, False, failures.Paused(ErrorCode.FORBIDDEN, 60)),
        (ScopeMissing("x", field="f", scopes="s"), BACKFILL, False, failures.Paused(ErrorCode.FORBIDDEN, 60)),
        # A cursor that GitHub refuses is dropped. Without one the query is the trouble.
        (InvalidQuery("x"), BACKFILL, False, failures.ListAgain(60.0)),
        (InvalidQuery("x"), UNLISTED, False, failures.Paused(ErrorCode.INVALID_QUERY, 60)),
        # A server that is too old stays so until an operator replaces it, whatever the cursor.
        (FIELD, BACKFILL, False, failures.Paused(FIELD.code, None)),
        (FIELD, UNLISTED, False, failures.Paused(FIELD.code, None)),
    ],
)
def test_an_error_of_a_run_becomes_one_failure(
    error: Any, backfill: Backfill, looked_before: bool, expected: failures.Failure
) -> None:
    assert failures.decide(error, backfill, looked_before=looked_before) == expected


# Continuation


@pytest.mark.parametrize(
    ("again", "idle_runs", "expected"),
    [(None, 0, 0.0), (0, 0, 0.0), (0, 1, 1.0), (0, 4, 8.0), (60.0, 1, 60.0), (60.0, 9, 256.0), (0, 99, 900.0)],
)
def test_the_next_plan_request_waits_for_the_run_and_for_the_brake(
    again: float | None, idle_runs: int, expected: float
) -> None:
    assert turn.continuation_seconds(again, idle_runs) == expected


@pytest.mark.parametrize(
    ("waits", "idle_runs", "expected"),
    [((0.0, 0.0), 0, 0.0), ((0.0, 7.0), 0, 7.0), ((0.0, 0.0), 3, 4.0), ((2.0, 7.0), 3, 7.0), ((9999.0,), 0, 900.0)],
)
def test_a_round_continues_after_its_longest_wait_as_far_as_sqs_can_wait(
    waits: tuple[float, ...], idle_runs: int, expected: float
) -> None:
    assert brake.LONGEST_SECONDS == 900
    assert follow_up_seconds([Part(False, wait) for wait in waits], idle_runs) == expected


@pytest.mark.parametrize(
    ("timeout", "page", "check"),
    [(900, 20.0, 40.0), (60, 20.0, 40.0), (45, 20.0, 30.0), (30, 20.0, 20.0), (5, 20.0, 20.0)],
)
def test_no_margin_takes_more_than_two_thirds_of_the_time(timeout: float, page: float, check: float) -> None:
    assert Margins.of(timeout) == Margins(page, check)


# Cutting


@pytest.mark.parametrize(
    ("level", "chunk_size", "expected"),
    [
        ("high", 25, (50, 10)),
        ("normal", 25, (25, 10)),
        ("low", 25, (25, 5)),
        ("high", 100, (100, 20)),
        ("high", 1, (2, 10)),
        (None, 25, (25, 10)),
    ],
)
def test_marks_keep_the_shares_also_where_a_chunk_cannot_grow(
    level: Any, chunk_size: int, expected: tuple[int, int]
) -> None:
    backfill = replace(BACKFILL, metadata={"priority": level}, chunk_size=chunk_size)
    assert priority.marks(backfill) == expected
    assert priority.marks(backfill, 7, 3) == (7, 3)


def listed(count: int) -> list[dict[str, Any]]:
    """Pull requests without connections, as the listing shows them."""
    return [
        {"number": number, "total_comments_count": 0, **dict.fromkeys(COUNTS.values(), 0)}
        for number in range(1, count + 1)
    ]


def test_a_chunk_that_stays_half_empty_waits_while_the_listing_continues() -> None:
    few = listed(3)
    assert cutting.choose(few, replace(BACKFILL, listing_completed_at=None), Marks(25, 10)) == []
    assert cutting.choose(few, BACKFILL, Marks(25, 10)) == [[1, 2, 3]]


def test_a_request_that_stays_half_empty_waits_while_the_pool_is_full() -> None:
    """Two requests of ten make a chunk. Of 275 pull requests the last five are less than a request."""
    marks = Marks(25, 40)
    pool = listed(cutting.pool_size(marks))
    assert len(pool) == 275
    assert sum(len(numbers) for numbers in cutting.choose(pool, BACKFILL, marks, 10)) == 270
    assert sum(len(numbers) for numbers in cutting.choose(pool[:-1], BACKFILL, marks, 10)) == 274


def test_a_pool_is_cut_into_no_more_chunks_than_are_wanted() -> None:
    assert cutting.choose(listed(60), BACKFILL, Marks(25, 1)) == [list(range(1, 26))]


def test_numbers_are_asked_for_in_pieces_of_a_page() -> None:
    assert [list(some) for some in cutting.pieces(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [len(some) for some in cutting.pieces(range(PAGE + 1))] == [PAGE, 1]


# Reports


def test_a_report_leaves_out_what_does_not_apply() -> None:
    assert turn.Planned("r", skipped="removed").as_json() == {
        "repository_id": "r",
        "pages": 0,
        "chunks": 0,
        "sent": 0,
        "unsent": 0,
        "skipped": "removed",
    }
    limited = turn.Planned("r", "octo/one", 1, 2, 3, 0, limit=failures.Deferred(NOW, 5.0)).as_json()
    assert (limited["deferred_until"], limited["deferred_seconds"]) == ("2026-01-01T12:00:00+00:00", 5.0)
