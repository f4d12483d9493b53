"""The cost of 100,000 pull requests: measured points of GitHub, and AWS dollars from measured durations and a price list.

A backfill of the pull requests at hand runs in one process; its use is scaled up. `python -m benchmarks cost`
The prices are those of prices.toml, or of the file that the environment names as PRICES.
"""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from backfill.observability import UNITS
from backfill.store.connection import Database
from benchmarks.figures import Figure
from benchmarks.setting import SPEED, postgres, pull_requests_at_hand
from local.in_process import Stack
from local.simulator import Simulator

SUBJECT = "cost"
PULL_REQUESTS = 100_000
HERE = Path(__file__).parent
MEMORY_GB = 0.5
# The poller asks the queues also when they are empty: five long polls of 20 s at once on each of the two.
EMPTY_RECEIVES_A_MONTH = 2 * 5 * 3 * 60 * 24 * 30
SCHEDULED_A_MONTH = (2 + 0.5) * 24 * 30
SCHEDULED_SECONDS = 1.0
LOG_BYTES_A_MESSAGE = 4_000
# Of the functions' role, of the tables' owner, and of GitHub.
SECRETS = 3
HOURS_A_MONTH = 730


def prices(file: Path) -> dict[str, float]:
    """Dollars by the price's name. Raises KeyError for a price that is missing, ValueError for another text than a price list."""
    given = tomllib.loads(file.read_text(encoding="utf-8"))
    names = [name for name in tomllib.loads((HERE / "prices.toml").read_text(encoding="utf-8")) if name != "region"]
    return {name: float(given[name]["dollars"]) for name in names}


def alarms() -> int:
    """How many the stack has."""
    return (HERE.parent / "monitoring.yaml").read_text(encoding="utf-8").count("Type: AWS::CloudWatch::Alarm\n")


def watching(price: Mapping[str, float]) -> float:
    """Dollars a month for all metrics, the dashboard and the alarms."""
    return (
        len(UNITS) * price["CloudWatch, metric a month"]
        + price["CloudWatch, dashboard a month"]
        + alarms() * price["CloudWatch, alarm a month"]
    )


def measure() -> list[Figure]:
    """The cost per 100,000 pull requests of the kind at hand, and per month without work."""
    price = prices(Path(os.environ.get("PRICES") or HERE / "prices.toml"))
    repository = pull_requests_at_hand()[0]
    with (
        postgres() as server,
        Simulator([repository], speed=SPEED) as simulator,
        closing(Database(lambda: server.url("migrated"))) as db,
    ):
        stack, empty = Stack(db, simulator), _bytes(db)
        stack.add(repository.full_name)
        begin, messages = time.monotonic(), 0

        def count() -> None:
            nonlocal messages
            messages += 1

        stack.run(between=count)
        # Our own time, and GitHub's, which the worker waits for.
        ours = time.monotonic() - begin
        served = simulator.statistics()
        github_seconds = served["server_milliseconds"] / 1000
        stored = _bytes(db) - empty
    scale = PULL_REQUESTS / len(repository.pull_requests)
    points, messages_all = served["points"] * scale, messages * scale
    seconds = (ours + github_seconds) * scale
    gb_second, request = price["Lambda on arm64, GB-second"], price["Lambda, million requests"] / 1e6
    queue_request = price["SQS standard queue, million requests"] / 1e6
    lambda_dollars = seconds * MEMORY_GB * gb_second + messages_all * request
    # Sent, received and deleted.
    sqs_dollars = 3 * messages_all * queue_request
    logs_dollars = messages_all * LOG_BYTES_A_MESSAGE / 1e9 * price["CloudWatch Logs, GB taken in"]
    # At most: X-Ray samples requests beyond one a second.
    traces_dollars = messages_all * price["X-Ray, million traces"] / 1e6
    resting = (
        EMPTY_RECEIVES_A_MONTH * queue_request
        + SCHEDULED_A_MONTH * SCHEDULED_SECONDS * MEMORY_GB * gb_second
        + SCHEDULED_A_MONTH * (request + price["EventBridge Scheduler, million invocations"] / 1e6)
        + SECRETS * price["Secrets Manager, secret a month"]
        # Once a container, at most one for every scheduled run.
        + SECRETS * SCHEDULED_A_MONTH * price["Secrets Manager, million calls"] / 1e6
    )
    values = [
        ("points", points, "points"),
        ("hours at 5,000 points an hour", points / 5000, "h"),
        ("hours at 60 s of GitHub's time a minute", github_seconds * scale / 3600, "h"),
        ("function time", seconds / 3600, "h"),
        ("messages", messages_all, "messages"),
        ("Postgres, with its indexes", stored * scale / 1e9, "GB"),
        ("Lambda", lambda_dollars, "$"),
        ("SQS", sqs_dollars, "$"),
        ("logs", logs_dollars, "$"),
        ("traces, at most", traces_dollars, "$"),
        ("all of it", lambda_dollars + sqs_dollars + logs_dollars + traces_dollars, "$"),
        ("a month at rest: polling, schedules, secrets", resting, "$"),
        (f"a month of {len(UNITS)} metrics, the dashboard and {alarms()} alarms", watching(price), "$"),
        (
            "a month of a NAT gateway with its address, where a VPC has none",
            HOURS_A_MONTH * (price["NAT gateway, hour"] + price["public IPv4 address, hour"]),
            "$",
        ),
        ("each GB through it", price["NAT gateway, GB"], "$"),
    ]
    return [Figure(SUBJECT, what, value, unit) for what, value, unit in values]


def _bytes(db: Database) -> int:
    return int(db.only("SELECT pg_database_size(current_database()) AS bytes")["bytes"])
