"""The governor: no request without points reserved and server time left, for all workers of one identity together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from backfill.errors import Deferred
from backfill.github.errors import BadCredentials, Forbidden, RateLimited, RepositoryUnavailable, TooLarge
from backfill.github.transport import Reply
from backfill.observability import count, event

# GitHub allows 60 seconds of server time a minute; design section 6 aims at 54.
SERVER_SHARE = 54 / 60
# This share of the limit stays untouched, for the user's other tools.
FLOOR = 0.10
# Longer waits give the chunk back instead of paying Lambda for sleep.
LONGEST_SLEEP_SECONDS = 5.0


class Grant(Protocol):
    """The answer to a reservation: go after ``wait_seconds``, or (``granted`` False) ask again after them."""

    @property
    def granted(self) -> bool: ...
    @property
    def wait_seconds(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def now(self) -> datetime: ...


class BudgetStore(Protocol):
    """One row per identity, changed by single statements (backfill.store.budget)."""

    def reserve(self, identity: str, points: int, seconds: float, floor: float, longest_wait: float) -> Grant:
        """Reserve points and a slot of server time, or say why not."""

    def settle(
        self,
        identity: str,
        *,
        points: int,
        seconds_more: float,
        limit: int | None,
        remaining: int | None,
        reset_seconds: float | None,
        succeeded: bool,
    ) -> None:
        """Give the reservation back, correct the slot, and take over what GitHub reported."""

    def block(self, identity: str, seconds: float | None, reason: str) -> tuple[datetime, float]:
        """Stop every worker; None means exponential. Until when, and for how many seconds."""


class Governor:
    """Wraps each request: ``with`` no lock held, so that any number of workers may use it."""

    def __init__(
        self,
        store: BudgetStore,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sleep = sleep
        self._clock = clock
        # What a request is expected to take; learned from the requests of this container.
        self._expected = 1.0

    def run(self, identity: str, points: int, send: Callable[[], Reply]) -> Reply:
        """Send when the budget allows; Deferred where that is too far away, or GitHub says stop."""
        slot = self._reserve(identity, points)
        begin = self._clock()
        reply: Reply | None = None
        outcome = "RequestsFailed"
        try:
            reply = send()
            outcome = "RequestsSucceeded"
        except (TooLarge, BadCredentials, Forbidden, RepositoryUnavailable) as error:
            outcome = "RequestsTooLarge" if isinstance(error, TooLarge) else "RequestsRefused"
            raise
        except RateLimited as limit:
            outcome = "RequestsRateLimited"
            until, seconds = self._store.block(identity, limit.wait_seconds, limit.kind)
            raise Deferred(_spread(until, seconds), f"GitHub's {limit.kind} rate limit") from limit
        finally:
            took = self._clock() - begin
            _tell(outcome, took, points, reply)
            self._expected = 0.7 * self._expected + 0.3 * took
            self._store.settle(
                identity,
                points=points,
                seconds_more=(took - slot) / SERVER_SHARE,
                limit=reply.limit if reply else None,
                remaining=reply.remaining if reply else None,
                reset_seconds=reply.reset_seconds if reply else None,
                succeeded=reply is not None,
            )
        return reply

    def _reserve(self, identity: str, points: int) -> float:
        slot = self._expected
        while True:
            grant = self._store.reserve(identity, points, slot / SERVER_SHARE, FLOOR, LONGEST_SLEEP_SECONDS)
            if grant.granted:
                if grant.wait_seconds > 0:
                    self._sleep(grant.wait_seconds)
                return slot
            if grant.wait_seconds > LONGEST_SLEEP_SECONDS:
                raise Deferred(
                    _spread(grant.now + timedelta(seconds=grant.wait_seconds), grant.wait_seconds), grant.reason
                )
            self._sleep(max(0.05, grant.wait_seconds))


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


def _spread(until: datetime, seconds: float) -> datetime:
    """A little later for each, so that not everybody comes back in the same second."""
    return until + timedelta(seconds=random.uniform(0, min(30.0, 0.1 * seconds)))  # noqa: S311 - no secret
