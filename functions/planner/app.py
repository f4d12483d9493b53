"""The planner function: a schedule, a plan-queue message, or a direct invocation."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.errors import ContractViolation
from backfill.messages import PlanEvent, plan_message, planner_event
from backfill.observability import about, count, logger, metrics, problem
from backfill.planner.run import Planner
from backfill.queues import Source


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Plan what the event names, or every active backfill; or say what that would take."""
    if "Records" not in event:
        return _answer(planner_event(event), context)
    failed = []
    for record in event["Records"]:
        with about(message_id=record["messageId"]):
            try:
                _handle(record["body"], context)
            except Exception:
                # The message comes back by itself, and ends in the dead-letter queue if this goes on.
                logger.exception("a plan request failed")
                count("UnhandledErrors")
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _answer(request: PlanEvent, context: Any) -> dict[str, Any]:
    def seconds_left() -> float:
        return wiring.seconds_left(context)

    known = wiring.settings()
    if request.dry_run:
        # Only a dry run needs these modules. A cold start of the schedule does not import them.
        from backfill.forecast.forecast import Forecaster

        forecaster = Forecaster(
            wiring.database(), wiring.github_of_dry_runs(), seconds_left, known.check_share, known.timeline
        )
        return forecaster.forecast(request).as_json()
    planner = Planner(
        wiring.database(),
        wiring.github(),
        wiring.queues(),
        seconds_left,
        check_share=known.check_share,
        timeline=known.timeline,
    )
    return planner.plan(request).as_json()


def _handle(body: str, context: Any) -> None:
    """One message. What breaks its contract, or names nothing that is tracked, can never succeed: it becomes a dead letter."""
    try:
        _answer(plan_message(body), context)
    except ContractViolation as violation:
        count("InvalidMessages")
        problem("a plan message breaks its contract", field=violation.field, rule=violation.rule)
        wiring.queues().add_dead_letter(body, str(violation), Source.PLANS)
