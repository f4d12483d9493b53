"""github_budget: points and server time of one GitHub identity, shared by all workers. The database's clock counts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from backfill.store.connection import Database

# One statement under the row's lock: sixteen workers cannot all see the last point. Past its reset a window is full
# again. Server time is a schedule: each request takes the slot that begins when the ones before it have ended.
_RESERVE = """
    WITH budget AS (
        SELECT *, CASE WHEN reset_at <= now() THEN points_limit ELSE remaining END AS points_left,
               CASE WHEN reset_at <= now() THEN 0 ELSE reserved END AS points_reserved
        FROM github_budget WHERE identity = :identity FOR UPDATE),
    judged AS (
        SELECT *,
               GREATEST(0, COALESCE(EXTRACT(epoch FROM blocked_until - clock_timestamp()), 0)) AS block_wait,
               CASE WHEN points_left - points_reserved - :points < CAST(:floor AS float8) * points_limit
                    THEN GREATEST(0.05, EXTRACT(epoch FROM reset_at - clock_timestamp())) ELSE 0 END AS points_wait,
               GREATEST(0, COALESCE(EXTRACT(epoch FROM free_at - clock_timestamp()), 0)) AS pace_wait
        FROM budget),
    decided AS (
        SELECT *, block_wait = 0 AND COALESCE(points_wait, 0) = 0 AND pace_wait <= CAST(:longest_wait AS float8) AS granted FROM judged)
    UPDATE github_budget AS b SET
        remaining = d.points_left,
        reserved = d.points_reserved + CASE WHEN d.granted THEN :points ELSE 0 END,
        free_at = CASE WHEN d.granted THEN GREATEST(b.free_at, clock_timestamp()) + make_interval(secs => CAST(:seconds AS float8))
                       ELSE b.free_at END,
        updated_at = now()
    FROM decided AS d WHERE b.identity = d.identity
    RETURNING d.granted,
              CAST(CASE WHEN d.granted THEN d.pace_wait ELSE GREATEST(d.block_wait, COALESCE(d.points_wait, 0), d.pace_wait) END AS float8)
                  AS wait_seconds,
              CASE WHEN d.block_wait > 0 THEN 'blocked by a ' || COALESCE(b.block_reason, '') || ' rate limit'
                   WHEN d.points_wait > 0 THEN 'points are at their floor' ELSE 'server time' END AS reason,
              clock_timestamp() AS now
"""

# Replies overtake each other: within one window the smaller remaining is the later one. A reset that is further away
# than the known one begins a new window. A reply without rateLimit (rate limiting is off) leaves the budget unknown.
_SETTLE = """
    UPDATE github_budget SET
        reserved = GREATEST(0, reserved - :points),
        free_at = free_at + make_interval(secs => CAST(:difference AS float8)),
        points_limit = COALESCE(CAST(:limit AS integer), points_limit),
        remaining = CASE WHEN CAST(:remaining AS integer) IS NULL THEN remaining
                         WHEN reset_at IS NULL OR remaining IS NULL
                              OR clock_timestamp() + make_interval(secs => CAST(:reset_seconds AS float8)) > reset_at + interval '3 seconds'
                         THEN CAST(:remaining AS integer)
                         ELSE LEAST(remaining, CAST(:remaining AS integer)) END,
        reset_at = CASE WHEN CAST(:reset_seconds AS float8) IS NULL THEN reset_at
                        ELSE GREATEST(reset_at, clock_timestamp() + make_interval(secs => CAST(:reset_seconds AS float8))) END,
        blocks_in_a_row = CASE WHEN CAST(:succeeded AS boolean) THEN 0 ELSE blocks_in_a_row END,
        updated_at = now()
    WHERE identity = :identity
"""

_BLOCK = """
    UPDATE github_budget SET
        blocked_until = GREATEST(blocked_until, clock_timestamp() + make_interval(secs => COALESCE(
            CAST(:seconds AS float8),
            LEAST(CAST(:longest AS float8), CAST(:first AS float8) * power(2, LEAST(blocks_in_a_row, 10))) * CAST(:jitter AS float8)))),
        block_reason = :reason, blocks_in_a_row = blocks_in_a_row + 1, updated_at = now()
    WHERE identity = :identity
    RETURNING blocked_until, CAST(EXTRACT(epoch FROM blocked_until - clock_timestamp()) AS float8) AS seconds
"""


# After a secondary limit without a word on how long: at least a minute, doubled each time, an hour at most.
FIRST_BLOCK_SECONDS = 60.0
LONGEST_BLOCK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a reservation: go after ``wait_seconds``, or (``granted`` False) ask again after them."""

    granted: bool
    wait_seconds: float
    reason: str
    now: datetime


class PostgresBudget:
    """What the governor's BudgetStore asks for."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def reserve(self, identity: str, points: int, seconds: float, floor: float, longest_wait: float) -> Grant:
        """Reserve points and a slot, or say why not. The row is made by the first request of an identity."""
        parameters = {
            "identity": identity,
            "points": points,
            "seconds": seconds,
            "floor": floor,
            "longest_wait": longest_wait,
        }
        row = self._db.one(_RESERVE, **parameters)
        if row is None:
            self._db.execute(
                "INSERT INTO github_budget (identity) VALUES (:identity) ON CONFLICT DO NOTHING", identity=identity
            )
            row = self._db.one(_RESERVE, **parameters)
        if row is None:
            raise LookupError(f"the budget of {identity} vanished")
        return Grant(row["granted"], row["wait_seconds"], row["reason"], row["now"])

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
        """Give the reservation of ``points`` back, correct the slot, and take over what GitHub reported."""
        self._db.execute(
            _SETTLE,
            identity=identity,
            points=points,
            difference=seconds_more,
            limit=limit,
            remaining=remaining,
            reset_seconds=reset_seconds,
            succeeded=succeeded,
        )

    def block(self, identity: str, seconds: float | None, reason: str) -> tuple[datetime, float]:
        """Stop every worker of this identity."""
        row = self._db.one(
            _BLOCK,
            identity=identity,
            seconds=seconds,
            reason=reason,
            first=FIRST_BLOCK_SECONDS,
            longest=LONGEST_BLOCK_SECONDS,
            jitter=random.uniform(1.0, 1.3),  # noqa: S311 - no secret
        )
        if row is None:
            raise LookupError(f"the budget of {identity} vanished")
        return row["blocked_until"], row["seconds"]
