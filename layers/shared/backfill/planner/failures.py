"""What an error of a planner run means for its backfill. ``decide`` is the only place that chooses."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from backfill import brake, errors, pauses
from backfill.error_codes import ErrorCode
from backfill.errors import MOST_TEXT, LeaseLost, Permanent, Retryable
from backfill.github.errors import InvalidQuery, RepositoryUnavailable, UnknownField, Unreachable
from backfill.model import Backfill
from backfill.outcomes import CREDENTIALS_PAUSE_MINUTES, ERROR_PAUSE_MINUTES, UNAVAILABLE_PAUSE_MINUTES
from backfill.planner.lease import Held
from backfill.store import backfills, leases, listings, repositories

# After an error that may pass.
AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Deferred:
    """A limit of GitHub: planning continues at ``until``."""

    until: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class LostLease:
    """Another planner took over the lease. It may be dead by now, and this run's message is gone when it is acknowledged, so
    planning is requested once more."""

    seconds: float = brake.SHORTEST_SECONDS


@dataclass(frozen=True, slots=True)
class ListAgain:
    """GitHub refuses the cursor, which is opaque: the listing begins again, and stored rows stay."""

    seconds: float = AGAIN_SECONDS


@dataclass(frozen=True, slots=True)
class LookAgain:
    """GitHub did not show the repository for the first time. A second look decides."""

    seconds: float = AGAIN_SECONDS


@dataclass(frozen=True, slots=True)
class Paused:
    """The token or the repository is the trouble: the backfill pauses for ``minutes``, or until an operator resumes it."""

    code: ErrorCode
    minutes: int | None


@dataclass(frozen=True, slots=True)
class Counted:
    """An error that may pass. Three in a row pause the backfill. ``is_outage``: many runs meet it at once."""

    is_outage: bool
    seconds: float = AGAIN_SECONDS


Failure = Deferred | LostLease | ListAgain | LookAgain | Paused | Counted


def decide(
    error: errors.Deferred | Permanent | Retryable, backfill: Backfill, *, looked_before: bool = False
) -> Failure:
    """What an error means. ``looked_before``: GitHub did not show the repository minutes ago either."""
    match error:
        case errors.Deferred():
            return Deferred(error.until, error.seconds)
        case LeaseLost():
            return LostLease()
        case Retryable():
            return Counted(isinstance(error, Unreachable))
        case RepositoryUnavailable():
            return Paused(error.code, UNAVAILABLE_PAUSE_MINUTES) if looked_before else LookAgain()
        case UnknownField():
            # A server that is too old stays so until an operator replaces it, and resumes.
            return Paused(error.code, None)
        case InvalidQuery() if backfill.last_processed_cursor:
            return ListAgain()
        case Permanent():
            return Paused(error.code, CREDENTIALS_PAUSE_MINUTES)
    raise error


def note(held: Held, error: errors.Deferred | Permanent | Retryable) -> Failure:
    """Decide what an error means, and write it."""
    db, backfill = held.means.db, held.backfill
    looked_before = isinstance(error, RepositoryUnavailable) and bool(
        repositories.note_unavailable(db, [backfill.repository_id])
    )
    failure = decide(error, backfill, looked_before=looked_before)
    match failure:
        case Deferred(until):
            leases.defer(db, held.lease, until)
        case ListAgain():
            with suppress(LeaseLost):  # then the listing is the new owner's
                listings.start(db, held.lease)
        case Paused(code, minutes):
            backfills.pause(db, backfill.id, code, minutes=minutes, error=str(error))
            pauses.note_pause(db)
        case Counted(is_outage):
            text = str(error)[:MOST_TEXT]
            if backfills.record_error(db, backfill.id, text, pause_minutes=ERROR_PAUSE_MINUTES, is_outage=is_outage):
                pauses.note_pause(db)
    return failure
