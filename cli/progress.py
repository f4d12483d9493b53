"""Progress of backfills: bars in a terminal, plain lines elsewhere. The unit is pull requests per hour."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cli.sentences import condition, count, moment
from cli.stack import InvocationFailed
from cli.statuses import is_trouble
from cli.tables import LEAST_NAME, budget, counted, cut, rate

Row = dict[str, Any]

# A person reads no more lines than this: the others are counted.
MOST_LINES = 20
BAR = 20
# Lines on the screen beside the backfills: the sum, completed ones, counts, budget.
OTHER_LINES = 6
# A failed request for the status is repeated, later each time; this many in a row end the command with the reason.
MOST_FAILURES = 5


def watch(fetch: Callable[[], Row], console: Console, *, seconds: float = 1.0) -> Row:
    """Show progress until no backfill is active and no accepted name waits; the last status.

    Raises InvocationFailed after MOST_FAILURES in a row.
    """
    if not console.is_terminal:
        return _watch_plain(fetch, console, max(seconds, 2.0))
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            status = _patiently(fetch, seconds, lambda text: live.update(Text(text), refresh=True))
            live.update(Group(*(Text(line) for line in screen(status, console.width, console.height))), refresh=True)
            if not _goes_on(status):
                return status
            time.sleep(seconds)


def _watch_plain(fetch: Callable[[], Row], console: Console, seconds: float) -> Row:
    before = ""
    while True:
        status = _patiently(fetch, seconds, console.print)
        rows = _notable(status["backfills"]) if _goes_on(status) else status["backfills"]
        lines = [
            *_requested(status),
            *(line(row) for row in rows[:MOST_LINES]),
            counted(status["counts"]),
            budget(status),
        ]
        text = "\n".join(lines)
        if text != before:
            console.print(text, highlight=False, soft_wrap=True, markup=False)
            before = text
        if not _goes_on(status):
            return status
        time.sleep(seconds)


def _patiently(fetch: Callable[[], Row], seconds: float, tell: Callable[[str], object]) -> Row:
    """The status. A passing failure is printed and the request repeated."""
    for failures in range(1, MOST_FAILURES):
        try:
            return fetch()
        except InvocationFailed as failure:
            wait = seconds * 2**failures
            tell(f"cannot read the status, trying again in {wait:.0f} s: {failure}")
            time.sleep(wait)
    return fetch()


def line(row: Row) -> str:
    """One backfill in one line, for files and pipes."""
    text = f"{row['repository']}  {row['processed_prs']:,}/{row['total_prs']:,}  {percent(row)}%"
    text += f"  {rate(row)}/h" if rate(row) else ""
    text += f"  finish {moment(row['estimated_finish'])}" if row.get("estimated_finish") else ""
    return f"{text}  {row['status']}  {row['priority'] or 'normal'}{_failures(row)}  ({condition(row)})"


def percent(row: Row) -> int:
    """Rounded down: 100 only if nothing is missing."""
    return 100 * row["processed_prs"] // row["total_prs"] if row["total_prs"] else 0


def screen(status: Row, width: int, height: int) -> list[str]:
    """The lines of a terminal: trouble first, then active backfills; completed ones in one line."""
    rows = status["backfills"]
    notable = sorted(_notable(rows), key=lambda row: not is_trouble(row))
    most = max(1, min(MOST_LINES, (height - OTHER_LINES) // 2))
    names = [row["repository"] for row in notable[:most]]
    name_width = max([len("all"), *(len(name) for name in names)])
    name_width = min(name_width, max(LEAST_NAME, width - _figures_width(rows)))
    lines = list(_requested(status))
    for row in notable[:most]:
        lines += _backfill(row, name_width, width)
    if len(notable) > most:
        lines.append(f"and {len(notable) - most:,} more: backfill status")
    quiet = [row for row in rows if row not in notable]
    if quiet:
        total = sum(row["total_prs"] for row in quiet)
        lines.append(f"{len(quiet):,} completed: {count(total, 'pull request')}")
    if len(rows) > 1:
        lines.append(_figures(_sum_of(rows), "all", name_width))
    return [*lines, *_wrapped(counted(status["counts"]), width), *_wrapped(budget(status), width)]


def _figures_width(rows: Sequence[Row]) -> int:
    return max((len(_figures(row, "", 0)) for row in (*rows, _sum_of(rows))), default=0)


def _backfill(row: Row, name_width: int, width: int) -> list[str]:
    """Bar and figures; below them the reason if the backfill does not simply work."""
    lines = [_figures(row, row["repository"], name_width)]
    if row["condition"].get("kind") != "working" or row["failed_prs"]:
        lines += textwrap.wrap(condition(row) + _failures(row), width, initial_indent="  ", subsequent_indent="  ")
    return lines


def _figures(row: Row, name: str, name_width: int) -> str:
    """Name, bar, percent, count, rate and finish."""
    filled = BAR * row["processed_prs"] // row["total_prs"] if row["total_prs"] else 0
    shown = cut(name, name_width)
    speed = f"{rate(row)}/h" if rate(row) else ""
    finish = moment(row["estimated_finish"]) if row.get("estimated_finish") else ""
    bar = "█" * filled + "░" * (BAR - filled)
    figures = f"{bar} {percent(row):3}% {row['processed_prs']:,}/{row['total_prs']:,} {speed} {finish}"
    return f"{shown.ljust(name_width)} {figures}".rstrip()


def _sum_of(rows: Sequence[Row]) -> Row:
    """The sum of the rows. Its rate is that of all identities together."""
    finishes = [row["estimated_finish"] for row in rows if row.get("estimated_finish")]
    active = [row for row in rows if row["status"] == "active"]
    return {
        "processed_prs": sum(row["processed_prs"] for row in rows),
        "total_prs": sum(row["total_prs"] for row in rows),
        "prs_per_hour": sum(row["prs_per_hour"] or 0 for row in active),
        "status": "active" if active else "completed",
        "estimated_finish": max(finishes, default=None),
    }


def _notable(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["status"] != "completed" or is_trouble(row)]


def _failures(row: Row) -> str:
    return f"  {row['failed_prs']:,} failed" if row["failed_prs"] else ""


def _requested(status: Row) -> list[str]:
    return [f"{each['repository']} is not a backfill yet: {each['reason']}" for each in status.get("requested", ())][
        :MOST_LINES
    ]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width)


def _goes_on(status: Row) -> bool:
    """Whether a backfill is active, or GitHub has not answered for an accepted name."""
    waits = any(not each["is_refused"] for each in status.get("requested", ()))
    return waits or any(row["status"] == "active" for row in status["backfills"])
