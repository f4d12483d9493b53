"""What 100,000 pull requests cost: GitHub's points, measured, and AWS dollars, from measured durations and the price list below.

A backfill of the pull requests at hand runs in one process; what it used is scaled up. `python -m benchmarks cost`
"""

from __future__ import annotations

import time
from contextlib import closing

from backfill.store.connection import Database
from benchmarks.figures import Figure
from benchmarks.setting import SPEED, postgres, pull_requests_at_hand
from local.simulator import Simulator
from tests.integration.in_process import Stack

SUBJECT = "cost"
PULL_REQUESTS = 100_000
# The on-demand prices of us-east-1 in dollars, as AWS's pricing pages gave them in 2025; look at yours before you count on them:
# https://aws.amazon.com/lambda/pricing/ (arm64), /sqs/pricing/, /cloudwatch/pricing/, /secrets-manager/pricing/,
# /eventbridge/pricing/, /vpc/pricing/. Free tiers are left out.
PRICES = {
    "Lambda, GB-second": 0.0000133334,
    "Lambda, request": 0.20 / 1e6,
    "SQS, request": 0.40 / 1e6,
    "logs, GB taken in": 0.50,
    "metric a month": 0.30,
    "dashboard a month": 3.00,
    "alarm a month": 0.10,
    "secret a month": 0.40,
    "schedule, invocation": 1.00 / 1e6,
    "NAT gateway a month": 0.045 * 730,
    "NAT, GB": 0.045,
}
MEMORY_GB = 0.5
# The poller asks the queues also when they are empty: five long polls of 20 s at once on each of the two.
EMPTY_RECEIVES_A_MONTH = 2 * 5 * 3 * 60 * 24 * 30
SCHEDULED_A_MONTH = (2 + 0.5) * 24 * 30
SCHEDULED_SECONDS = 1.0
LOG_BYTES_A_MESSAGE = 4_000
METRICS, ALARMS, SECRETS = 35, 13, 2


def measure() -> list[Figure]:
    """Per 100,000 pull requests of the kind at hand, and what stands still costs a month."""
    repository = pull_requests_at_hand()[0]
    with (
        postgres() as server,
        Simulator([repository], speed=SPEED) as simulator,
        closing(Database(lambda: server.url("migrated"))) as db,
    ):
        stack = Stack(db, simulator)
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
    scale = PULL_REQUESTS / len(repository.pull_requests)
    points, messages_all = served["points"] * scale, messages * scale
    seconds = (ours + github_seconds) * scale
    lambda_dollars = seconds * MEMORY_GB * PRICES["Lambda, GB-second"] + messages_all * PRICES["Lambda, request"]
    # Sent, received and deleted.
    sqs_dollars = 3 * messages_all * PRICES["SQS, request"]
    logs_dollars = messages_all * LOG_BYTES_A_MESSAGE / 1e9 * PRICES["logs, GB taken in"]
    scheduled_seconds = SCHEDULED_A_MONTH * SCHEDULED_SECONDS
    resting = (
        EMPTY_RECEIVES_A_MONTH * PRICES["SQS, request"]
        + scheduled_seconds * MEMORY_GB * PRICES["Lambda, GB-second"]
        + SCHEDULED_A_MONTH * (PRICES["Lambda, request"] + PRICES["schedule, invocation"])
        + SECRETS * PRICES["secret a month"]
    )
    watching = METRICS * PRICES["metric a month"] + PRICES["dashboard a month"] + ALARMS * PRICES["alarm a month"]
    values = [
        ("points", points, "points"),
        ("hours at 5,000 points an hour", points / 5000, "h"),
        ("hours at 60 s of GitHub's time a minute", github_seconds * scale / 3600, "h"),
        ("function time", seconds / 3600, "h"),
        ("messages", messages_all, "messages"),
        ("Lambda", lambda_dollars, "$"),
        ("SQS", sqs_dollars, "$"),
        ("logs", logs_dollars, "$"),
        ("all of it", lambda_dollars + sqs_dollars + logs_dollars, "$"),
        ("a month at rest: polling, schedules, secrets", resting, "$"),
        ("a month of metrics, dashboard and alarms", watching, "$"),
        ("a month of a NAT gateway, where a VPC has none", PRICES["NAT gateway a month"], "$"),
    ]
    return [Figure(SUBJECT, what, value, unit) for what, value, unit in values]
