"""The worker function: one message of the chunk queue at a time."""

from __future__ import annotations

from typing import Any

from backfill import wiring
from backfill.chunk_worker.handled import Handled
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
                # Nothing is stored in part. The message comes back, and is a dead letter after five receives.
                logger.exception("a chunk message failed")
                count("UnhandledErrors")
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _handled(worker: Worker, body: str) -> Handled:
    """What became of the message. A message that breaks its contract can never succeed: it becomes a dead letter with its reason."""
    try:
        return worker.handle(chunk_message(body), body)
    except ContractViolation as violation:
        count("InvalidMessages")
        problem("a chunk message breaks its contract", field=violation.field, rule=violation.rule)
        worker.queues.add_dead_letter(body, str(violation))
        return Handled.DEAD_LETTER
