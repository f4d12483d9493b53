"""Sixteen workers at once: GitHub's server time is used, and no limit is met."""

from __future__ import annotations

from backfill.store.connection import Database
from local.fleet import Fleet, server_seconds_a_minute
from local.simulator import Repository, Simulator, generate

WORKERS, SPEED = 16, 3.0
# Nine tenths of 54 seconds a minute.
LEAST = 48.6


def light() -> list[Repository]:
    """Pull requests that cost GitHub the usual time and this machine next to none."""
    repositories = generate(3, {"octo/light": 1500})
    for repository in repositories:
        for pull_request in repository.pull_requests.values():
            pull_request["reviews"], pull_request["reviewThreads"] = [], []
            for connection in ("comments", "commits", "files", "labels"):
                del pull_request[connection][1:]
            pull_request["totalCommentsCount"] = len(pull_request["comments"])
    return repositories


def test_sixteen_workers_use_githubs_time_and_meet_no_limit(database_url: str) -> None:
    with (
        Simulator(light(), speed=SPEED, limit=50_000) as simulator,
        Fleet(database_url, simulator.url, workers=WORKERS) as fleet,
    ):
        fleet.add("octo/light")

        def steady(_: Database) -> bool:
            history = list(simulator.limits.history)
            end = history[-1][0] if history else 0.0
            return end > 60 and server_seconds_a_minute(history, end - 60, end) >= LEAST

        # A busy machine takes longer to get there; it never gets there by going over.
        assert fleet.wait(steady, 150)
        assert (simulator.served["secondary_limits"], simulator.served["primary_limits"]) == (0, 0)
        assert simulator.statistics()["detailed_again"] == 0
