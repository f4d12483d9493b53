"""Logs and metrics: one line of JSON per event, and EMF counts in the namespace ProgressiveBackfill."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "ProgressiveBackfill"

logger = Logger(service="progressive-backfill")
metrics = Metrics(namespace=NAMESPACE, service="progressive-backfill")


def count(name: str, value: float = 1) -> None:
    """Add to a metric of the present invocation. No dimension beside the service: low cardinality by construction."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def event(message: str, **fields: Any) -> None:
    """Log what happened, with its values as fields. Never pass a token, a secret or a body."""
    logger.info(message, extra=fields)


def problem(message: str, **fields: Any) -> None:
    """Log what went wrong and was dealt with."""
    logger.warning(message, extra=fields)
