"""A button of the widget: the action, and the widget again with what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backfill.console import Console
from backfill.errors import ContractViolation
from backfill.observability import event as log
from backfill.overview import overview
from backfill.store import backfills
from backfill.widget.contract import view
from backfill.widget.page import render

# What the page has buttons for, and what each says; everything else is for the command line.
ACTIONS = {
    "pause": ("action", "repository"),
    "resume": ("action", "repository", "retry_failed"),
    "priority": ("action", "repository", "priority"),
}


def act_and_show(console: Console, event: Mapping[str, Any], function_arn: str) -> str:
    """The widget's HTML after the action. A refusal is told on the page: CloudWatch shows nothing of an exception."""
    try:
        notice = _act(console, event)
    except ContractViolation as violation:
        notice = f"Not done: {violation}"
    seen = overview(console.db, console.queues).as_json()
    now = backfills.now(console.db)
    return render(seen, view(event), function_arn=function_arn, now=now, notice=notice)


def _act(console: Console, event: Mapping[str, Any]) -> str:
    action, name = event.get("action"), event.get("repository")
    if action not in ACTIONS:
        raise ContractViolation("action", f"must be one of {', '.join(ACTIONS)}")
    # The rest of the event is about the view.
    answer = console.act({field: event[field] for field in ACTIONS[action] if field in event})
    log("an operator acted", action=action, repository=name)
    if action == "pause":
        return f"{name} is paused" if answer["paused"] else f"{name} was paused already"
    if action == "priority":
        return f"{name} has {answer['priority']} priority"
    retried = f"; {answer['retried']:,} failed pull requests will be tried again" if event.get("retry_failed") else ""
    return f"{name} is {answer['status']}{retried}"
