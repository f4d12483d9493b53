"""The console function: what the command line asks of a deployed stack."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.observability import logger, metrics
from backfill.operating import Operator


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One action."""
    return Operator(wiring.database(), wiring.github(), wiring.queues()).act(event)
