"""Progress of backfills on a terminal as bars, elsewhere as plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.tables import budget, condition

Status = dict[str, Any]

# More bars than this are not read any more: the others show in the line of all.
MOST_BARS = 20


def line(row: dict[str, Any], speed: float) -> str:
    """One backfill in one line; ``speed`` in pull requests per second."""
    text = f"{row['repository']}  {row['processed_prs']}/{row['total_prs']}  {row['status']}  {row['priority']}"
    text += f"  {speed:.1f} PRs/s" + (f"  {row['failed_prs']} failed" if row["failed_prs"] else "")
    return f"{text}  ({condition(row)})"


def watch(fetch: Callable[[], Status], console: Console, *, seconds: float = 1.0) -> Status:
    """Show progress until no backfill is active; the last status."""
    speeds = _Speeds()
    if not console.is_terminal:
        return _watch_plain(fetch, console, speeds, seconds)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        everything = bars.add_task("all", total=None, note="")
        tasks: dict[str, TaskID] = {}
        while True:
            status = fetch()
            rows = status["backfills"]
            for row in rows:
                name = row["repository"]
                if name not in tasks and len(tasks) < MOST_BARS:
                    tasks[name] = bars.add_task(name, total=None, note="")
                if name in tasks:
                    text = f"{row['status']}  {speeds.of(row):.1f} PRs/s  {condition(row)}"
                    bars.update(tasks[name], total=row["total_prs"] or None, completed=row["processed_prs"], note=text)
            done, total = (sum(row[field] for row in rows) for field in ("processed_prs", "total_prs"))
            bars.update(everything, total=total or None, completed=done, note=f"{_counted(status)}  {budget(status)}")
            if not _active(rows):
                return status
            time.sleep(seconds)


def _watch_plain(fetch: Callable[[], Status], console: Console, speeds: _Speeds, seconds: float) -> Status:
    before = ""
    while True:
        status = fetch()
        rows = status["backfills"]
        lines = [line(row, speeds.of(row)) for row in rows if row["status"] != "completed"][:MOST_BARS]
        if not _active(rows):
            lines = [line(row, 0.0) for row in rows[:MOST_BARS]]
        text = "\n".join([*lines, _counted(status), budget(status)])
        if text != before:
            console.print(text, highlight=False, soft_wrap=True, markup=False)
            before = text
        if not _active(rows):
            return status
        time.sleep(max(seconds, 2.0))


def _active(rows: list[dict[str, Any]]) -> bool:
    return any(row["status"] == "active" for row in rows)


def _counted(status: Status) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in status["counts"].items())


class _Speeds:
    """Pull requests per second since the last look, smoothed."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int, float]] = {}

    def of(self, row: dict[str, Any]) -> float:
        now, done = time.monotonic(), row["processed_prs"]
        then, before, speed = self._last.get(row["repository"], (now, done, 0.0))
        if now > then:
            speed = 0.6 * speed + 0.4 * max(0, done - before) / (now - then)
        self._last[row["repository"]] = (now, done, speed)
        return float(speed)
