"""The recovery function: a schedule, or a direct invocation."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.messages import recovery_event
from backfill.observability import logger, metrics
from backfill.recovery import Recovery


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Recover as the event says, or with the defaults."""
    return Recovery(wiring.database(), wiring.queues()).recover(recovery_event(event))
