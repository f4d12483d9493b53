"""How much of GitHub's server time a backfill uses while it runs, and whether it ever meets a secondary limit.

Workers are processes with a connection and wiring of their own, as containers have; the simulator counts. Time runs
twice as fast as GitHub's, on small pull requests; otherwise it would measure the machine's own time. It needs a quiet
machine: the time that a busy one adds to each request counts as GitHub's, and the pace slows down.
"""

from __future__ import annotations

import time

from benchmarks import setting
from benchmarks.figures import Figure
from local.fleet import Fleet, server_seconds_a_minute
from local.light import light
from local.simulator import Simulator

WORKERS = (1, 16)
SPEED = 2.0
# In GitHub's seconds: the first listing and the first requests, and then two minutes that count.
WARM_UP, MEASURED = 20.0, 90.0
TARGET = 54.0


def measure() -> list[Figure]:
    """Share of 54 server seconds a minute, and secondary limits, by number of workers."""
    figures = []
    with setting.postgres() as server:
        for workers in WORKERS:
            server.run(f"CREATE DATABASE workers_{workers} TEMPLATE migrated")
            figures += _with(workers, server.url(f"workers_{workers}"))
    return figures


def _with(workers: int, database_url: str) -> list[Figure]:
    with (
        Simulator(light(2000), speed=SPEED) as simulator,
        Fleet(database_url, simulator.url, workers=workers) as fleet,
    ):
        fleet.add("octo/light")
        begin = time.monotonic()
        if fleet.completed((WARM_UP + MEASURED) / SPEED):
            raise RuntimeError("the pull requests are too few for a steady state")
        end = (time.monotonic() - begin) * SPEED
        used = server_seconds_a_minute(list(simulator.limits.history), end - MEASURED, end)
        met = simulator.served["secondary_limits"] + simulator.served["primary_limits"]
    name = "1 worker" if workers == 1 else f"{workers} workers"
    return [
        Figure("steady_state", f"{name}: share of 54 s a minute", 100 * used / TARGET, "%", 90.0, at_least=True),
        Figure("steady_state", f"{name}: limits met", met, "replies", 0.0),
    ]
