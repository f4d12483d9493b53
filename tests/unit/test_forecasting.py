"""The arithmetic of a forecast: shares of the time, and waits for GitHub's points."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backfill.forecast.pace import until_done, with_resets
from backfill.store.budget import Budget

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def budget(remaining: int, reset_minutes: float = 30, blocked_minutes: float | None = None) -> Budget:
    return Budget(
        identity="user:octo",
        limit=5000,
        remaining=remaining,
        reset_at=NOW + timedelta(minutes=reset_minutes),
        blocked_until=None if blocked_minutes is None else NOW + timedelta(minutes=blocked_minutes),
        slowness=1.0,
        waits_until=None,
        wait_reason=None,
    )


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        ([], []),
        ([(100, 1)], [100]),
        ([(100, 2), (100, 1)], [150, 200]),
        ([(400, 4), (200, 2), (100, 1)], [700, 700, 700]),
        ([(0, 1), (10, 1)], [0, 10]),
    ],
)
def test_time_is_shared_by_weight_and_no_work_is_lost(works: list[tuple[float, float]], expected: list[float]) -> None:
    assert until_done(works) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "rate", "known", "expected"),
    [
        (600, 1, None, 600),
        (600, 1, budget(5000), 600),
        # 500 points above the floor, then half an hour of which 500 s were worked is waited for.
        (600, 1, budget(1000), 1800 + 100),
        # Nothing above the floor: all of it after the reset.
        (600, 1, budget(500), 1800 + 600),
        (600, 1, budget(5000, blocked_minutes=5), 300 + 600),
        # A window gives 4,500 points, 2,250 s at this rate; the rest of its hour is waited for.
        (5000, 2, budget(5000, reset_minutes=60), 2 * 3600 + 500),
        (600, 0, budget(0), 600),
        # The reset has passed already.
        (600, 1, budget(5000, reset_minutes=-5), 600),
    ],
)
def test_waits_for_points_are_part_of_the_time(
    seconds: float, rate: float, known: Budget | None, expected: float
) -> None:
    assert with_resets(seconds, rate, known, NOW) == pytest.approx(expected)
