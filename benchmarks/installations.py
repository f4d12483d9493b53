"""One App with four installations beside one with a single one: 16 workers, and a budget for each installation."""

from __future__ import annotations

import time
from contextlib import closing

from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from local.fleet import Fleet
from local.postgres import Postgres
from local.simulator import Installation, Simulator, generate
from local.simulator.app_keys import AppKeys

OWNERS = ("acme", "globex", "initech", "umbrella")
PULL_REQUESTS = 2500
# Times as fast as GitHub: this machine's own work must stay small beside GitHub's time.
SPEED = 1.0
WORKERS = 16
WARM_UP_SECONDS, MEASURED_SECONDS = 30.0, 90.0
# Of the throughput of one installation.
LEAST_TIMES = 3.6


def measure() -> list[Figure]:
    """Pull requests per second with one and with four installations, and GitHub's limit replies."""
    with setting.postgres() as server:
        (one, limits_of_one), (four, limits_of_four) = (_rate(server.url(_database(server, n)), n) for n in (1, 4))
    return [
        Figure("installations", "pull requests, one installation", one, "per second"),
        Figure("installations", "pull requests, four installations", four, "per second"),
        Figure("installations", "four installations over one", four / one, "times", LEAST_TIMES, at_least=True),
        Figure("installations", "limit replies", limits_of_one + limits_of_four, "replies", 0),
    ]


def _database(server: Postgres, installations: int) -> str:
    name = f"installations_{installations}"
    server.run(f"CREATE DATABASE {name} TEMPLATE migrated")
    return name


def _rate(database_url: str, installations: int) -> tuple[float, int]:
    """Pull requests per second, and limit replies. The repositories are the same, of one owner or of four."""
    keys = AppKeys.generate()
    names = {f"{OWNERS[index % installations]}/r{index}": PULL_REQUESTS for index in range(4)}
    app = keys.app(*(Installation(owner, number) for number, owner in enumerate(OWNERS[:installations], 1)))
    with (
        Simulator(generate(1, names), speed=SPEED, app=app) as simulator,
        Fleet(database_url, simulator.url, workers=WORKERS, secret=keys.secret) as fleet,
        closing(Database(lambda: database_url)) as db,
    ):
        for name in names:
            fleet.add(name)
        time.sleep(WARM_UP_SECONDS)
        before, begin = _stored(db), time.monotonic()
        time.sleep(MEASURED_SECONDS)
        rate = (_stored(db) - before) / (time.monotonic() - begin)
        return rate, simulator.served["primary_limits"] + simulator.served["secondary_limits"]


def _stored(db: Database) -> int:
    return int(db.only("SELECT COALESCE(sum(processed_prs), 0) AS stored FROM progressive_backfill_state")["stored"])
