"""The table as HTML. The template escapes everything by itself (Jinja's autoescape); nothing here makes markup."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from backfill.overview import Condition, Kind
from backfill.widget.contract import STATES, View, sibling

Row = dict[str, Any]

# What needs somebody comes first.
_ORDER = (Kind.TROUBLE, Kind.WAITING, Kind.WORKING, Kind.RESTING, Kind.DONE)
_PRIORITIES = ("high", "normal", "low")
# Narrower than this, a backfill is a card instead of a row.
NARROW_WIDTH = 860
# Fewer backfills than this need no filter.
FILTER_FROM = 8
LONGEST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Action:
    """A button: what it says, what it asks before it acts, and the event for the console function."""

    label: str
    confirmation: str
    event: Row
    chosen: bool = False


def render(seen: Mapping[str, Any], view: View, *, function_arn: str, now: datetime, notice: str = "") -> str:
    """The widget's HTML for an ``overview``. ``notice`` tells what an action did."""
    rows = sorted(
        seen["backfills"],
        key=lambda row: (
            _ORDER.index(row["condition"].kind),
            _PRIORITIES.index(row["priority"] or "normal"),
            row["repository"],
        ),
    )
    shown = [row for row in rows if _wanted(row, view)]
    pages = max(1, math.ceil(len(shown) / view.rows))
    page = min(view.page, pages)
    begin = (page - 1) * view.rows
    return _template().render(
        view=view,
        narrow=view.width < NARROW_WIDTH,
        widget_arn=sibling(function_arn, "widget"),
        console_arn=sibling(function_arn, "console"),
        notice=notice or _requested(seen.get("requested", ())),
        summary=_summary(rows, seen, view),
        kinds=Counter(row["condition"].kind for row in rows),
        states=STATES,
        filtered=len(rows) >= FILTER_FROM or bool(view.filter or view.state),
        total=len(rows),
        tracked=sum(seen["counts"].values()),
        matching=len(shown),
        page=page,
        pages=pages,
        first=begin + 1,
        rows=[_line(row, view, now) for row in shown[begin : begin + view.rows]],
        updated=_clock(now, view),
    )


def _requested(names: Sequence[Mapping[str, Any]]) -> str:
    """Names that are accepted and no backfill yet: the oldest one's reason, and how many more there are."""
    if not names:
        return ""
    more = f" ({len(names) - 1:,} more: backfill status)" if len(names) > 1 else ""
    reason = (names[0]["reason"] or "GitHub has not answered yet")[:LONGEST_ERROR]
    return f"{names[0]['repository']} is not a backfill yet: {reason}{more}"


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def _wanted(row: Row, view: View) -> bool:
    condition: Condition = row["condition"]
    return view.filter.lower() in row["repository"].lower() and view.state in ("", condition.kind)


def _summary(rows: list[Row], seen: Mapping[str, Any], view: View) -> Row:
    """The figures above the table, of all backfills whatever is filtered."""
    total, done = sum(row["total_prs"] for row in rows), sum(row["processed_prs"] for row in rows)
    rate = sum(row["prs_per_hour"] or 0 for row in rows if row["status"] == "active")
    left = sum(row["total_prs"] - row["processed_prs"] for row in rows if row["status"] == "active")
    budget = seen["budget"]
    return {
        "total": total,
        "done": done,
        "percent": _percent(done, total),
        "rate": round(rate),
        "left": left,
        "paused": any(row["status"] == "paused" for row in rows),
        # They share one budget: what is left of all, at the rate of all.
        "finish": _span(3600 * left / rate) if left and rate else None,
        "budget": budget if budget and budget["remaining"] is not None else None,
        "reset": f"{budget['reset_at'].astimezone(view.zone):%H:%M}" if budget and budget["reset_at"] else None,
        "dead_letters": seen["dead_letters"],
    }


def _line(row: Row, view: View, now: datetime) -> Row:
    """One backfill, in the words of the page."""
    condition: Condition = row["condition"]
    finish = row["estimated_finish"]
    failed = _percent(row["failed_prs"], row["total_prs"])
    return {
        "id": row["backfill_id"],
        "repository": row["repository"],
        "priority": row["priority"] or "normal",
        "kind": condition.kind,
        "state": condition.words,
        "why": condition.why[:LONGEST_ERROR],
        "done": row["processed_prs"],
        "total": row["total_prs"],
        "failed": row["failed_prs"],
        "percent": _percent(row["processed_prs"], row["total_prs"]),
        "failed_percent": failed,
        "rate": round(row["prs_per_hour"] or 0),
        "active": row["status"] == "active",
        "finish": _span((finish - now).total_seconds()) if finish else None,
        "finish_at": _clock(finish, view) if finish else None,
        "error": (row["last_error"] or "")[:LONGEST_ERROR],
        "error_age": _span((now - row["last_error_at"]).total_seconds()) if row["last_error_at"] else None,
        "actions": list(_actions(row)) if view.actions else [],
        "priorities": list(_priorities(row)) if view.actions and row["status"] != "completed" else [],
    }


def _actions(row: Row) -> Iterable[Action]:
    name = row["repository"]
    if row["status"] == "active":
        yield Action(
            "Pause",
            f"Pause {name}? No more of its chunks are sent; those in work finish. It stays paused until it is resumed.",
            {"action": "pause", "repository": name},
        )
    elif row["status"] == "paused":
        yield Action("Resume", f"Resume {name}?", {"action": "resume", "repository": name})
    if row["failed_prs"]:
        yield Action(
            "Retry failed",
            f"Try the {row['failed_prs']:,} failed pull requests of {name} again? If it is paused, it is resumed.",
            {"action": "resume", "repository": name, "retry_failed": True},
        )


def _priorities(row: Row) -> Iterable[Action]:
    for priority in _PRIORITIES:
        yield Action(
            priority.capitalize(),
            f"Give {row['repository']} {priority} priority?",
            {"action": "priority", "repository": row["repository"], "priority": priority},
            chosen=priority == (row["priority"] or "normal"),
        )


def _percent(part: float, whole: float) -> float:
    """0 to 100 with one decimal; 100.0 only if nothing is missing."""
    if not whole:
        return 0.0
    return math.floor(1000 * min(part, whole) / whole) / 10


def _span(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> [_span(each) for each in (-5, 8, 75, 7380, 200000)]
    ['0 s', '8 s', '1 min', '2 h 3 min', '2 d 7 h']
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def _clock(moment: datetime, view: View) -> str:
    return f"{moment.astimezone(view.zone):%Y-%m-%d %H:%M} {view.zone_label}"
