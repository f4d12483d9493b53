"""The widget function: shows the backfills on the CloudWatch dashboard. It reads; what acts is the console function."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.observability import logger
from backfill.widget.contract import DESCRIPTION, view
from backfill.widget.page import show


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> str:
    """HTML, or the documentation for ``{"describe": true}``."""
    if event.get("describe"):
        return DESCRIPTION
    return show(wiring.database(), wiring.queues(), view(event), context.invoked_function_arn)
