"""Logs and metrics: one line of JSON per event, and EMF values in the namespace ProgressiveBackfill.

The only dimension is ``service``, the name of the stack: cardinality stays low however many repositories there are, and
two stacks of one account stay apart.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "ProgressiveBackfill"
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME") or "progressive-backfill"

# An invocation without metrics is normal: no warning.
warnings.filterwarnings("ignore", message="No application metrics to publish")

# A line's location is the caller's, not this module's.
_CALLER = 3

logger = Logger(service=SERVICE)
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)

# Every metric with its unit; docs/operations.md says what each one means. Events are summed over a period.
EVENTS = {
    "PullRequestsStored": MetricUnit.Count,
    "PullRequestsFailed": MetricUnit.Count,
    "PullRequestsIncomplete": MetricUnit.Count,
    "RowsWritten": MetricUnit.Count,
    "PagesListed": MetricUnit.Count,
    "PointsSpent": MetricUnit.Count,
    "CostsMispredicted": MetricUnit.Count,
    "ServerSeconds": MetricUnit.Seconds,
    "RequestsSucceeded": MetricUnit.Count,
    "RequestsTooLarge": MetricUnit.Count,
    "RequestsRateLimited": MetricUnit.Count,
    "RequestsRefused": MetricUnit.Count,
    "RequestsFailed": MetricUnit.Count,
    "ChunksCompleted": MetricUnit.Count,
    "ChunksDeferred": MetricUnit.Count,
    "ChunksSplit": MetricUnit.Count,
    "ChunksFailed": MetricUnit.Count,
    "ChunksRecovered": MetricUnit.Count,
    "ChunkErrors": MetricUnit.Count,
    "ChunkDuration": MetricUnit.Seconds,
    "DeferralSeconds": MetricUnit.Seconds,
    "DatabaseSeconds": MetricUnit.Seconds,
    "DuplicateMessages": MetricUnit.Count,
    "StaleClaims": MetricUnit.Count,
    "InvalidMessages": MetricUnit.Count,
    "UnhandledErrors": MetricUnit.Count,
    "SyncRequests": MetricUnit.Count,
    "BackfillsCompleted": MetricUnit.Count,
    "BackfillsPaused": MetricUnit.Count,
    "MigrationsFailed": MetricUnit.Count,
}
# A level is the value that a heartbeat or a reply found at that moment.
LEVELS = {
    "PointsLeft": MetricUnit.Count,
    "ActiveBackfills": MetricUnit.Count,
    "StalledBackfills": MetricUnit.Count,
    "BackfillsInTrouble": MetricUnit.Count,
    "BackfillsWithoutAccess": MetricUnit.Count,
    "PullRequestsLeft": MetricUnit.Count,
    "UnfinishedChunks": MetricUnit.Count,
    "ExpiredLeases": MetricUnit.Count,
    "OldestPendingChunk": MetricUnit.Seconds,
    "PlannerLag": MetricUnit.Seconds,
    "CheckLag": MetricUnit.Seconds,
    "DeadLettersLeft": MetricUnit.Count,
}


UNITS = EVENTS | LEVELS


def count(name: str, value: float = 1) -> None:
    """Add to a metric of the present invocation, or note a level, in the unit that EVENTS and LEVELS give it."""
    metrics.add_metric(name=name, unit=UNITS[name], value=value)


def note_levels(values: Mapping[str, float]) -> None:
    """Record the levels that a heartbeat found, by name."""
    for name, value in values.items():
        count(name, float(value))


def event(message: str, **fields: Any) -> None:
    """Log an event with its values as fields. Never pass a token, a secret or a body."""
    logger.info(message, extra=fields, stacklevel=_CALLER)


def problem(message: str, **fields: Any) -> None:
    """Log an error that was handled."""
    logger.warning(message, extra=fields, stacklevel=_CALLER)


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Give every line that is logged inside the block these fields, such as message, chunk and backfill."""
    with logger.append_context_keys(**fields):
        yield
