"""The planner function: a schedule, a plan-queue message, or a direct invocation."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.errors import ContractViolation
from backfill.messages import plan_message, planner_event
from backfill.observability import about, count, logger, metrics, problem
from backfill.planning import Planner


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Plan what the event names, or every active backfill."""
    planner = Planner(wiring.database(), wiring.github(), wiring.queues(), lambda: wiring.seconds_left(context))
    if "Records" not in event:
        return planner.plan(planner_event(event))
    failed = []
    for record in event["Records"]:
        with about(message_id=record["messageId"]):
            try:
                _plan(planner, record["body"])
            except Exception:
                # The message comes back by itself, and ends in the dead-letter queue if this goes on.
                logger.exception("a plan request failed")
                count("UnhandledErrors")
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _plan(planner: Planner, body: str) -> None:
    """Answer a plan request. One that breaks its contract can never succeed: it is buried with its reason."""
    try:
        planner.plan(plan_message(body))
    except ContractViolation as violation:
        count("InvalidMessages")
        problem("a plan message breaks its contract", field=violation.field, rule=violation.rule)
        planner.queues.bury(body, str(violation))
