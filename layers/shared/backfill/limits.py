"""GitHub's limits: how much of them the product uses, how far ahead they can lie, and what a request reserves and reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

# GitHub allows 60 seconds of server time a minute; design section 6 aims at 54.
SERVER_SHARE = 54 / 60
# This share of the points stays untouched, for the user's other tools.
FLOOR = 0.10
# What checks for changes of completed repositories may take of an hour's points, if CheckShare of the template says nothing else.
CHECK_SHARE = 0.10
# A time further ahead is a mistake of a header or of a clock, and is clamped (migrations/functions/budget_present_v1.sql).
# GitHub's points come back each hour, told to the second: an hour, and a minute for clocks and the way.
LONGEST_WINDOW_SECONDS = 3600.0 + 60.0
# No limit of GitHub's lasts longer than a day.
LONGEST_WAIT_SECONDS = 24 * 3600.0
# Lambda ends every function after 15 minutes, and a lease outlasts it by 30 seconds. SQS delays a message by 15 minutes at
# most. A lease or a message further ahead was written before the database's clock was put back, and counts as over.
LONGEST_LEASE_SECONDS = 16 * 60


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request needs: ``points``, and by the published figures ``expected_seconds`` of GitHub's time."""

    identity: str
    points: int
    expected_seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a reservation: send after ``wait_seconds``, or (``granted`` False) ask again after them.

    ``at`` is the database's time of the answer. ``slot`` is the reserved server time in seconds, and ``points_window`` numbers the
    window of the points. ``turn_seconds`` is the time until this request's turn, if only server time is in the way.
    """

    at: datetime
    granted: bool
    wait_seconds: float
    reason: str
    turn_seconds: float | None
    slot: float
    points_window: int


@dataclass(frozen=True, slots=True)
class Used:
    """How a request ended. ``spent`` are points that it may have cost without a usable reply. The other fields are what the reply
    reports; None where it reports nothing."""

    took_seconds: float
    spent: int = 0
    succeeded: bool = False
    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None
