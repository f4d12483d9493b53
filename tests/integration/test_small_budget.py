"""A budget that is spent three times over: nothing is refused, the floor holds, and no time is lost beyond the resets."""

from __future__ import annotations

import time

from backfill.limits import FLOOR, SERVER_SHARE
from backfill.store.connection import Database
from local.fleet import Fleet
from local.light import light
from local.simulator import Simulator

# 33 points, where a window allows 10 of them.
SIZE, LIMIT, ALLOWED = 600, 12, 10
# Windows in seconds of this machine, where GitHub's is an hour; so fast that the points end long before them. If the
# machine is too busy for that, once more in windows in which its own time weighs less.
WINDOWS, SPEED = (12.0, 45.0), 20.0


def test_a_small_budget_costs_the_waits_for_its_resets_and_nothing_else(database_url: str, db: Database) -> None:
    for window in WINDOWS:
        spent, took, at_best = run(database_url, db, window)
        if spent[:-1] == [ALLOWED] * 3 and took <= 1.1 * at_best:
            return
        db.execute("TRUNCATE repositories, github_budget CASCADE")
    raise AssertionError(f"{took:.1f} s, where the budget allows {at_best:.1f} s; points by window: {spent}")


def run(database_url: str, db: Database, window: float) -> tuple[list[int], float, float]:
    """A whole backfill: points by window, seconds it took, and seconds at best."""
    with (
        Simulator(light(SIZE), speed=SPEED, limit=LIMIT, window=window * SPEED) as simulator,
        Fleet(database_url, simulator.url, workers=4) as fleet,
    ):
        fleet.add("octo/light")
        assert fleet.completed(4 * window + 60)
        finished = time.time()
        served, windows, history = simulator.served, simulator.limits.windows, list(simulator.limits.history)
    assert (served["primary_limits"], served["secondary_limits"]) == (0, 0)
    assert simulator.limits.least_remaining is not None and simulator.limits.least_remaining >= FLOOR * LIMIT
    assert simulator.statistics()["detailed_again"] == 0
    assert db.one("SELECT processed_prs FROM progressive_backfill_state") == {"processed_prs": SIZE}

    began = windows[0][0]
    spent, busy = [0] * len(windows), [0.0] * len(windows)
    for start, seconds, points in history:
        index = max(index for index, each in enumerate(windows) if start / SPEED + began >= each[0] - 0.001)
        spent[index], busy[index] = spent[index] + points, busy[index] + seconds
    waits = sum(ends - begins for begins, ends in windows[:-1])
    return spent, finished - began, waits + busy[-1] / SPEED / SERVER_SHARE
