"""Time: how fast GitHub answers, how active backfills share it, and the waits for GitHub's points."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backfill.forecast.work import Work
from backfill.limits import FLOOR, SERVER_SHARE
from backfill.store import forecasts
from backfill.store.budget import Budget, Budgets
from backfill.store.connection import Database

# Detailed pull requests within the last hour that make a pace.
LEAST_PACE = 250
# GitHub's points come back after an hour.
WINDOW_SECONDS = 3600.0
# Points of an identity whose budget is not known yet.
USUAL_LIMIT = 5000


def pace(db: Database, works: Sequence[Work], budgets: Budgets, its: Budget | None) -> float:
    """Seconds that one of GitHub's seconds takes for an identity: as measured within the last hour, where enough happened.
    Else as the governor spends them on this GitHub."""
    slowness = its.slowness if its else 1.0
    measured = forecasts.pace(db, *_owners(budgets, its))
    details = sum(work.to_detail for work in works)
    if measured.pull_requests < LEAST_PACE or measured.seconds <= 0 or not details:
        return slowness / SERVER_SHARE
    seconds_each = sum(work.server_seconds for work in works) / details
    return measured.seconds / measured.pull_requests / seconds_each


def _owners(budgets: Budgets, its: Budget | None) -> tuple[list[str], bool]:
    """Owners in lower case, and whether the identity reads these, or all others."""
    accounts = budgets.accounts
    if its is None or its is budgets.default:
        return [owner for owner, each in accounts.items() if each is not its], False
    return [owner for owner, each in accounts.items() if each is its], True


def until_done(works: Sequence[tuple[float, float]]) -> list[float]:
    """When each of ``(seconds of work, share)`` is done, if all go on at once in proportion to their shares."""
    left = {index: seconds for index, (seconds, _) in enumerate(works)}
    finishes, now = [0.0] * len(works), 0.0
    while left:
        shares = sum(works[index][1] for index in left)
        first = min(left, key=lambda index: left[index] / works[index][1])
        elapsed = left[first] * shares / works[first][1]
        now += elapsed
        for index in left:
            left[index] -= elapsed * works[index][1] / shares
        finishes[first] = now
        del left[first]
    return finishes


def with_resets(seconds: float, points_per_second: float, budget: Budget | None, now: datetime) -> float:
    """Seconds of work, and the waits for GitHub's points between them.

    The floor is not touched, and a window's points are there again after its reset.
    """
    limit, remaining, passed, window_ends = USUAL_LIMIT, USUAL_LIMIT, 0.0, WINDOW_SECONDS
    if budget is not None and budget.limit is not None and budget.remaining is not None:
        limit, remaining = budget.limit, budget.remaining
        passed = _ahead(budget.blocked_until, now) or 0.0
        window_ends = _ahead(budget.reset_at, now) or WINDOW_SECONDS
    points = remaining - FLOOR * limit
    while points_per_second > 0:
        can_work = min(max(0.0, points) / points_per_second, max(0.0, window_ends - passed))
        if seconds <= can_work:
            break
        seconds -= can_work
        passed = max(passed, window_ends)
        points, window_ends = (1 - FLOOR) * limit, passed + WINDOW_SECONDS
    return passed + seconds


def _ahead(moment: datetime | None, now: datetime) -> float | None:
    """Seconds until a moment that is still to come."""
    return (moment - now).total_seconds() if moment is not None and moment > now else None
