"""Progress of backfills on a terminal as bars, elsewhere as plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Status = dict[str, Any]


def line(row: dict[str, Any], speed: float | None = None) -> str:
    """One backfill in one line."""
    rate = f"{speed:.1f} PRs/s" if speed is not None else f"{row['prs_per_hour'] or 0:.0f} PRs/h"
    text = f"{row['repository']}  {row['processed_prs']}/{row['total_prs']}  {row['status']}  {row['priority']}  {rate}"
    if row["failed_prs"]:
        text += f"  {row['failed_prs']} failed"
    if row["status"] == "active" and row["estimated_finish"]:
        text += f"  finish {row['estimated_finish'][:16]}"
    return f"{text}  ({condition_text(row['condition'])})"


def condition_text(condition: dict[str, str]) -> str:
    """The state in the words of docs/operations.md, and why."""
    words = condition["code"].replace("_", " ")
    return f"{words}: {condition['why']}" if condition["why"] else words


def budget_line(status: Status) -> str:
    """GitHub's budget as last reported, and dead letters where there are any."""
    budget, letters = status.get("budget"), status["dead_letters"]
    text = "GitHub budget: not reported yet"
    if budget and budget["remaining"] is not None:
        text = f"GitHub budget: {budget['remaining']} of {budget['limit']} points left, reset {budget['reset_at'][:19]}"
    return f"{text}. {letters} dead letters: backfill dead-letters list" if letters else text


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
        tasks: dict[str, TaskID] = {}
        while True:
            status = fetch()
            for row in status["backfills"]:
                name = row["repository"]
                tasks.setdefault(name, bars.add_task(name, total=None, note="") if name not in tasks else tasks[name])
                note = f"{row['status']}  {speeds.of(row):.1f} PRs/s  {budget_line(status)}"
                bars.update(tasks[name], total=row["total_prs"] or None, completed=row["processed_prs"], note=note)
            if not any(row["status"] == "active" for row in status["backfills"]):
                return status
            time.sleep(seconds)


def _watch_plain(fetch: Callable[[], Status], console: Console, speeds: _Speeds, seconds: float) -> Status:
    before = ""
    while True:
        status = fetch()
        text = "\n".join(line(row, speeds.of(row)) for row in status["backfills"])
        if text != before:
            console.print(f"{text}\n{budget_line(status)}", highlight=False, soft_wrap=True)
            before = text
        if not any(row["status"] == "active" for row in status["backfills"]):
            return status
        time.sleep(max(seconds, 2.0))


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
