"""GitHub's limits of one identity: points per window, and the secondary ones: server time, points a minute, concurrency."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.simulator.price import Price

MINUTE, SERVER_SECONDS, POINTS_A_MINUTE, MOST_CONCURRENT = 60.0, 60.0, 2000, 100
# Requests remembered for the statistics.
HISTORY = 100_000


@dataclass(frozen=True, slots=True)
class Limited:
    """A refusal: ``secondary`` or ``primary``, and after how many seconds it makes sense to come back."""

    kind: str
    retry_after: int


class Limits:
    """Thread-safe. ``clock`` is GitHub's; a minute lasts 60 / ``speed`` seconds of it, a window ``window / speed``.

    ``limit`` None is an Enterprise Server with rate limiting off: nothing is refused or reported.
    """

    def __init__(self, limit: int | None, window: float, speed: float, clock: Callable[[], float]) -> None:
        self.limit, self.speed = limit, speed
        self._length, self._minute, self._clock = window / speed, MINUTE / speed, clock
        self.least_remaining = limit
        # Begin and end of each window, by GitHub's clock.
        self.windows: list[tuple[float, int]] = []
        # Begin, server seconds and points of every admitted request, in GitHub's seconds since the first one.
        self.history: deque[tuple[float, float, int]] = deque(maxlen=HISTORY)
        self._used, self._ends = 0, 0
        self._recent: deque[tuple[float, float, int]] = deque()
        self._running = 0
        self._began: float | None = None
        self._lock = threading.Lock()

    def admit(self, price: Price) -> Limited | None:
        """Charge a query and count it as running, or the reason for its refusal."""
        with self._lock:
            now = self._clock()
            if self.limit is not None:
                self._turn(now)
                limited = self._judge(price, now, self.limit)
                if limited is not None:
                    return limited
                self._charge(price.points, self.limit)
                self._recent.append((now, price.seconds, price.points))
            self._began = self._began or now
            self.history.append(((now - self._began) * self.speed, price.seconds, price.points))
            self._running += 1
        return None

    def leave(self) -> None:
        """A request that was admitted has its answer."""
        with self._lock:
            self._running -= 1

    def penalize(self, points: int) -> None:
        """Extra points, which GitHub takes for a query that ran out of time."""
        with self._lock:
            if self.limit is not None:
                self._charge(min(points, self.limit - self._used), self.limit)

    def headers(self) -> dict[str, str]:
        """What GitHub says in every reply."""
        with self._lock:
            if self.limit is None:
                return {}
            self._turn(self._clock())
            return {
                "x-ratelimit-limit": str(self.limit),
                "x-ratelimit-remaining": str(self.limit - self._used),
                "x-ratelimit-used": str(self._used),
                "x-ratelimit-reset": str(self._ends),
                "x-ratelimit-resource": "graphql",
            }

    def rate_limit(self, price: Price) -> dict[str, Any] | None:
        """The object ``rateLimit`` in the reply to a query of this price."""
        with self._lock:
            if self.limit is None:
                return None
            return {
                "cost": price.points,
                "limit": self.limit,
                "nodeCount": price.nodes,
                "remaining": self.limit - self._used,
                "used": self._used,
                "resetAt": datetime.fromtimestamp(self._ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }

    def _judge(self, price: Price, now: float, limit: int) -> Limited | None:
        while self._recent and self._recent[0][0] <= now - self._minute:
            self._recent.popleft()
        seconds = sum(each[1] for each in self._recent)
        points = sum(each[2] for each in self._recent)
        if (
            self._running >= MOST_CONCURRENT
            or seconds + price.seconds > SERVER_SECONDS
            or points + price.points > POINTS_A_MINUTE
        ):
            oldest = self._recent[0][0] if self._recent else now
            return Limited("secondary", max(1, math.ceil(oldest + self._minute - now)))
        if self._used + price.points > limit:
            return Limited("primary", max(1, math.ceil(self._ends - now)))
        return None

    def _charge(self, points: int, limit: int) -> None:
        self._used += points
        self.least_remaining = min(self.least_remaining or 0, limit - self._used)

    def _turn(self, now: float) -> None:
        """A window begins with the first request after the end of the one before, and ends at a whole second."""
        if now >= self._ends:
            self._used, self._ends = 0, math.ceil(now + self._length)
            self.windows.append((now, self._ends))
