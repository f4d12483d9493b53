"""Buttons: what each says, what it asks before it acts, and the event that it sends to the console function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backfill.widget.words import counted

PRIORITIES = ("high", "normal", "low")


@dataclass(frozen=True, slots=True)
class Action:
    """``name`` tells the button from others with its label, to people who hear the page. Without a ``confirmation`` it acts at
    once. ``chosen``: of several, this one holds now."""

    label: str
    confirmation: str
    event: Mapping[str, Any]
    name: str = ""
    chosen: bool = False


PLAN_ALL = Action(
    "Plan now",
    "Plan all active backfills now? The planner does so by itself, at each heartbeat and whenever few chunks are left.",
    {"action": "plan"},
)
DEAD_LETTERS = Action("List dead letters", "", {"action": "dead_letters"})


def of_backfill(name: str, status: str, failed_prs: int) -> Iterable[Action]:
    """What can be done about a backfill in this state."""
    if status == "active":
        yield _named(
            "Pause",
            name,
            f"Pause {name}? No more of its chunks are sent; those in work finish. It stays paused until you resume it.",
            {"action": "pause"},
        )
    elif status == "paused":
        yield _named("Resume", name, f"Resume {name}?", {"action": "resume"})
    if failed_prs:
        again = counted(failed_prs, "failed pull request")
        yield _named(
            "Retry failed",
            name,
            f"Try {again} of {name} again? If it is paused, it is resumed.",
            {"action": "resume", "retry_failed": True},
        )


def plan(name: str) -> Action:
    """Plan one backfill."""
    return _named(
        "Plan now", name, f"Plan {name} now? The planner looks for changes and cuts chunks.", {"action": "plan"}
    )


def priorities(name: str, present: str) -> Iterable[Action]:
    """A choice of three."""
    for priority in PRIORITIES:
        yield Action(
            priority.capitalize(),
            f"Give {name} {priority} priority?",
            {"action": "priority", "repository": name, "priority": priority},
            name=f"{priority.capitalize()} priority for {name}",
            chosen=priority == present,
        )


def of_letters(ids: list[str]) -> Iterable[Action]:
    """What can be done about all dead letters that are shown."""
    if not ids:
        return
    letters = counted(len(ids), "dead letter")
    yield Action(
        "Redrive all",
        f"Send every dead letter again ({len(ids):,} are shown), each to the queue that it comes from?",
        {"action": "redrive"},
    )
    yield Action(
        f"Discard {letters}",
        f"Discard {letters}? They are deleted, and each leaves a line in the log.",
        {"action": "discard", "message_ids": ids},
    )


def discard(message_id: str) -> Action:
    """Delete one dead letter."""
    return Action(
        "Discard",
        f"Discard dead letter {message_id}? It is deleted, and leaves a line in the log.",
        {"action": "discard", "message_ids": [message_id]},
        name=f"Discard dead letter {message_id}",
    )


def _named(label: str, name: str, confirmation: str, event: Mapping[str, Any]) -> Action:
    return Action(label, confirmation, {**event, "repository": name}, name=f"{label} {name}")
