"""The migrator function: a CloudFormation custom resource, so that a deployment brings the schema up to date."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from backfill import wiring
from backfill.observability import count, logger, metrics, note_levels
from backfill.store import levels
from migrations.runner import upgrade

# Kept back from the migrations, for the answer to CloudFormation.
ANSWER_SECONDS = 30
# A database that scales to zero may sleep when a stack is made, and a migrator that fails deletes the new stack. A tenth of
# the function's time at most.
WAKE_SECONDS = 60


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Migrate on Create, Update and direct invocation. On Delete do nothing: the data stays; nor on the way back.

    CloudFormation gets an answer in every case, and before the function's time ends, or it would wait for an hour. A failure
    that it was told of is not raised again: Lambda would call this function anew, behind the back of a deployment that failed.
    """
    seconds = wiring.seconds_left(context) - ANSWER_SECONDS
    if "ResponseURL" not in event:
        return {"applied": _migrate(seconds)}
    try:
        applied = _migrate(seconds) if _asks_for_more(event) else []
    except Exception as error:
        logger.exception("the migration failed")
        _answer(event, context, "FAILED", str(error), [])
        return {"failed": str(error)}
    _answer(event, context, "SUCCESS", "", applied)
    if event["RequestType"] == "Create":
        # A first sign of life: the planner's own heartbeat comes half an hour later.
        note_levels(levels.read(wiring.database()))
    return {"applied": applied}


def _migrate(seconds: float) -> list[str]:
    """Upgrade the schema, and report to the alarm that it failed (1) or that it did not (0)."""
    try:
        wake_seconds = min(WAKE_SECONDS, seconds / 10)
        applied = upgrade(wiring.database_url(), seconds=seconds - wake_seconds, wake_seconds=wake_seconds)
    except Exception:
        count("MigrationsFailed")
        raise
    count("MigrationsFailed", 0)
    return applied


def _asks_for_more(event: dict[str, Any]) -> bool:
    """Not on the way back, in which CloudFormation puts the properties of before: migrations go forward only, and Postgres, whose
    absence may be why the deployment failed, must not keep the stack from being rolled back."""
    if event["RequestType"] == "Update":
        return bool(event["ResourceProperties"]["SchemaVersion"] >= event["OldResourceProperties"]["SchemaVersion"])
    return bool(event["RequestType"] == "Create")


def _answer(event: dict[str, Any], context: Any, status: str, reason: str, applied: list[str]) -> None:
    body = {
        "Status": status,
        "Reason": reason[:1000] or f"see the log stream {context.log_stream_name}",
        "PhysicalResourceId": event.get("PhysicalResourceId") or "progressive-backfill-schema",
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"Applied": ", ".join(applied)},
    }
    request = urllib.request.Request(  # noqa: S310 - CloudFormation's own address
        event["ResponseURL"], data=json.dumps(body).encode(), method="PUT", headers={"content-type": ""}
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
        response.read()
