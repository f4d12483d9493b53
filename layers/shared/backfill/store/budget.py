"""github_budget: points and server time of one GitHub identity, shared by all workers. The database's clock counts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from backfill.limits import LONGEST_WAIT_SECONDS, LONGEST_WINDOW_SECONDS
from backfill.store.connection import Database, Row

# One statement under the row's lock: sixteen workers cannot all see the last point. Past its reset a window is full
# again; until a reply tells when the new one ends, GitHub's hour is assumed. Server time is a schedule: each request
# takes the slot that begins when those before it have ended, stretched so that the share of GitHub's time is kept. Who
# would wait too long for one is told to come back when it is near, and each a little after the one before: more often than
# slots begin, in case they turn out shorter.
_RESERVE = """
    WITH budget AS (
        SELECT *, COALESCE(reset_at <= clock_timestamp(), false) AS turned FROM github_budget
        WHERE identity = :identity FOR UPDATE),
    counted AS (
        SELECT identity, turned, blocked_until, free_at, points_limit,
               CASE WHEN turned THEN points_limit ELSE remaining END AS points_left,
               CASE WHEN turned THEN 0 ELSE reserved END AS points_reserved,
               CASE WHEN turned THEN clock_timestamp() + interval '1 hour' ELSE reset_at END AS resets_at,
               window_number + CASE WHEN turned THEN 1 ELSE 0 END AS present_window,
               CAST(CAST(:expected AS float8) * slowness AS float8) AS slot
        FROM budget),
    judged AS (
        SELECT *,
               GREATEST(0, COALESCE(EXTRACT(epoch FROM blocked_until - clock_timestamp()), 0)) AS block_wait,
               CASE WHEN points_left - points_reserved - :points < CAST(:floor AS float8) * points_limit
                    THEN GREATEST(0.05, COALESCE(EXTRACT(epoch FROM resets_at - clock_timestamp()), 60)) ELSE 0 END AS points_wait,
               GREATEST(0, COALESCE(EXTRACT(epoch FROM free_at - clock_timestamp()), 0)) AS pace_wait
        FROM counted),
    decided AS (
        SELECT *, block_wait = 0 AND points_wait = 0 AND pace_wait <= CAST(:longest_wait AS float8) AS granted FROM judged),
    turns AS (
        SELECT d.*, CASE WHEN NOT d.granted AND d.block_wait = 0 AND d.points_wait = 0 THEN
                   LEAST(clock_timestamp() + make_interval(secs => CAST(:longest_turn AS float8)),
                         GREATEST(clock_timestamp() + make_interval(
                                      secs => GREATEST(d.pace_wait - CAST(:lead AS float8), d.pace_wait / 2)),
                                  b.put_off_until + make_interval(secs => LEAST(CAST(:spread AS float8) * d.slot / CAST(:share AS float8),
                                                                                CAST(:lead AS float8))))) END AS turn
        FROM decided AS d JOIN budget AS b USING (identity))
    UPDATE github_budget AS b SET
        remaining = d.points_left,
        reserved = d.points_reserved + CASE WHEN d.granted THEN :points ELSE 0 END,
        reset_at = d.resets_at,
        window_number = d.present_window,
        free_at = CASE WHEN d.granted
                       THEN GREATEST(b.free_at, clock_timestamp()) + make_interval(secs => d.slot / CAST(:share AS float8))
                       ELSE b.free_at END,
        put_off_until = COALESCE(d.turn, b.put_off_until),
        updated_at = now()
    FROM turns AS d WHERE b.identity = d.identity
    RETURNING d.granted, d.slot, d.present_window AS window,
              CAST(CASE WHEN d.granted THEN d.pace_wait ELSE GREATEST(d.block_wait, d.points_wait, d.pace_wait) END AS float8)
                  AS wait_seconds,
              CAST(EXTRACT(epoch FROM d.turn - clock_timestamp()) AS float8) AS turn_seconds,
              CASE WHEN d.block_wait > 0 THEN 'blocked by a ' || COALESCE(b.block_reason, '') || ' rate limit'
                   WHEN d.points_wait > 0 THEN 'points are at their floor' ELSE 'server time' END AS reason,
              clock_timestamp() AS now
"""

# Times that lie further ahead than they can: the clock was put back, or a reply told nonsense. What was written in the future tells
# by how much the clock went back. Readers that may not write take the same expressions.
_FREE_AT, _PUT_OFF_UNTIL, _RESET_AT = (
    f"CASE WHEN {column} IS NOT NULL THEN"
    f" LEAST({column}, clock_timestamp() + make_interval(secs => CAST(:{longest} AS float8))) END"
    for column, longest in (("free_at", "schedule"), ("put_off_until", "schedule"), ("reset_at", "window"))
)
_BLOCKED_UNTIL = (
    "CASE WHEN blocked_until IS NOT NULL THEN LEAST(blocked_until - GREATEST(interval '0', updated_at - clock_timestamp()),"
    " clock_timestamp() + make_interval(secs => CAST(:block AS float8))) END"
)
_CATCH_UP = f"""
    UPDATE github_budget SET
        free_at = {_FREE_AT},
        put_off_until = {_PUT_OFF_UNTIL},
        reset_at = {_RESET_AT},
        blocked_until = {_BLOCKED_UNTIL},
        updated_at = clock_timestamp()
    WHERE identity = :identity
      AND (updated_at > clock_timestamp() + interval '5 seconds'
           OR free_at > clock_timestamp() + make_interval(secs => CAST(:schedule AS float8))
           OR put_off_until > clock_timestamp() + make_interval(secs => CAST(:schedule AS float8))
           OR reset_at > clock_timestamp() + make_interval(secs => CAST(:window AS float8))
           OR blocked_until > clock_timestamp() + make_interval(secs => CAST(:block AS float8)))
"""
_CLAMPED = f"""
    SELECT identity, points_limit, remaining, reserved, slowness, block_reason, updated_at,
           {_FREE_AT} AS free_at, {_RESET_AT} AS reset_at, {_BLOCKED_UNTIL} AS blocked_until
    FROM github_budget
"""

# Replies overtake each other: within a window the smallest remaining is the latest. GitHub tells times to a second,
# rounded up on their way here: the earliest reset is the truest. One that is much further away belongs to another
# window. Points without a reset come back in GitHub's hour, or they never would. A reply without rateLimit (rate limiting
# is off) leaves the points unknown; a failed request changes them by what it may have cost. A success proves that a block is over only if its request began after it. A request that began
# later than its slot did (a stalled worker) leaves no time to catch up: its pause comes after it all the same. How slow
# GitHub is, a request tells as far as it was expected to take long: of a small one, most is the way there and back.
_SETTLE = """
    UPDATE github_budget SET
        reserved = CASE WHEN window_number = :window THEN GREATEST(0, reserved - :points) ELSE reserved END,
        free_at = GREATEST(
            free_at + make_interval(secs => (CAST(:took AS float8) - CAST(:slot AS float8)) / CAST(:share AS float8)),
            clock_timestamp() + make_interval(secs => CAST(:took AS float8) * (1 / CAST(:share AS float8) - 1))),
        slowness = CASE WHEN CAST(:succeeded AS boolean)
                        THEN slowness + (LEAST(20 * CAST(:expected AS float8), CAST(:took AS float8)) - slowness * CAST(:expected AS float8))
                                        / (CAST(:expected AS float8) + learned_seconds)
                        ELSE slowness END,
        learned_seconds = CASE WHEN CAST(:succeeded AS boolean)
                               THEN LEAST(CAST(:memory AS float8), learned_seconds + CAST(:expected AS float8))
                               ELSE learned_seconds END,
        points_limit = COALESCE(CAST(:limit AS integer), points_limit),
        remaining = CASE WHEN CAST(:remaining AS integer) IS NULL THEN remaining - LEAST(remaining, :spent)
                         WHEN clock_timestamp() + make_interval(secs => CAST(:reset_seconds AS float8)) > reset_at + interval '1 minute'
                         THEN CAST(:remaining AS integer)
                         ELSE LEAST(remaining, CAST(:remaining AS integer)) END,
        reset_at = CASE WHEN clock_timestamp() + make_interval(secs => CAST(:reset_seconds AS float8)) > reset_at + interval '1 minute'
                        THEN clock_timestamp() + make_interval(secs => CAST(:reset_seconds AS float8))
                        ELSE COALESCE(LEAST(reset_at, clock_timestamp() + make_interval(secs => CAST(:reset_seconds AS float8))),
                                      CASE WHEN CAST(:remaining AS integer) IS NOT NULL THEN clock_timestamp() + interval '1 hour' END)
                        END,
        blocks_in_a_row = CASE WHEN CAST(:succeeded AS boolean)
                                AND blocked_until < clock_timestamp() - make_interval(secs => CAST(:took AS float8))
                               THEN 0 ELSE blocks_in_a_row END,
        updated_at = now()
    WHERE identity = :identity
"""

# Several workers may meet one limit: as long as it lasts they count as one, or the waits would double for each of them.
_BLOCK = """
    WITH budget AS (
        SELECT *, COALESCE(blocked_until > clock_timestamp(), false) AS blocked FROM github_budget
        WHERE identity = :identity FOR UPDATE)
    UPDATE github_budget AS b SET
        blocked_until = GREATEST(b.blocked_until, clock_timestamp() + make_interval(secs => COALESCE(
            CAST(:seconds AS float8),
            LEAST(CAST(:longest AS float8), CAST(:jitter AS float8) * CAST(:first AS float8)
                  * power(2, LEAST(10, GREATEST(0, b.blocks_in_a_row - CASE WHEN o.blocked THEN 1 ELSE 0 END))))))),
        block_reason = :reason,
        blocks_in_a_row = b.blocks_in_a_row + CASE WHEN o.blocked THEN 0 ELSE 1 END,
        updated_at = now()
    FROM budget AS o WHERE b.identity = o.identity
    RETURNING b.blocked_until, CAST(EXTRACT(epoch FROM b.blocked_until - clock_timestamp()) AS float8) AS seconds
"""

_BLOCKED_SECONDS = f"""
    WITH present AS ({_CLAMPED})
    SELECT CAST(GREATEST(0, EXTRACT(epoch FROM blocked_until - clock_timestamp())) AS float8) AS seconds
    FROM present WHERE identity = :identity AND blocked_until > clock_timestamp()
"""

_IDENTITY_OF = "SELECT identity FROM github_tokens WHERE token_sha256 = :token_hash"
_REMEMBER = """
    INSERT INTO github_tokens (token_sha256, identity) VALUES (:token_hash, :identity)
    ON CONFLICT (token_sha256) DO UPDATE SET identity = EXCLUDED.identity
"""


# After a day the operator may have granted the scope: the part is asked for again.
_WITHHELD = """
    SELECT part, reason FROM github_withheld WHERE identity = :identity AND since > now() - interval '1 day'
"""
_WITHHOLD = """
    INSERT INTO github_withheld (identity, part, reason) VALUES (:identity, :part, :reason)
    ON CONFLICT (identity, part) DO UPDATE SET reason = EXCLUDED.reason, since = now()
"""

# For people: the identity that was used last, and until when nothing is sent, and why. Past its reset a window is full.
_LATEST = f"""
    WITH present AS ({_CLAMPED})
    SELECT identity, points_limit AS limit, CASE WHEN reset_at <= now() THEN points_limit ELSE remaining END AS remaining,
           reset_at, blocked_until, slowness,
           CASE WHEN blocked_until > now() THEN blocked_until
                WHEN reset_at > now() AND remaining - reserved < CAST(:floor AS float8) * points_limit THEN reset_at
           END AS waits_until,
           CASE WHEN blocked_until > now() THEN 'GitHub''s ' || COALESCE(block_reason, '') || ' rate limit'
                ELSE 'points are at their floor' END AS wait_reason
    FROM present ORDER BY updated_at DESC LIMIT 1
"""

# Of expected server time, in seconds: all that the slowness was learned from weighs as much as so many, at the most.
LEARNING_SECONDS = 15.0
# What is put off for server time comes back so many seconds before a slot that it may sleep for, and after this at most:
# GitHub may be faster by then.
TURN_LEAD_SECONDS, LONGEST_TURN_SECONDS = 2.5, 20.0
# The furthest that the schedule of server time can lie ahead.
LONGEST_SCHEDULE_SECONDS = 600.0
_LONGEST = {"schedule": LONGEST_SCHEDULE_SECONDS, "window": LONGEST_WINDOW_SECONDS, "block": LONGEST_WAIT_SECONDS}
# In slots, how long after the one before.
TURN_SPREAD = 0.75
# After a secondary limit without a word on how long: at least a minute, doubled each time, an hour at most.
FIRST_BLOCK_SECONDS = 60.0
LONGEST_BLOCK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a reservation: go after ``wait_seconds``, or (``granted`` False) ask again after them.

    ``slot``: server seconds that were booked. ``turn_seconds``: where nothing but server time is in the way of a longer
    wait, when it is this one's turn to ask again.
    """

    granted: bool
    wait_seconds: float
    reason: str
    turn_seconds: float | None
    slot: float
    window: int
    now: datetime


class Reported(Protocol):
    """What GitHub's reply says about the budget; None where it says nothing."""

    @property
    def limit(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...
    @property
    def reset_seconds(self) -> float | None: ...


class Booked(Protocol):
    """What of a grant is settled."""

    @property
    def slot(self) -> float: ...
    @property
    def window(self) -> int: ...


class PostgresBudget:
    """What the governor's BudgetStore and the credentials' Identities ask for."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def reserve(
        self, identity: str, points: int, expected: float, *, share: float, floor: float, longest_wait: float
    ) -> Grant:
        """Reserve points and a slot, or say why not. The row is made by the first request of an identity."""
        parameters = {
            "identity": identity,
            "points": points,
            "expected": expected,
            "share": share,
            "floor": floor,
            "longest_wait": longest_wait,
            "lead": TURN_LEAD_SECONDS,
            "longest_turn": LONGEST_TURN_SECONDS,
            "spread": TURN_SPREAD,
        }
        _, found = self._db.pipeline([(_CATCH_UP, {"identity": identity, **_LONGEST}), (_RESERVE, parameters)])
        row = found[0] if found else None
        if row is None:
            self._db.execute(
                "INSERT INTO github_budget (identity) VALUES (:identity) ON CONFLICT DO NOTHING", identity=identity
            )
            row = self._db.one(_RESERVE, **parameters)
        if row is None:
            raise LookupError(f"the budget of {identity} vanished")
        return Grant(**row)

    def settle(
        self,
        identity: str,
        grant: Booked,
        *,
        points: int,
        spent: int,
        expected: float,
        took: float,
        share: float,
        reply: Reported | None,
    ) -> None:
        """Give the reservation of ``points`` back, correct the slot, and take over what GitHub reported.

        ``spent``: points that a request without a usable reply may have cost. ``took`` and ``expected`` in seconds.
        """
        self._db.execute(
            _SETTLE,
            identity=identity,
            window=grant.window,
            slot=grant.slot,
            points=points,
            spent=spent,
            expected=expected,
            took=took,
            share=share,
            memory=LEARNING_SECONDS,
            limit=reply.limit if reply else None,
            remaining=reply.remaining if reply else None,
            reset_seconds=reply.reset_seconds if reply else None,
            succeeded=reply is not None,
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

    def blocked_seconds(self, identity: str) -> float:
        """How long the present block lasts; 0 without one."""
        row = self._db.one(_BLOCKED_SECONDS, identity=identity, **_LONGEST)
        return row["seconds"] if row else 0.0

    def withheld(self, identity: str) -> dict[str, str]:
        """Parts of queries that this identity may not ask for, and GitHub's words."""
        return {row["part"]: row["reason"] for row in self._db.rows(_WITHHELD, identity=identity)}

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """Remember such a part, for a day."""
        self._db.execute(_WITHHOLD, identity=identity, part=part, reason=reason[:500])

    def identity_of(self, token_hash: str) -> str | None:
        """Whose a token is, by its SHA-256 in hexadecimal; None for one that was never seen."""
        row = self._db.one(_IDENTITY_OF, token_hash=token_hash)
        return row["identity"] if row else None

    def remember_identity(self, token_hash: str, identity: str) -> None:
        """Keep whose a token is."""
        self._db.execute(_REMEMBER, token_hash=token_hash, identity=identity)


def advice(db: Database) -> list[Row]:
    """What tokens lack: ``identity``, ``part`` (of documents) and GitHub's words as ``reason``, as of the last two days."""
    return db.rows(
        "SELECT identity, part, reason FROM github_withheld WHERE since > now() - interval '2 days'"
        # How many fields a document may have is not for the operator to change.
        " AND part NOT LIKE 'fields:%' ORDER BY 1, 2"
    )


def latest(db: Database, floor: float) -> Row | None:
    """The budget of the identity that was used last; ``waits_until`` is null while requests may be sent, and
    ``slowness`` is GitHub's time over the published figures."""
    return db.one(_LATEST, floor=floor, **_LONGEST)


# As _RESERVE judges, without booking anything.
_LOOK = f"""
    WITH present AS ({_CLAMPED}),
    judged AS (
        SELECT GREATEST(0, COALESCE(EXTRACT(epoch FROM blocked_until - clock_timestamp()), 0)) AS block_wait,
               CASE WHEN reset_at > clock_timestamp() AND remaining - reserved - :points < CAST(:floor AS float8) * points_limit
                    THEN EXTRACT(epoch FROM reset_at - clock_timestamp()) ELSE 0 END AS points_wait,
               GREATEST(0, COALESCE(EXTRACT(epoch FROM free_at - clock_timestamp()), 0)) AS pace_wait
        FROM present WHERE identity = :identity)
    SELECT block_wait = 0 AND points_wait = 0 AND pace_wait <= CAST(:longest_wait AS float8) AS granted,
           CAST(GREATEST(block_wait, points_wait, pace_wait) AS float8) AS wait_seconds,
           CASE WHEN block_wait = 0 AND points_wait = 0 THEN pace_wait END AS turn_seconds,
           'the budget' AS reason, 0.0 AS slot, 0 AS window, clock_timestamp() AS now
    FROM judged
"""


class ObservedBudget:
    """The budget for dry runs: it is kept to, and nothing is written, so the few requests are booked nowhere."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def reserve(
        self, identity: str, points: int, expected: float, *, share: float, floor: float, longest_wait: float
    ) -> Grant:
        """As PostgresBudget's; where the identity is unknown yet, the way is free."""
        row = self._db.one(_LOOK, identity=identity, points=points, floor=floor, longest_wait=longest_wait, **_LONGEST)
        return Grant(**(row or {**_FREE, "now": datetime.now(UTC)}))

    def settle(
        self,
        identity: str,
        grant: Booked,
        *,
        points: int,
        spent: int,
        expected: float,
        took: float,
        share: float,
        reply: Reported | None,
    ) -> None:
        """Nothing was reserved."""

    def block(self, identity: str, seconds: float | None, reason: str) -> tuple[datetime, float]:
        """The others will see the limit for themselves."""
        wait = seconds or FIRST_BLOCK_SECONDS
        return datetime.now(UTC) + timedelta(seconds=wait), wait

    def blocked_seconds(self, identity: str) -> float:
        """As PostgresBudget's."""
        return PostgresBudget(self._db).blocked_seconds(identity)

    def withheld(self, identity: str) -> dict[str, str]:
        """As PostgresBudget's."""
        return PostgresBudget(self._db).withheld(identity)

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """The next run that may write will."""

    def identity_of(self, token_hash: str) -> str | None:
        """As PostgresBudget's."""
        return PostgresBudget(self._db).identity_of(token_hash)

    def remember_identity(self, token_hash: str, identity: str) -> None:
        """The next run that may write will."""


_FREE = {"granted": True, "wait_seconds": 0.0, "reason": "", "turn_seconds": None, "slot": 0.0, "window": 0}
