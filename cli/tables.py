"""Answers as tables for people: what is tracked, what a dry run foresees, what a planner run did."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]

# More completed backfills than this are only counted, unless all are asked for.
MOST_COMPLETED = 20


def status(out: Console, answer: Row, *, everything: bool) -> None:
    """Every backfill in a line, those in work first; what is completed, and much, as a number."""
    rows, counts = answer["backfills"], answer["counts"]
    for each in answer.get("requested", ()):
        again = "not asked for any more" if each["given_up_at"] else f"asked again at {_minute(each['ask_at'])}"
        out.print(f"{each['repository']} is not a backfill yet, {again}: {each['reason']}", markup=False)
    if not rows and answer.get("requested"):
        return
    if not rows:
        out.print("Nothing is tracked yet; begin with: backfill add OWNER/NAME")
        return
    hidden = 0
    if not everything and sum(row["status"] == "completed" for row in rows) > MOST_COMPLETED:
        shown = [row for row in rows if row["status"] != "completed" or row["condition"].get("kind") == "trouble"]
        hidden, rows = len(rows) - len(shown), shown
    table = _table(
        "repository",
        "priority",
        "+pull requests",
        "+%",
        "+per hour",
        "+failed",
        "+incomplete",
        "+points",
        "finish",
        "status",
    )
    for row in rows:
        table.add_row(
            row["repository"],
            row["priority"] or "normal",
            f"{row['processed_prs']:,} of {row['total_prs']:,}",
            str(int(row["percent"] or 0)),
            f"{row['prs_per_hour'] or 0:,.0f}",
            f"{row['failed_prs']:,}" if row["failed_prs"] else "",
            f"{row['incomplete_prs']:,}" if row.get("incomplete_prs") else "",
            f"{row['points_spent']:,}",
            _minute(row["estimated_finish"]) if row["estimated_finish"] else "",
            condition(row),
        )
    _show(out, table)
    if hidden:
        out.print(f"{counts['completed']:,} completed ones are not shown: backfill status --all")
    unsent = sum(counts.values()) - len(answer["backfills"])
    if unsent > 0 and len(answer["backfills"]) > 1:
        out.print(f"{unsent:,} more are tracked: backfill status --repository OWNER/NAME")
    out.print(f"{counts['active']:,} active, {counts['paused']:,} paused, {counts['completed']:,} completed")
    out.print(budget(answer))
    for each in answer.get("advice", ()):
        out.print(f"{each['identity']}: {each['advice']}")


def condition(row: Row) -> str:
    """The state in the words of docs/operations.md, and why."""
    words, why = row["condition"]["code"].replace("_", " "), row["condition"]["why"]
    return f"{words}: {why}" if why else words


def budget(answer: Row) -> str:
    """GitHub's budget as last reported, and dead letters where there are any."""
    found, letters = answer["budget"], answer.get("dead_letters", 0)
    text = "GitHub budget: not reported yet"
    if found and found["remaining"] is not None:
        text = f"GitHub budget: {found['remaining']:,} of {found['limit']:,} points left, reset {_minute(found['reset_at'])}"
    return f"{text}. {letters:,} dead letters: backfill dead-letters list" if letters else text


def forecast(out: Console, answer: Row) -> None:
    """What a dry run foresees, repository by repository, and in total."""
    table = _table(
        "repository", "+to list", "+to detail", "+chunks", "+points", "+requests", "+time", "finish", "+AWS", "from"
    )
    for row in answer["backfills"]:
        table.add_row(row["repository"], *_foreseen(row), row["basis"])
    if len(answer["backfills"]) != 1:
        table.add_row("all", *_foreseen(answer["total"]), "")
    _show(out, table)
    out.print("Nothing was written and nothing was sent. AWS is functions, queues and logs, in US dollars.")
    out.print(budget(answer))


def planned(out: Console, answer: Row) -> None:
    """What a planner run did."""
    for row in answer["backfills"]:
        name = row.get("repository", row["repository_id"])
        if "skipped" in row:
            out.print(f"{name}: {row['skipped']}")
            continue
        text = f"{name}: {row['pages']} pages listed, {row['chunks']} chunks cut, {row['sent']} sent"
        for field in ("completed", "deferred_until", "error"):
            text += f"; {field.replace('_', ' ')}: {row[field]}" if row.get(field) else ""
        out.print(text, markup=False)
    out.print(f"{len(answer['backfills'])} planned, {answer['resumed']} resumed, {answer['reopened']} reopened")


def _foreseen(row: Row) -> tuple[str, ...]:
    return (
        f"{row['pull_requests_to_list']:,}",
        f"{row['pull_requests_to_detail']:,}",
        f"{row['chunks']:,}",
        f"{row['points']:,}",
        f"{row['requests']:,}",
        _duration(row["seconds"]),
        _minute(row["finish"]),
        f"{row['aws_usd']:.2f}",
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ") + " UTC"


def _table(*headings: str) -> Table:
    """A plain table; a heading that begins with + is of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for each in headings:
        table.add_column(each.lstrip("+"), justify="right" if each.startswith("+") else "left", no_wrap=True)
    return table


def _show(out: Console, table: Table) -> None:
    """At full width, also where the output is a file: no value is cut off."""
    width = out.width
    out.width = max(width, out.measure(table, options=out.options.update(width=10_000)).maximum)
    out.print(table)
    out.width = width
