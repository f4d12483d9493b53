"""The status for the commands: all its pages, of some repositories or of all, and whether something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Ask = Callable[[Row], Row]


def whole(ask: Ask, names: Sequence[str] = ()) -> Row:
    """The status of the repositories named, in that order, or of all; ``ask`` sends an event to the console function.

    ``unknown`` are names that are not tracked.
    """
    if len(names) == 1:
        return _of_one(ask({"action": "status", "repository": names[0]}))
    answer = page = ask({"action": "status", "paged": True})
    while page.get("more"):
        page = ask({"action": "status", "paged": True, "after_id": page["after_id"]})
        answer["backfills"] += page["backfills"]
    for field in ("more", "after_id"):
        answer.pop(field, None)
    answer["backfills"].sort(key=lambda row: row.get("last_processed_at") or "", reverse=True)
    answer["backfills"].sort(key=lambda row: ("active", "paused", "completed").index(row["status"]))
    return _only(answer, names) if names else answer


def _of_one(answer: Row) -> Row:
    for field in ("more", "after_id"):
        answer.pop(field, None)
    return answer


def _only(answer: Row, names: Sequence[str]) -> Row:
    """The named repositories, in the order given. A former name is found only by asking for it alone."""
    wanted = [name.lower() for name in names]
    rows = {row["repository"].lower(): row for row in answer["backfills"]}
    requested = [each for each in answer.get("requested", ()) if each["repository"].lower() in wanted]
    known = rows.keys() | {each["repository"].lower() for each in requested}
    return {
        **answer,
        "backfills": [rows[name] for name in wanted if name in rows],
        "requested": requested,
        "organisations": [],
        "unknown": [name for name in names if name.lower() not in known],
    }


def is_trouble(row: Row) -> bool:
    """Whether a backfill needs a person."""
    return row["condition"].get("kind") == "trouble" or bool(row["failed_prs"])


def is_healthy(answer: Row, *, everything: bool) -> bool:
    """True without backfills in trouble and refused names and, for ``everything``, without dead letters."""
    if any(is_trouble(row) for row in answer["backfills"]):
        return False
    if any(each["is_refused"] for each in (*answer.get("requested", ()), *answer.get("organisations", ()))):
        return False
    return not (everything and answer.get("dead_letters"))
