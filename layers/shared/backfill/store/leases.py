"""Who plans a backfill: the planner's lease, and the plan request that brings the next planner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backfill.errors import LeaseLost
from backfill.limits import LONGEST_LEASE_SECONDS
from backfill.model import Backfill, Lease
from backfill.store.connection import Database

# A plan request that was not answered in this time is lost.
PLAN_REQUEST_LOST_SECONDS = 300
# How long a reservation holds others back. Its owner may die before it sends the plan request.
PLAN_REQUEST_SENDING_SECONDS = 3

# A planner that began a moment later may have planned already.
_FUTURE = "now() + interval '1 minute'"
# A lease or a plan request that lies further ahead than any can is of a clock that was put
# back, and is over.
_IS_FREE = f"""(planner_lease_expires_at IS NULL
    OR planner_lease_expires_at NOT BETWEEN now() AND now() + interval '{LONGEST_LEASE_SECONDS} seconds')"""
_IS_UNANSWERED = f"""(plan_requested_at IS NULL
    OR plan_requested_at NOT BETWEEN now() - make_interval(secs => :late_seconds) AND now() + interval '{LONGEST_LEASE_SECONDS} seconds')"""

# The longest unplanned first: priority gives shares, and no backfill waits until others are completed.
_DUE = f"""
    SELECT s.*, (SELECT owner FROM repositories WHERE id = s.repository_id) AS owner FROM progressive_backfill_state AS s
    WHERE status = 'active' AND {_IS_FREE}
      AND (planned_at IS NULL OR planned_at NOT BETWEEN :began_at AND {_FUTURE})
    ORDER BY planned_at NULLS FIRST
    LIMIT :limit
"""

# Active, and no message is on its way that would bring a planner: resumed by SQL, or its plan request was lost. A backfill
# that was planned a moment ago has no use for another run.
_STALLED = f"""
    SELECT * FROM progressive_backfill_state AS s
    WHERE status = 'active' AND {_IS_FREE} AND {_IS_UNANSWERED}
      AND (planned_at IS NULL OR planned_at NOT BETWEEN now() - make_interval(secs => :rest_seconds) AND {_FUTURE})
      AND NOT EXISTS (SELECT FROM backfill_chunks AS c
                      WHERE c.backfill_state_id = s.id AND c.status IN ('pending', 'processing') AND c.sent_at IS NOT NULL)
    ORDER BY planned_at NULLS FIRST
    LIMIT :limit
"""

# One planner per backfill: the second finds the lease taken. The lease of a planner that died expires.
_TAKE = f"""
    UPDATE progressive_backfill_state SET planner_token = gen_random_uuid(),
           planner_lease_expires_at = now() + make_interval(secs => :seconds), plan_requested_at = NULL,
           deferred_until = NULL
    WHERE id = :id AND {_IS_FREE} AND status <> 'paused'
    RETURNING *
"""

# A plan request that came during the lease found it taken, and its planner went away. The owner of the lease answers it.
_END = """
    WITH ending AS (
        SELECT id, plan_requested_at FROM progressive_backfill_state
        WHERE id = :id AND planner_token = :token FOR UPDATE)
    UPDATE progressive_backfill_state AS s SET planner_token = NULL, planner_lease_expires_at = NULL,
           plan_requested_at = NULL, last_processed_at = now(), planned_at = now(),
           idle_runs = CASE WHEN :has_progressed THEN 0 ELSE idle_runs + 1 END
    FROM ending WHERE s.id = ending.id
    RETURNING ending.plan_requested_at IS NOT NULL AS is_requested, s.idle_runs
"""

_DEFER = """
    UPDATE progressive_backfill_state SET deferred_until = :until WHERE id = :id AND planner_token = :token
"""

# At most one plan request is on its way per backfill, with the time at which it will arrive. Of two that ask at once, one
# gets the row and sends. If it dies before that, its reservation is lost within seconds.
_RESERVE_PLAN = f"""
    UPDATE progressive_backfill_state
    SET plan_requested_at = now() - make_interval(secs => :lost_seconds) + make_interval(secs => :sending_seconds)
    WHERE id = :id AND status = 'active' AND {_IS_UNANSWERED}
    RETURNING plan_requested_at AS reserved_at,
              CASE WHEN {_IS_FREE} THEN 0
                   ELSE CAST(ceil(EXTRACT(epoch FROM planner_lease_expires_at - now())) AS integer) + 1 END AS lease_seconds
"""

# Only over its own reservation: a planner that the request has started already took it away, and no request is on its way.
_NOTE_PLAN_SENT = """
    UPDATE progressive_backfill_state SET plan_requested_at = now() + make_interval(secs => :delay_seconds)
    WHERE id = :id AND plan_requested_at = :reserved_at
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """``is_requested``: a plan request came during the lease, and nobody answered it. ``idle_runs``: runs in a row without
    progress."""

    is_requested: bool = False
    idle_runs: int = 1


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right to send a plan request. ``lease_seconds``: the planner at work now has no lease after these, in whole
    seconds as SQS counts."""

    reserved_at: datetime
    lease_seconds: int


def due(db: Database, limit: int, began_at: datetime) -> list[tuple[str, Backfill]]:
    """Active backfills that no planner holds and that were not planned since ``began_at``, the longest waiting first, each with
    the owner of its repository."""
    return [(row["owner"], Backfill.from_row(row)) for row in db.rows(_DUE, limit=limit, began_at=began_at)]


def stalled(db: Database, limit: int, rest_seconds: float) -> list[Backfill]:
    """Active backfills that no message moves, and that were not planned within ``rest_seconds``."""
    rows = db.rows(_STALLED, limit=limit, rest_seconds=rest_seconds, late_seconds=PLAN_REQUEST_LOST_SECONDS)
    return [Backfill.from_row(row) for row in rows]


def take(db: Database, backfill_id: str, seconds: float) -> Lease | None:
    """Become the only planner of a backfill for a time; None if there is one already, or if it is paused."""
    row = db.one(_TAKE, id=backfill_id, seconds=min(seconds, LONGEST_LEASE_SECONDS))
    return None if row is None else Lease(row["planner_token"], Backfill.from_row(row))


def end(db: Database, lease: Lease, *, has_progressed: bool) -> Ended:
    """Let the next planner in, and count this run if it moved nothing."""
    row = db.one(_END, id=lease.backfill.id, token=lease.token, has_progressed=has_progressed)
    return Ended() if row is None else Ended(**row)


def under(db: Database, lease: Lease, statement: str, **values: Any) -> Lease:
    """Run a statement that holds only under this lease; the lease with the backfill as it is now."""
    row = db.one(statement, id=lease.backfill.id, token=lease.token, **values)
    if row is None:
        raise LeaseLost
    return Lease(lease.token, Backfill.from_row(row))


def defer(db: Database, lease: Lease, until: datetime) -> None:
    """Show that planning waits for GitHub's budget."""
    db.execute(_DEFER, id=lease.backfill.id, token=lease.token, until=until)


def reserve_plan(db: Database, backfill_id: str, *, arrived: bool = False) -> Reservation | None:
    """Reserve the right to send a plan request, for a few seconds; None while one is on its way, or if it is not active.

    ``arrived``: a request that should have arrived by now is not on its way any more.
    """
    row = db.one(
        _RESERVE_PLAN,
        id=backfill_id,
        lost_seconds=PLAN_REQUEST_LOST_SECONDS,
        late_seconds=-PLAN_REQUEST_SENDING_SECONDS if arrived else PLAN_REQUEST_LOST_SECONDS,
        sending_seconds=PLAN_REQUEST_SENDING_SECONDS,
    )
    return None if row is None else Reservation(**row)


def note_plan_sent(db: Database, backfill_id: str, reservation: Reservation, delay_seconds: float) -> None:
    """SQS has the plan request of this reservation, and delivers it after the delay."""
    db.execute(_NOTE_PLAN_SENT, id=backfill_id, reserved_at=reservation.reserved_at, delay_seconds=delay_seconds)
