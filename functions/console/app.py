"""The console function: what the command line and the buttons of the CloudWatch widget ask of a deployed stack."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.observability import logger, metrics
from backfill.operating import Operator


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any] | str:
    """One action: its answer, or for CloudWatch (``widgetContext``) the widget with what it did."""
    operator = Operator(wiring.database(), wiring.github(), wiring.queues())
    if "widgetContext" not in event:
        return operator.act(event)
    from backfill.widget.acting import act_and_show

    return act_and_show(operator, event, context.invoked_function_arn)
