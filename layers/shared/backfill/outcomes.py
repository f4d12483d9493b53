"""What becomes of a claimed chunk. An outcome is a value. Only ``decide`` chooses one from an error, and
``store.conclusions.conclude`` writes any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from backfill import errors
from backfill.error_codes import ErrorCode
from backfill.github.errors import BadCredentials, Forbidden, OutOfMemory, OutOfTime, RepositoryUnavailable, Unreachable
from backfill.model import Chunk, ChunkStatus, Spent

# Attempts of a chunk. SQS counts receives; they are not attempts.
MAX_ATTEMPTS = 5
# The wait before the first retry. It doubles each time.
FIRST_RETRY_SECONDS = 30
# GitHub is asked again for a repository that it does not show after this time. A hiccup is over by then.
LOOK_AGAIN_SECONDS = 300
# The lengths of the product's pauses. The cause may be gone when they end.
ERROR_PAUSE_MINUTES = 60
CREDENTIALS_PAUSE_MINUTES = 60
UNAVAILABLE_PAUSE_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Attempt:
    """What decisions need of a claimed chunk. ``attempts`` includes this one; ``requests`` are those of this attempt."""

    pr_numbers: tuple[int, ...]
    attempts: int
    requests: int

    @classmethod
    def of(cls, chunk: Chunk, spent: Spent) -> Self:
        """Of a claimed chunk, with what this attempt has spent."""
        return cls(chunk.pr_numbers, chunk.attempts, spent.requests)

    @property
    def is_last(self) -> bool:
        """Whether an error of this attempt ends the chunk."""
        return self.attempts >= MAX_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Completed:
    """Stored. ``note`` names the members that are not whole, ``code`` the worst kind of them."""

    note: str | None = None
    code: ErrorCode | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """Given back until a limit of GitHub ends, or until GitHub is asked again. No attempt is counted."""

    until: datetime
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Retried:
    """Given back after an error until ``at``, with the members of ``keep`` alone if that is set.

    ``counts``: it is an error of the backfill too; three in a row pause it. ``is_outage``: many workers meet it at once.
    """

    at: datetime
    code: ErrorCode
    reason: str
    counts: bool = True
    is_outage: bool = False
    keep: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Too much for one invocation. The chunk keeps some members, and the others become a chunk of their own."""

    kept: tuple[int, ...]
    moved: tuple[int, ...]
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The token or the repository is the cause. The chunk is given back, and the backfill pauses ``until`` then."""

    until: datetime
    pause_minutes: int
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Failed, with the members that were not read. ``counts`` as for a retry."""

    code: ErrorCode
    reason: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Superseded:
    """Recovery or another worker has the chunk: nothing of this attempt is stored."""


@dataclass(frozen=True, slots=True)
class Released:
    """The chunk is pending again. The answer to the COMMIT was lost, so which outcome released it is unknown."""


Outcome = Completed | Deferred | Retried | Split | Stopped | Failed
Ending = Outcome | Superseded | Released


def decide(error: Exception, attempt: Attempt, now: datetime, *, looked_before: bool = False) -> Outcome:
    """What an error makes of a chunk. ``looked_before``: GitHub did not show the repository minutes ago either.

    Raises the error if it is not for the chunk to decide.
    """
    match error:
        case errors.Deferred():
            return Deferred(error.until, ErrorCode.DEFERRED, error.reason)
        case OutOfTime() | OutOfMemory():
            return _divided(error, attempt, now)
        case RepositoryUnavailable() if not looked_before:
            return Deferred(now + timedelta(seconds=LOOK_AGAIN_SECONDS + 1), error.code, str(error))
        case RepositoryUnavailable():
            return _stopped(error, now, UNAVAILABLE_PAUSE_MINUTES)
        case BadCredentials() | Forbidden():
            return _stopped(error, now, CREDENTIALS_PAUSE_MINUTES)
        case errors.Permanent():
            return Failed(error.code, str(error))
        case errors.Retryable():
            return retried(error, attempt, now)
    raise error


def retried(
    error: errors.Retryable | errors.DatabaseUnavailable, attempt: Attempt, now: datetime, *, counts: bool = True
) -> Retried | Failed:
    """Another attempt later. After the last attempt the chunk has failed."""
    if attempt.is_last:
        return Failed(ErrorCode.ATTEMPTS_SPENT, str(error), counts)
    return Retried(retry_at(attempt, now), error.code, str(error), counts, isinstance(error, Unreachable))


def retry_at(attempt: Attempt, now: datetime) -> datetime:
    """When the next attempt may begin."""
    return now + timedelta(seconds=FIRST_RETRY_SECONDS * 2 ** (attempt.attempts - 1))


def after_lost_commit(claimed: Chunk, found: Chunk | None, spent: Spent) -> Completed | Failed | Released | Superseded:
    """How an attempt ended whose COMMIT got no answer and whose claim is gone: ``found`` is the chunk as it is now."""
    if found is None:
        return Superseded()
    if found.attempts == claimed.attempts:
        if found.status is ChunkStatus.COMPLETED:
            return Completed(found.error, ErrorCode(found.error_code) if found.error_code else None)
        if found.status is ChunkStatus.FAILED:
            return Failed(ErrorCode(str(found.error_code)), str(found.error))
    booked = found.requests - claimed.requests
    # Each release books what the attempt has cost; recovery books nothing.
    return Released() if booked and booked == spent.requests else Superseded()


def _divided(error: OutOfTime | OutOfMemory, attempt: Attempt, now: datetime) -> Split | Retried | Failed:
    """Half of the members become a chunk of their own. A single pull request, or an attempt without a request, is retried."""
    numbers = attempt.pr_numbers
    if len(numbers) == 1 or not attempt.requests:
        return retried(error, attempt, now, counts=False)
    half = -(-len(numbers) // 2)
    return Split(numbers[:half], numbers[half:], error.code, str(error))


def _stopped(error: errors.Permanent, now: datetime, minutes: int) -> Stopped:
    return Stopped(now + timedelta(minutes=minutes), minutes, error.code, str(error))
