"""What an operator does: add, watch, pause, resume, set the priority, find gaps, sync, look at dead letters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from backfill.errors import ContractViolation
from backfill.github.client import GitHub
from backfill.overview import overview
from backfill.queues import Queues
from backfill.store import backfills, pull_requests, repositories
from backfill.store.connection import Database

Row = dict[str, Any]
PRIORITIES = ("high", "normal", "low")
ACTIONS = ("add", "status", "pause", "resume", "priority", "gaps", "sync", "dead_letters", "redrive")


@dataclass(frozen=True, slots=True)
class Operator:
    """One action per call; every answer is plain JSON."""

    db: Database
    github: GitHub
    queues: Queues

    def act(self, event: Mapping[str, Any]) -> Row:
        """Run ``event["action"]``. Raises ContractViolation for what it does not understand."""
        action = event.get("action")
        if action not in ACTIONS:
            raise ContractViolation("action", f"must be one of {', '.join(ACTIONS)}")
        answer = getattr(self, f"_{action}")(event)
        return {"ok": True, **_plain(answer)}

    def _add(self, event: Mapping[str, Any]) -> Row:
        owner, name = _full_name(event)
        chunk_size = event.get("chunk_size")
        if chunk_size is not None and not (isinstance(chunk_size, int) and 1 <= chunk_size <= 100):
            raise ContractViolation("chunk_size", "must be a whole number from 1 to 100")
        metadata = {}
        if event.get("priority") is not None:
            metadata["priority"] = _priority(event)
        if event.get("oldest_first"):
            metadata["order"] = "oldest_first"
        row, total = self.github.repository(owner, name)
        repository = repositories.upsert(self.db, row)
        backfill = backfills.add(self.db, repository["id"], total_prs=total, chunk_size=chunk_size, metadata=metadata)
        self.queues.request_plan(repository["id"])
        return {
            "repository": f"{repository['owner']}/{repository['name']}",
            "repository_id": repository["id"],
            "created": backfill["created"],
            "total_prs": backfill["total_prs"],
        }

    def _status(self, event: Mapping[str, Any]) -> Row:
        only = self._tracked(event)["repository_id"] if event.get("repository") else None
        seen = overview(self.db, self.queues, only)
        for row in seen["backfills"]:
            row["stored"] = backfills.stored(self.db, row["repository_id"])
            row["chunks"] = {name: row.pop(name) for name in ("pending", "processing", "failed", "expired_leases")}
            row["condition"] = asdict(row["condition"])
        return seen

    def _pause(self, event: Mapping[str, Any]) -> Row:
        backfill = self._tracked(event)
        return {"paused": backfills.pause(self.db, backfill["id"], "manual", minutes=None)}

    def _resume(self, event: Mapping[str, Any]) -> Row:
        backfill = self._tracked(event)
        retried = pull_requests.retry_failed(self.db, backfill["repository_id"]) if event.get("retry_failed") else 0
        backfills.resume(self.db, backfill["id"])
        self.queues.request_plan(backfill["repository_id"])
        return {"resumed": True, "retried": retried}

    def _priority(self, event: Mapping[str, Any]) -> Row:
        backfill = self._tracked(event)
        backfills.set_priority(self.db, backfill["id"], _priority(event))
        return {"priority": _priority(event)}

    def _gaps(self, event: Mapping[str, Any]) -> Row:
        backfill = self._tracked(event)
        found = self.db.rows(
            "SELECT number, reason, error_code, error FROM pull_request_gaps"
            " WHERE repository_id = CAST(:id AS uuid) ORDER BY number LIMIT 10000",
            id=backfill["repository_id"],
        )
        return {"gaps": found}

    def _sync(self, event: Mapping[str, Any]) -> Row:
        self._tracked(event)
        numbers = event.get("pr_numbers")
        if not isinstance(numbers, list) or not 1 <= len(numbers) <= 500:
            raise ContractViolation("pr_numbers", "must be 1 to 500 numbers")
        body = {"schema_version": 1, "repository": event["repository"], "pr_numbers": numbers}
        self.queues.send_body(json.dumps(body))
        return {"requested": len(numbers)}

    def _dead_letters(self, event: Mapping[str, Any]) -> Row:
        letters = self.queues.dead_letters(100)
        return {"dead_letters": [{"message_id": each.message_id, "body": each.body} for each in letters]}

    def _redrive(self, event: Mapping[str, Any]) -> Row:
        """Send every dead letter to the chunk queue again; each is deleted only after it was sent."""
        letters = self.queues.dead_letters(500)
        for letter in letters:
            self.queues.send_body(letter.body)
            self.queues.delete_dead_letter(letter)
        return {"redriven": len(letters)}

    def _tracked(self, event: Mapping[str, Any]) -> Row:
        owner, name = _full_name(event)
        repository = repositories.find(self.db, owner, name)
        backfill = backfills.of_repository(self.db, repository["id"]) if repository else None
        if backfill is None:
            raise ContractViolation("repository", f"{owner}/{name} is not tracked; run: backfill add {owner}/{name}")
        return backfill


def _full_name(event: Mapping[str, Any]) -> tuple[str, str]:
    text = event.get("repository")
    if not isinstance(text, str) or text.count("/") != 1 or not all(text.split("/")):
        raise ContractViolation("repository", "must be OWNER/NAME")
    owner, name = text.split("/")
    return owner, name


def _priority(event: Mapping[str, Any]) -> str:
    priority = event.get("priority")
    if priority not in PRIORITIES:
        raise ContractViolation("priority", f"must be one of {', '.join(PRIORITIES)}")
    return str(priority)


def _plain(value: Any) -> Any:
    """As JSON takes it: times in ISO 8601, numerics as numbers, uuids as text."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
