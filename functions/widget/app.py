"""The widget function: shows the backfills on the CloudWatch dashboard. It reads; what acts is the console function."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.observability import logger
from backfill.overview import overview
from backfill.store import backfills
from backfill.widget.contract import DESCRIPTION, view
from backfill.widget.page import render


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> str:
    """HTML, or the documentation for ``{"describe": true}``."""
    if event.get("describe"):
        return DESCRIPTION
    db = wiring.database()
    seen = overview(db, wiring.queues()).as_json()
    return render(seen, view(event), function_arn=context.invoked_function_arn, now=backfills.now(db))
