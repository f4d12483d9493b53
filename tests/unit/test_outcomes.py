"""Every decision about a claimed chunk, as a table: no Postgres, no GitHub."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backfill import errors
from backfill.error_codes import ErrorCode
from backfill.github.errors import (
    BadCredentials,
    BrokenOff,
    Forbidden,
    InvalidQuery,
    OutOfMemory,
    OutOfTime,
    RateLimited,
    RepositoryUnavailable,
    ScopeMissing,
    TooLarge,
    Unexplained,
    UnknownField,
    Unreachable,
)
from backfill.outcomes import Attempt, Deferred, Failed, Outcome, Retried, Split, Stopped, decide, retried

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def attempt(number: int = 1, *, members: int = 4, requests: int = 3) -> Attempt:
    return Attempt(tuple(range(1, members + 1)), number, requests)


def later(**wait: float) -> datetime:
    return NOW + timedelta(**wait)


LIMIT = errors.Deferred(later(seconds=90), 90.0, "server time")
FIRST, LAST = attempt(1), attempt(5)
CASES: list[tuple[Exception, Attempt, Outcome]] = [
    # A limit is not an error: no attempt is counted, whichever attempt it is.
    (LIMIT, FIRST, Deferred(later(seconds=90), ErrorCode.DEFERRED, "server time")),
    (LIMIT, LAST, Deferred(later(seconds=90), ErrorCode.DEFERRED, "server time")),
    # Errors that may pass: 30, 60, 120, 240 seconds, then failed.
    (Unexplained("x"), attempt(1), Retried(later(seconds=30), ErrorCode.UNEXPLAINED, "x")),
    (Unexplained("x"), attempt(2), Retried(later(seconds=60), ErrorCode.UNEXPLAINED, "x")),
    (Unexplained("x"), attempt(4), Retried(later(seconds=240), ErrorCode.UNEXPLAINED, "x")),
    (Unexplained("x"), LAST, Failed(ErrorCode.ATTEMPTS_SPENT, "x")),
    (TooLarge("x"), FIRST, Retried(later(seconds=30), ErrorCode.TOO_LARGE, "x")),
    (BrokenOff("x"), FIRST, Retried(later(seconds=30), ErrorCode.BROKEN_OFF, "x")),
    (RateLimited("primary", None), LAST, Failed(ErrorCode.ATTEMPTS_SPENT, "GitHub's primary rate limit")),
    # An outage meets many workers at once, which counts as one error.
    (Unreachable("x"), FIRST, Retried(later(seconds=30), ErrorCode.UNREACHABLE, "x", is_outage=True)),
    # Too much for one invocation: in halves; the larger one stays.
    (OutOfTime("x"), FIRST, Split((1, 2), (3, 4), ErrorCode.OUT_OF_TIME, "x")),
    (OutOfMemory("x"), attempt(members=3), Split((1, 2), (3,), ErrorCode.OUT_OF_MEMORY, "x")),
    (OutOfTime("x"), LAST, Split((1, 2), (3, 4), ErrorCode.OUT_OF_TIME, "x")),
    # One alone cannot be divided; and what had no time for a request says nothing about the size.
    (OutOfTime("x"), attempt(members=1), Retried(later(seconds=30), ErrorCode.OUT_OF_TIME, "x", counts=False)),
    (OutOfTime("x"), attempt(requests=0), Retried(later(seconds=30), ErrorCode.OUT_OF_TIME, "x", counts=False)),
    (OutOfMemory("x"), attempt(5, members=1), Failed(ErrorCode.ATTEMPTS_SPENT, "x", counts=False)),
    # The token: an hour, whatever the attempt.
    (BadCredentials("x"), LAST, Stopped(later(hours=1), 60, ErrorCode.BAD_CREDENTIALS, "x")),
    (Forbidden("x"), FIRST, Stopped(later(hours=1), 60, ErrorCode.FORBIDDEN, "x")),
    (ScopeMissing("x", field="f", scopes="s"), FIRST, Stopped(later(hours=1), 60, ErrorCode.FORBIDDEN, "x")),
    # Trying again cannot help: this chunk has failed, and three such pause the backfill.
    (InvalidQuery("x"), FIRST, Failed(ErrorCode.INVALID_QUERY, "x")),
    (UnknownField("x"), FIRST, Failed(ErrorCode.INVALID_QUERY, "x")),
]


@pytest.mark.parametrize(("error", "at", "expected"), CASES, ids=lambda case: getattr(case, "code", None) or "")
def test_an_error_makes_one_outcome(error: Exception, at: Attempt, expected: Outcome) -> None:
    assert decide(error, at, NOW) == expected


@pytest.mark.parametrize(
    ("looked_before", "expected"),
    [
        (False, Deferred(later(seconds=301), ErrorCode.REPOSITORY_UNAVAILABLE, "x")),
        (True, Stopped(later(days=1), 1440, ErrorCode.REPOSITORY_UNAVAILABLE, "x")),
    ],
)
def test_a_repository_that_is_not_shown_is_looked_at_again_minutes_later(
    looked_before: bool, expected: Outcome
) -> None:
    assert decide(RepositoryUnavailable("x"), LAST, NOW, looked_before=looked_before) == expected


def test_an_outage_of_postgres_counts_as_an_attempt_and_not_as_an_error_of_the_backfill() -> None:
    broken = errors.DatabaseUnavailable("x")
    expected = Retried(later(seconds=30), ErrorCode.DATABASE_UNAVAILABLE, "x", counts=False)
    assert retried(broken, FIRST, NOW, counts=False) == expected


@pytest.mark.parametrize("error", [errors.DatabaseUnavailable("x"), errors.StaleClaim("x"), ValueError("x")])
def test_an_error_that_is_not_for_the_chunk_to_decide_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        decide(error, FIRST, NOW)
