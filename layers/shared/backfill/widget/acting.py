"""A button of the widget: the action, and the widget again with what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backfill.console import Console
from backfill.errors import BackfillError, ContractViolation
from backfill.observability import event as log
from backfill.store import backfills
from backfill.widget.contract import View, view
from backfill.widget.letters import letters
from backfill.widget.page import show, show_letters
from backfill.widget.words import counted, listed

Answer = Mapping[str, Any]

# What the page has buttons for, and what each says. Everything else is for the command line.
ACTIONS = {
    "pause": ("repository",),
    "resume": ("repository", "retry_failed"),
    "priority": ("repository", "priority"),
    "plan": ("repository",),
    "add": ("repositories",),
    "sync": ("repository", "pr_numbers"),
    "dead_letters": (),
    "redrive": (),
    "discard": ("message_ids",),
}
# After these the viewer looks at the dead letters.
OF_LETTERS = ("dead_letters", "redrive", "discard")


def act_and_show(console: Console, event: Mapping[str, Any], function_arn: str) -> str:
    """The widget's HTML after the action. A refusal is told on the page: CloudWatch shows nothing of an exception."""
    action = event.get("action")
    seen = view(event)
    try:
        notice = _act(console, event)
    except BackfillError as refusal:
        notice = f"Not done: {refusal}"
    if action in OF_LETTERS:
        return _show_letters(console, seen, function_arn, notice)
    return show(console.db, console.queues, seen, function_arn, notice)


def _show_letters(console: Console, seen: View, function_arn: str, notice: str) -> str:
    found = letters(console.act({"action": "dead_letters"}), backfills.now(console.db))
    return show_letters(found, seen, function_arn, notice)


def _act(console: Console, event: Mapping[str, Any]) -> str:
    action = event.get("action")
    if action not in ACTIONS:
        raise ContractViolation("action", f"must be one of {', '.join(ACTIONS)}")
    if action == "dead_letters":
        return ""
    # The rest of the event is about the view.
    asked = {"action": action, **{field: event[field] for field in ACTIONS[action] if field in event}}
    answer = console.act(asked)
    log("an operator acted", action=action, repository=event.get("repository"))
    return _TOLD[action](asked, answer)


def _resumed(asked: Answer, answer: Answer) -> str:
    retried = counted(answer["retried"], "failed pull request")
    return f"{asked['repository']} is {answer['status']}" + (
        f"; {retried} will be tried again" if asked.get("retry_failed") else ""
    )


def _added(_: Answer, answer: Answer) -> str:
    """What became of each name; names with the same fate are told together."""
    fates: dict[str, list[str]] = {}
    for row in answer["repositories"]:
        if "error" in row:
            fate = f"not added, {row['error']}"
        elif "waits" in row:
            fate = f"accepted, waits for GitHub ({row['waits']})"
        elif "paused" in row:
            fate = f"added and paused: {row['paused']}"
        else:
            fate = "added" if row["created"] else "tracked already"
        fates.setdefault(fate, []).append(row["repository"])
    return "; ".join(f"{listed(names)}: {fate}" for fate, names in fates.items())


def _synced(asked: Answer, answer: Answer) -> str:
    words = f"A worker reads {counted(answer['requested'], 'pull request')} of {asked['repository']} again"
    if "missing" in answer:
        words += f"; GitHub has no pull request {listed([f'#{number}' for number in answer['missing']])}"
    return words + (f"; waits: {answer['waits']}" if "waits" in answer else "")


def _redriven(_: Answer, answer: Answer) -> str:
    hidden = f"; {answer['hidden']:,} are in other hands" if answer["hidden"] else ""
    return f"{counted(answer['redriven'], 'dead letter')} sent again{hidden}"


def _discarded(_: Answer, answer: Answer) -> str:
    missing = f"; {len(answer['missing']):,} were gone or in other hands" if answer["missing"] else ""
    return f"{counted(answer['discarded'], 'dead letter')} discarded{missing}"


_TOLD: Mapping[str, Callable[[Answer, Answer], str]] = {
    "pause": lambda asked, answer: (
        f"{asked['repository']} is paused" if answer["paused"] else f"{asked['repository']} was paused already"
    ),
    "resume": _resumed,
    "priority": lambda asked, answer: f"{asked['repository']} has {answer['priority']} priority",
    "plan": lambda asked, _: f"The planner was asked to plan {asked.get('repository', 'all active backfills')}",
    "add": _added,
    "sync": _synced,
    "redrive": _redriven,
    "discard": _discarded,
}
