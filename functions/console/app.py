"""The console function: what the command line and the buttons of the CloudWatch widget ask of a deployed stack."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.console import Console
from backfill.observability import logger, metrics


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any] | str:
    """One action: its answer, or for CloudWatch (``widgetContext``) the widget with what it did."""
    github = wiring.github_of_dry_runs() if isinstance(event, dict) and event.get("dry_run") else wiring.github()
    console = Console(wiring.database(), github, wiring.queues())
    if "widgetContext" not in event:
        return console.act(event)
    from backfill.widget.acting import act_and_show

    return act_and_show(console, event, context.invoked_function_arn)
