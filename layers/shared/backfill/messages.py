"""Events and messages: validated against schemas/*.json, then frozen values. A bad one names its field and its rule.

The messages that the product sends are written here too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from backfill.errors import ContractViolation
from backfill.model import Dispatch

_SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """What a planner run plans. Without a field: every active backfill, with its own settings."""

    repository_id: str | None = None
    repository: str | None = None
    chunk_size: int | None = None
    max_chunks: int | None = None
    dry_run: bool = False
    # From the plan queue: a follow-up of an earlier run, or published by a person.
    is_message: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class RecoveryEvent:
    """``stuck_threshold`` in minutes, ``cleanup_days`` in days."""

    stuck_threshold: int = 30
    cleanup_days: int = 7
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A chunk message that a person published."""

    repository: str
    pr_numbers: tuple[int, ...]


def planner_event(event: Mapping[str, Any]) -> PlanEvent:
    """The event of a direct invocation, of a schedule, or of a message of the plan queue."""
    fields = _fields("planner_event", event)
    fields.pop("schema_version", None)
    return PlanEvent(**fields)


def recovery_event(event: Mapping[str, Any]) -> RecoveryEvent:
    """The event of a direct invocation or of a schedule."""
    fields = _fields("recovery_event", event)
    return RecoveryEvent(**fields)


def console_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an operator asks for: ``action``, and the fields that it needs."""
    return _fields("console_event", event)


def chunk_message(body: str) -> Dispatch | SyncRequest:
    """A message of the chunk queue. Numbers are made unique and sorted."""
    fields = _fields("chunk_message", parse(body))
    if "chunk_id" in fields:
        return Dispatch(fields["chunk_id"], fields["dispatch_id"])
    return SyncRequest(fields["repository"], tuple(sorted(set(fields["pr_numbers"]))))


def dispatch_body(dispatch: Dispatch) -> str:
    """The chunk message of a dispatch."""
    return json.dumps({"schema_version": 1, "chunk_id": dispatch.chunk_id, "dispatch_id": dispatch.dispatch_id})


def sync_body(repository: str, pr_numbers: Sequence[int]) -> str:
    """The chunk message of a sync request."""
    return json.dumps({"schema_version": 1, "repository": repository, "pr_numbers": list(pr_numbers)})


def plan_message(body: str) -> PlanEvent:
    """A message of the plan queue."""
    return replace(planner_event(parse(body)), is_message=True)


def plan_request(body: str) -> PlanEvent | None:
    """The plan request in a dead letter; None if it is not one. Messages of the chunk queue do not match the schema."""
    try:
        return plan_message(body)
    except ContractViolation:
        return None


def plan_body(repository_id: str | None) -> str:
    """The plan message for one repository, or for all."""
    return json.dumps({"schema_version": 1, **({"repository_id": repository_id} if repository_id else {})})


def parse(body: str) -> dict[str, Any]:
    """The JSON object of a message body."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ContractViolation("body", f"must be JSON ({str(error)[:100]})") from None
    if not isinstance(fields, dict):
        raise ContractViolation("body", "must be a JSON object")
    return fields


def _fields(name: str, event: Any) -> dict[str, Any]:
    """The fields of an event or a message, checked by the schema. A schedule's own fields are ignored."""
    from jsonschema import exceptions

    if not isinstance(event, Mapping):
        raise ContractViolation("event", "must be a JSON object")
    fields = {} if event.get("source") == "aws.scheduler" or "detail-type" in event else dict(event)
    error = exceptions.best_match(_validator(name).iter_errors(fields))
    if error is None:
        return {key: _whole(value) for key, value in fields.items()}
    field = (".".join(str(step) for step in error.absolute_path) or "event")[:100]
    if error.validator == "oneOf":
        raise ContractViolation(field, "must have either chunk_id and dispatch_id, or repository and pr_numbers")
    raise ContractViolation(field, error.message[:300])


def _whole(value: Any) -> Any:
    """JSON Schema accepts 25.0 as an integer; Postgres does not."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def _validator(name: str) -> Any:
    # The import of jsonschema takes a tenth of a second, so it waits for a message.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads((_SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))
