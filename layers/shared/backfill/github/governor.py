"""The governor: a request is sent only with reserved points and server time, which all workers of one identity share."""

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
from backfill.limits import Ask, Grant, Used
from backfill.observability import count, event

# A longer wait defers the chunk. Lambda would cost money for a sleep.
LONGEST_SLEEP_SECONDS = 5.0
# Chunks that were deferred before go first. A chunk that comes for the first time sleeps for a nearer slot only.
NEWCOMER_SLEEP_SECONDS = 2.5
# The planner's pages are few and short. Behind the workers' requests their turn would hardly come.
LISTING_SLEEP_SECONDS = 10.0
# In the middle of a chunk, deferring it would discard the pull requests that were read.
PATIENT_SLEEP_SECONDS = 60.0
# A deferred chunk returns at its time or a little later, up to a tenth of the wait, so that not all return in one second.
SPREAD, LONGEST_SPREAD_SECONDS = 0.1, 30.0


class BudgetStore(Protocol):
    """The budget that workers share: backfill.store.budget has one that books and one for dry runs."""

    def reserve(self, ask: Ask, longest_wait: float) -> Grant:
        """Reserve points and a slot of server time, or say why not."""

    def settle(self, ask: Ask, grant: Grant, used: Used) -> None:
        """Give the reservation back, correct the slot, and store what GitHub reported."""

    def block(self, identity: str, seconds: float | None, kind: str) -> tuple[datetime, float]:
        """Stop every worker; until when, and for how many seconds. Without ``seconds`` the wait doubles each time."""

    def blocked_seconds(self, identity: str) -> float:
        """How long the present block lasts; 0 without one."""

    def withheld(self, identity: str) -> dict[str, str]:
        """Parts of queries that this identity may not ask for, with GitHub's reason."""

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """Remember such a part, for a day."""


class Governor:
    """Wraps each request and holds no lock while it runs. Each worker has a Governor of its own."""

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
        """Send when the budget allows it. Raises Deferred if that is more than ``patience`` seconds away, or GitHub names a limit.

        ``expected`` is the server time by the published figures, in seconds. The store learns how much slower or faster this
        GitHub is.
        """
        ask = Ask(identity, points, expected)
        grant = self._granted(ask, patience)
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
            _tell(ask, outcome, took, reply)
            self._store.settle(ask, grant, _used(took, spent, reply))
        return reply

    def withheld(self, identity: str) -> dict[str, str]:
        """Parts of queries that this identity may not ask for, with GitHub's reason."""
        return self._store.withheld(identity)

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """Remember such a part, for a day. Then the operator may have granted the scope."""
        self._store.withhold(identity, part, reason)

    def _granted(self, ask: Ask, patience: float) -> Grant:
        """A grant whose time has come. Raises Deferred."""
        while True:
            grant = self._store.reserve(ask, patience)
            if grant.granted:
                if grant.wait_seconds <= 0:
                    return grant
                self.sleep(grant.wait_seconds)
                if self._store.blocked_seconds(ask.identity) <= 0:
                    return grant
                # Another worker met a limit while this one slept.
                self._store.settle(ask, grant, Used(0.0))
            elif grant.wait_seconds > patience:
                raise _until_its_turn(grant)
            else:
                self.sleep(grant.wait_seconds * random.uniform(1.0, 1.0 + SPREAD))  # noqa: S311 - no secret
            patience = max(0.0, patience - grant.wait_seconds)


def _used(took: float, spent: int, reply: Reply | None) -> Used:
    if reply is None:
        return Used(took, spent)
    return Used(took, spent, True, reply.limit, reply.remaining, reply.reset_seconds)


def _until_its_turn(grant: Grant) -> Deferred:
    """Until the points or the block allow the request; for server time until its turn."""
    if grant.turn_seconds is not None:
        return Deferred(grant.at + timedelta(seconds=grant.turn_seconds), grant.turn_seconds, grant.reason)
    return _deferred(grant.at + timedelta(seconds=grant.wait_seconds), grant.wait_seconds, grant.reason)


def _deferred(until: datetime, seconds: float, reason: str) -> Deferred:
    later = random.uniform(0, min(LONGEST_SPREAD_SECONDS, SPREAD * seconds))  # noqa: S311 - no secret
    return Deferred(until + timedelta(seconds=later), seconds + later, reason)


def _tell(ask: Ask, outcome: str, seconds: float, reply: Reply | None) -> None:
    """Metrics and one line of log for a request; the cost is GitHub's, else the reserved points."""
    spent = reply.cost if reply and reply.cost is not None else ask.points
    count(outcome)
    count("ServerSeconds", seconds)
    if outcome in ("RequestsSucceeded", "RequestsTooLarge"):
        count("PointsSpent", spent)
    if reply is not None and reply.remaining is not None:
        count("PointsLeft", reply.remaining)
    event(
        "github request",
        identity=ask.identity,
        outcome=outcome,
        seconds=round(seconds, 3),
        points=spent,
        points_left=reply.remaining if reply else None,
    )
