"""The planner's round over all backfills: planner_round, one row. At most one message that goes on with it is on its way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backfill.limits import LONGEST_LEASE_SECONDS
from backfill.store.connection import Database

# A message that should have arrived so long ago is lost.
LOST_SECONDS = 300

_BEGIN = """
    INSERT INTO planner_round (began_at) VALUES (now())
    ON CONFLICT (is_only_row) DO UPDATE SET began_at = now(), idle_runs = 0
    RETURNING began_at
"""

# A message that a person published begins a round if none is under way. A beginning in the future is of a clock that was put
# back since: no check is ever later than it.
_CONTINUE = """
    INSERT INTO planner_round (began_at) VALUES (now())
    ON CONFLICT (is_only_row) DO UPDATE SET began_at = LEAST(planner_round.began_at, now()),
        continues_at = NULL
    RETURNING began_at
"""

_END = "UPDATE planner_round SET began_at = NULL, idle_runs = 0"

# One that would arrive later than SQS can delay it was sent before the database's clock was put back.
_IS_ON_ITS_WAY = f"""continues_at BETWEEN now() - make_interval(secs => :lost_seconds)
    AND now() + interval '{LONGEST_LEASE_SECONDS} seconds'"""
_COUNT_RUN = f"""
    UPDATE planner_round SET idle_runs = CASE WHEN :has_progressed THEN 0 ELSE idle_runs + 1 END
    RETURNING idle_runs, COALESCE({_IS_ON_ITS_WAY}, false) AS is_sent
"""

_NOTE_SENT = "UPDATE planner_round SET continues_at = now() + make_interval(secs => :delay_seconds)"


@dataclass(frozen=True, slots=True)
class Run:
    """A run that did not end the round: how many in a row moved nothing, and whether the next message is on its way."""

    idle_runs: int
    is_sent: bool


def begin(db: Database) -> datetime:
    """A round begins, for the heartbeat or a person; since when."""
    return _began(db, _BEGIN)


def go_on(db: Database) -> datetime:
    """A message of the plan queue goes on with the round; since when that runs."""
    return _began(db, _CONTINUE)


def end(db: Database) -> None:
    """Everything was planned and asked about."""
    db.execute(_END)


def count_run(db: Database, *, has_progressed: bool) -> Run:
    """A run ended before the round did."""
    row = db.one(_COUNT_RUN, has_progressed=has_progressed, lost_seconds=LOST_SECONDS)
    if row is None:
        raise LookupError("there is no round")
    return Run(**row)


def note_sent(db: Database, delay_seconds: float) -> None:
    """SQS has the message that goes on with the round, and delivers it after the delay."""
    db.execute(_NOTE_SENT, delay_seconds=delay_seconds)


def _began(db: Database, statement: str) -> datetime:
    row = db.one(statement)
    if row is None:
        raise LookupError("no round was begun")
    began: datetime = row["began_at"]
    return began
