"""The governor: no request without points reserved and server time left, for all workers of one identity together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from backfill.errors import Deferred
from backfill.github.errors import (
    BadCredentials,
    Forbidden,
    RateLimited,
    RepositoryUnavailable,
    TooLarge,
    Unexplained,
    is_charged,
)
from backfill.github.replies import Reply
from backfill.observability import count, event

# GitHub allows 60 seconds of server time a minute; design section 6 aims at 54.
SERVER_SHARE = 54 / 60
# This share of the limit stays untouched, for the user's other tools.
FLOOR = 0.10
# Longer waits give the chunk back instead of paying Lambda for sleep.
LONGEST_SLEEP_SECONDS = 5.0
# Whoever was put off before goes first: a chunk that comes for the first time sleeps for a nearer slot only.
NEWCOMER_SLEEP_SECONDS = 2.5
# The planner's pages are few and short: behind the workers' requests their turn would hardly come.
LISTING_SLEEP_SECONDS = 10.0
# In the middle of a chunk, giving it back would throw away what was read of it.
PATIENT_SLEEP_SECONDS = 60.0
# What is put off comes back at its time or a little later, up to a tenth of the wait: not everybody in one second.
SPREAD, LONGEST_SPREAD_SECONDS = 0.1, 30.0


class Grant(Protocol):
    """The answer to a reservation: go after ``wait_seconds``, or (``granted`` False) ask again after them.

    ``slot`` is the server time that was booked, in seconds; ``window`` numbers the window of the points.
    ``turn_seconds`` replaces ``wait_seconds`` for whoever will not wait there for server time.
    """

    @property
    def granted(self) -> bool: ...
    @property
    def wait_seconds(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def turn_seconds(self) -> float | None: ...
    @property
    def slot(self) -> float: ...
    @property
    def window(self) -> int: ...
    @property
    def now(self) -> datetime: ...


class BudgetStore(Protocol):
    """One row per identity, changed by single statements (backfill.store.budget)."""

    def reserve(
        self, identity: str, points: int, expected: float, *, share: float, floor: float, longest_wait: float
    ) -> Grant:
        """Reserve points and a slot of server time, or say why not."""

    def settle(
        self,
        identity: str,
        grant: Grant,
        *,
        points: int,
        spent: int,
        expected: float,
        took: float,
        share: float,
        reply: Reply | None,
    ) -> None:
        """Give the reservation back, correct the slot, and take over what GitHub reported."""

    def block(self, identity: str, seconds: float | None, reason: str) -> tuple[datetime, float]:
        """Stop every worker; None means exponential. Until when, and for how many seconds."""

    def blocked_seconds(self, identity: str) -> float:
        """How long the present block lasts; 0 without one."""

    def withheld(self, identity: str) -> dict[str, str]:
        """Parts of queries that this identity may not ask for, and GitHub's words."""

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """Remember such a part, for a day."""


class Governor:
    """Wraps each request, with no lock held: any number of workers may use it, each with a Governor of its own."""

    def __init__(
        self,
        store: BudgetStore,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self.sleep = sleep
        self._clock = clock

    def run(
        self,
        identity: str,
        points: int,
        send: Callable[[], Reply],
        *,
        expected: float = 1.0,
        patience: float = LONGEST_SLEEP_SECONDS,
    ) -> Reply:
        """Send when the budget allows; Deferred where that is more than ``patience`` seconds away, or GitHub says stop.

        ``expected`` is the server time by the published figures, in seconds; how much slower or faster this GitHub is,
        the store learns.
        """
        grant = self._admitted(identity, points, expected, patience)
        begin = self._clock()
        reply: Reply | None = None
        outcome, spent = "RequestsFailed", 0
        try:
            reply = send()
            outcome = "RequestsSucceeded"
        except (TooLarge, Unexplained) as error:
            outcome = "RequestsTooLarge" if isinstance(error, TooLarge) else "RequestsFailed"
            spent = points if is_charged(error) else 0
            raise
        except (BadCredentials, Forbidden, RepositoryUnavailable):
            outcome = "RequestsRefused"
            raise
        except RateLimited as limit:
            outcome = "RequestsRateLimited"
            until, seconds = self._store.block(identity, limit.wait_seconds, limit.kind)
            raise _deferred(until, seconds, str(limit)) from limit
        finally:
            took = self._clock() - begin
            _tell(outcome, took, points, reply)
            self._settle(identity, grant, points, spent, expected, took, reply)
        return reply

    def withheld(self, identity: str) -> dict[str, str]:
        """Parts of queries that this identity may not ask for, and GitHub's words."""
        return self._store.withheld(identity)

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """Remember such a part, for a day: then the operator may have granted the scope."""
        self._store.withhold(identity, part, reason)

    def _admitted(self, identity: str, points: int, expected: float, patience: float) -> Grant:
        """A grant whose time has come. Raises Deferred."""
        while True:
            grant = self._store.reserve(
                identity, points, expected, share=SERVER_SHARE, floor=FLOOR, longest_wait=patience
            )
            if grant.granted:
                if grant.wait_seconds <= 0:
                    return grant
                self.sleep(grant.wait_seconds)
                if self._store.blocked_seconds(identity) <= 0:
                    return grant
                # Somebody met a limit while this one slept.
                self._settle(identity, grant, points, 0, expected, 0.0, None)
            elif grant.wait_seconds > patience:
                raise _put_off(grant)
            else:
                self.sleep(grant.wait_seconds * random.uniform(1.0, 1.0 + SPREAD))  # noqa: S311 - no secret
            patience = max(0.0, patience - grant.wait_seconds)

    def _settle(
        self, identity: str, grant: Grant, points: int, spent: int, expected: float, took: float, reply: Reply | None
    ) -> None:
        self._store.settle(
            identity, grant, points=points, spent=spent, expected=expected, took=took, share=SERVER_SHARE, reply=reply
        )


def _put_off(grant: Grant) -> Deferred:
    """Back when the points or the block allow it; for server time when it is its turn."""
    if grant.turn_seconds is not None:
        return Deferred(grant.now + timedelta(seconds=grant.turn_seconds), grant.turn_seconds, grant.reason)
    return _deferred(grant.now + timedelta(seconds=grant.wait_seconds), grant.wait_seconds, grant.reason)


def _deferred(until: datetime, seconds: float, reason: str) -> Deferred:
    later = random.uniform(0, min(LONGEST_SPREAD_SECONDS, SPREAD * seconds))  # noqa: S311 - no secret
    return Deferred(until + timedelta(seconds=later), seconds + later, reason)


def _tell(outcome: str, seconds: float, points: int, reply: Reply | None) -> None:
    """Metrics and one line of log for a request; what it cost is GitHub's word, else what was reserved."""
    spent = reply.cost if reply and reply.cost is not None else points
    count(outcome)
    count("ServerSeconds", seconds)
    if outcome in ("RequestsSucceeded", "RequestsTooLarge"):
        count("PointsSpent", spent)
    if reply is not None and reply.remaining is not None:
        count("PointsLeft", reply.remaining)
    event(
        "github request",
        outcome=outcome,
        seconds=round(seconds, 3),
        points=spent,
        points_left=reply.remaining if reply else None,
    )
