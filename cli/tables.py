"""Answers as tables for people: backfills, forecasts, chunks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from cli import organisations
from cli.sentences import condition, count, moment
from cli.statuses import is_trouble

Row = dict[str, Any]

# More completed backfills than this are only counted, unless --all is given.
MOST_COMPLETED = 20
# Least width of a readable last column of text; with less the text gets its own line.
LEAST_TEXT = 30
GAP = "  "
# Characters of a name that every terminal shows.
LEAST_NAME = 12
# The width of a file or a pipe.
NO_END = 1_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """A narrow terminal drops ``spare`` columns, the last first; the text names their values if ``told``."""

    heading: str
    of_numbers: bool = False
    spare: bool = False
    told: bool = True


def status(out: Console, answer: Row, *, everything: bool) -> None:
    """Print a line per backfill, active ones first. Many completed ones become a number; trouble is always shown."""
    rows, counts = answer["backfills"], answer["counts"]
    for each in answer.get("requested", ()):
        again = "not asked for any more" if each["given_up_at"] else f"asked again at {moment(each['ask_at'])}"
        out.print(f"{each['repository']} is not a backfill yet, {again}: {each['reason']}", markup=False)
    for each in answer.get("organisations", ()):
        out.print(organisations.short(each), markup=False)
    if not rows:
        if answer.get("organisations"):
            return
        if not answer.get("requested") and not answer.get("unknown"):
            out.print("Nothing is tracked yet; begin with: backfill add OWNER/NAME")
        return
    hidden = 0
    if not everything and sum(row["status"] == "completed" for row in rows) > MOST_COMPLETED:
        shown = [row for row in rows if row["status"] != "completed" or is_trouble(row)]
        hidden, rows = len(rows) - len(shown), shown
    if rows:
        _show(out, _STATUS, [_status_cells(row) for row in rows])
    if hidden:
        out.print(
            f"{count(hidden, 'completed backfill')} {'is' if hidden == 1 else 'are'} not shown: backfill status --all"
        )
    out.print(counted(counts))
    out.print(budget(answer))
    if counts["completed"] and "checks" in answer:
        out.print(checks(answer["checks"]))
    for each in answer.get("advice", ()):
        out.print(f"{each['identity']}: {each['advice']}")


_STATUS = (
    Column("repository"),
    Column("pull requests", of_numbers=True),
    Column("%", of_numbers=True),
    Column("per hour", of_numbers=True),
    Column("finish"),
    Column("priority", spare=True),
    Column("failed", of_numbers=True, spare=True),
    Column("incomplete", of_numbers=True, spare=True),
    Column("points", of_numbers=True, spare=True, told=False),
    Column("status"),
)


def _status_cells(row: Row) -> tuple[str, ...]:
    return (
        row["repository"],
        f"{row['processed_prs']:,} of {row['total_prs']:,}",
        str(int(row["percent"] or 0)),
        rate(row),
        moment(row["estimated_finish"]) if row["estimated_finish"] else "",
        row["priority"] or "normal",
        f"{row['failed_prs']:,}" if row["failed_prs"] else "",
        f"{row['incomplete_prs']:,}" if row.get("incomplete_prs") else "",
        f"{row['points_spent']:,}",
        condition(row),
    )


def rate(row: Row) -> str:
    """Pull requests per hour, over the last hour; empty unless the backfill is active."""
    return f"{row['prs_per_hour'] or 0:,.0f}" if row["status"] == "active" else ""


def counted(counts: dict[str, int]) -> str:
    """The number of backfills in each status."""
    return ", ".join(f"{counts[name]:,} {name}" for name in ("active", "paused", "completed"))


def budget(answer: Row) -> str:
    """GitHub's last reported budget of all identities, and the number of dead letters if there are any."""
    letters = answer.get("dead_letters", 0)
    told = [each for each in answer.get("budgets", []) if each["remaining"] is not None]
    text = "GitHub budget: not reported yet"
    if told:
        left, most = (sum(each[name] for each in told) for name in ("remaining", "limit"))
        text = f"GitHub budget: {left:,} of {most:,} points left"
        one = told[0]["reset_at"] if len(told) == 1 else None
        text += f", reset {moment(one)}" if one else ""
        text += f" of {len(told)} identities" if len(told) > 1 else ""
    waiting = [each["account"] or each["identity"] for each in told if each["waits_until"]] if len(told) > 1 else []
    text += f"; waiting: {', '.join(waiting)}" if waiting else ""
    return f"{text}. {count(letters, 'dead letter')}: backfill dead-letters list" if letters else text


def checks(found: Row) -> str:
    """What the next heartbeat has to check, and what checks took."""
    late = f", the oldest for {_duration(found['late_seconds'])}" if found["due"] else ""
    points = count(found["points"], "point")
    return f"Checks for changes: {count(found['due'], 'repository', 'repositories')} due{late}; {points} in this hour"


def chunks(out: Console, rows: Sequence[Row]) -> None:
    """Print a line per chunk."""
    _show(out, _CHUNKS, [_chunk_cells(row) for row in rows])


_CHUNKS = (
    Column("chunk", of_numbers=True),
    Column("status"),
    Column("pull requests", of_numbers=True),
    Column("attempts", of_numbers=True),
    Column("started"),
    Column("completed", spare=True, told=False),
    Column("why"),
)


def _chunk_cells(row: Row) -> tuple[str, ...]:
    why = f"{row['error_code']}: {row['error']}" if row["error_code"] else row["error"] or ""
    return (
        f"{row['chunk_number']:,}",
        row["status"],
        f"{row['pull_requests']:,}",
        str(row["attempts"]),
        moment(row["started_at"]) if row["started_at"] else "",
        moment(row["completed_at"]) if row["completed_at"] else "",
        why.splitlines()[0] if why else "",
    )


def forecast(out: Console, answer: Row) -> None:
    """Print the forecast of each repository and the total."""
    cells = [(row["repository"], *_foreseen(row), row["basis"]) for row in answer["backfills"]]
    if len(cells) != 1:
        cells.append(("all", *_foreseen(answer["total"]), ""))
    _show(out, _FORECAST, cells)
    out.print("Nothing was written and nothing was sent. AWS is functions, queues and logs, in US dollars.")
    out.print(budget(answer))


_FORECAST = (
    Column("repository"),
    Column("to list", of_numbers=True),
    Column("to detail", of_numbers=True),
    Column("chunks", of_numbers=True, spare=True, told=False),
    Column("points", of_numbers=True),
    Column("requests", of_numbers=True, spare=True, told=False),
    Column("time", of_numbers=True),
    Column("finish"),
    Column("AWS", of_numbers=True),
    Column("from"),
)


def _foreseen(row: Row) -> tuple[str, ...]:
    return (
        f"{row['pull_requests_to_list']:,}",
        f"{row['pull_requests_to_detail']:,}",
        f"{row['chunks']:,}",
        f"{row['points']:,}",
        f"{row['requests']:,}",
        _duration(row["seconds"]),
        moment(row["finish"]),
        f"{row['aws_usd']:.2f}",
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _show(out: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print within a terminal's width. A file or a pipe gets every value whole."""
    heading, *lines = laid_out(columns, rows, out.width if out.is_terminal else None)
    out.print(Text(heading, style="bold"))
    for line in lines:
        out.print(line, markup=False)


def laid_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The heading and the lines of each row. The last column is text, which wraps within its own margin.

    In a narrow terminal the spare columns go first; then the text moves below its row. The text then names the values
    of the missing columns.
    """
    *fixed, text = columns
    widths = [max(len(each.heading), *(len(row[i]) for row in rows)) for i, each in enumerate(fixed)]
    needed = min(max(len(text.heading), *(len(row[-1]) for row in rows)), LEAST_TEXT)
    kept = list(range(len(fixed)))

    def room() -> int:
        return NO_END if width is None else width - sum(widths[i] + len(GAP) for i in kept)

    spare = [i for i in kept if fixed[i].spare]
    while spare and room() < needed:
        kept.remove(spare.pop())
    # Names that are longer than the room are cut; a pipe gets them whole.
    widths[0] = max(LEAST_NAME, widths[0] + min(0, room() + len(GAP)))
    form = _Form(
        [(i, widths[i], fixed[i].of_numbers) for i in kept], room() if room() >= needed else None, width or NO_END
    )
    gone = [i for i in range(len(fixed)) if i not in kept and fixed[i].told]
    lines = form.lines([each.heading for each in columns])[:1]
    for row in rows:
        told = [_told(fixed[i], row[i]) for i in gone if row[i] not in ("", "normal")]
        lines += form.lines([*row[:-1], ", ".join([*([row[-1]] if row[-1] else []), *told])])
    return lines


def cut(text: str, width: int) -> str:
    """At most so wide.

    >>> cut("kubernetes/kubernetes", 12)
    'kubernetes/…'
    """
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _told(column: Column, value: str) -> str:
    return f"{value} {column.heading}" if column.of_numbers else f"{column.heading} {value}"


@dataclass(frozen=True, slots=True)
class _Form:
    """The cells of a line, and the room beside them for text. With None the text stands below, within ``width``."""

    cells: list[tuple[int, int, bool]]
    room: int | None
    width: int

    def lines(self, row: Sequence[str]) -> list[str]:
        beside = GAP.join(
            row[index].rjust(width) if of_numbers else cut(row[index], width).ljust(width)
            for index, width, of_numbers in self.cells
        )
        if self.room is None:
            below = textwrap.wrap(row[-1], self.width, initial_indent=GAP, subsequent_indent=GAP)
            return [beside.rstrip(), *below]
        first, *rest = textwrap.wrap(row[-1], self.room) or [""]
        indent = " " * (len(beside) + len(GAP))
        return [(beside + GAP + first).rstrip(), *(indent + part for part in rest)]
