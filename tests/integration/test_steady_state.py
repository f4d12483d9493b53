"""Sixteen workers at once: GitHub's server time is used, and no limit is met."""

from __future__ import annotations

from backfill.store.connection import Database
from local.fleet import Fleet, server_seconds_a_minute
from local.light import light
from local.simulator import Simulator

WORKERS, SPEED = 16, 3.0
# Server seconds in some minute. Nine tenths of 54 are the target of make bench steady_state, on a quiet machine; here, what
# a busy machine adds to each request is paced as if it were GitHub's.
LEAST = 27.0


def test_sixteen_workers_use_githubs_time_and_meet_no_limit(database_url: str) -> None:
    with (
        Simulator(light(1500), speed=SPEED, limit=50_000) as simulator,
        Fleet(database_url, simulator.url, workers=WORKERS) as fleet,
    ):
        fleet.add("octo/light")

        def steady(_: Database) -> bool:
            assert (simulator.served["secondary_limits"], simulator.served["primary_limits"]) == (0, 0)
            history = list(simulator.limits.history)
            end = history[-1][0] if history else 0.0
            return end > 60 and server_seconds_a_minute(history, end - 60, end) >= LEAST

        # A busy machine takes longer to get there; it never gets there by going over.
        assert fleet.wait(steady, 150)
        assert simulator.statistics()["detailed_again"] == 0
