"""The worker function: one message of the chunk queue at a time."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.chunk_worker.worker import Worker
from backfill.errors import ContractViolation
from backfill.messages import chunk_message
from backfill.observability import about, count, event, logger, metrics, problem


@logger.inject_lambda_context
@metrics.log_metrics
def handler(sqs_event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Work on the messages and report those that SQS should show again."""
    worker = Worker(wiring.database(), wiring.github(), wiring.queues(), lambda: wiring.seconds_left(context))
    failed = []
    for record in sqs_event["Records"]:
        with about(message_id=record["messageId"]):
            try:
                outcome = _handled(worker, record["body"])
                event("message handled", outcome=outcome)
            except Exception:
                # Nothing half is stored: the message comes back, and ends in the dead-letter queue if this goes on.
                logger.exception("a chunk message failed")
                count("UnhandledErrors")
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _handled(worker: Worker, body: str) -> str:
    """What became of the message. One that breaks its contract can never succeed: it is buried with its reason."""
    try:
        return worker.handle(chunk_message(body), body)
    except ContractViolation as violation:
        count("InvalidMessages")
        problem("a chunk message breaks its contract", field=violation.field, rule=violation.rule)
        worker.queues.bury(body, str(violation))
        return "buried"
