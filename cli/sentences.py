"""Texts of the commands: pure functions from an answer to text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Row = dict[str, Any]
HIDDEN = "{} being handled by recovery or another command: try again in a minute"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> count(1, "chunk"), count(1200, "chunk"), count(2, "reply", "replies")
    ('1 chunk', '1,200 chunks', '2 replies')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def moment(text: str, now: datetime | None = None) -> str:
    """A time of an answer, in UTC: the clock of today and tomorrow, else the day.

    >>> moment("2026-01-02T03:04:05+00:00", datetime(2026, 1, 1, 12, tzinfo=UTC))
    '03:04 UTC'
    >>> moment("2026-03-02T03:04:05+00:00", datetime(2026, 1, 1, tzinfo=UTC))
    '2 Mar'
    """
    at, today = datetime.fromisoformat(text).astimezone(UTC), now or datetime.now(UTC)
    if abs(at - today) < timedelta(days=1):
        return f"{at:%H:%M} UTC"
    return f"{at.day} {at:%b}" if abs(at - today) < timedelta(days=180) else f"{at:%Y-%m-%d}"


def condition(row: Row) -> str:
    """The state in the words of docs/operations.md, and its reason.

    >>> condition({"condition": {"code": "waiting_for_github", "why": "until 02:24 UTC (server-time limit)"}})
    'waiting for GitHub until 02:24 UTC (server-time limit)'
    """
    why: str = row["condition"]["why"]
    words: str = row["condition"]["code"].replace("_", " ").replace("github", "GitHub")
    if not why:
        return words
    return f"{words} {why}" if why.startswith("until ") else f"{words}: {why}"


def added_one(asked: str, row: Row) -> str:
    """The result for one name."""
    name = row["repository"]
    shown = name if name.lower() == asked.lower() else f"{name} (asked for as {asked})"
    if row.get("waits"):
        return f"{shown} is accepted; the planner will ask GitHub again: {row['waits']}"
    if row.get("paused"):
        return f"{shown} is paused: {row['paused']}. Upgrade the server, then run: backfill resume {name}"
    total = count(row["total_prs"], "pull request")
    if row["created"]:
        return f"{shown} added: {total}"
    if row.get("changed"):
        changes = [
            f"{field.replace('_', ' ')} {each['from']} -> {each['to']}" for field, each in row["changed"].items()
        ]
        return f"{shown} is tracked already: {total}; changed: {', '.join(changes)}"
    return f"{shown} is tracked already: {total}; nothing changed"


def added(answers: Sequence[Row]) -> str:
    """The number of names with each result."""
    kinds = [_kind(row) for row in answers]
    words = ("added", "accepted", "changed", "tracked already", "paused", "failed")
    return ", ".join(f"{kinds.count(word):,} {word}" for word in words if word in kinds)


def _kind(row: Row) -> str:
    if "error" in row:
        return "failed"
    if row.get("waits"):
        return "accepted"
    if row.get("paused"):
        return "paused"
    if row["created"]:
        return "added"
    return "changed" if row.get("changed") else "tracked already"


def planned(answer: Row, repository: str | None) -> str:
    """What a planner run did, or that there was nothing to do."""
    lines = [_planned_one(row, repository) for row in answer["backfills"]]
    resumed, reopened = answer.get("resumed", 0), answer.get("reopened", 0)
    parts = [f"{count(len(lines), 'backfill')} planned"] if lines else []
    parts += [f"{count(resumed, 'backfill')} resumed"] if resumed else []
    parts += [f"{count(reopened, 'backfill')} reopened, because GitHub has changes"] if reopened else []
    letters = answer.get("dead_letters", 0)
    parts += [f"{count(letters, 'dead letter')} taken back"] if letters else []
    if not parts:
        parts = ["Nothing to plan: no backfill is active, and no completed one has changes"]
    return "\n".join([*lines, ", ".join(parts)])


def _planned_one(row: Row, repository: str | None) -> str:
    name = row.get("repository") or repository or row["repository_id"]
    if "skipped" in row:
        return f"{name}: not planned: {row['skipped']}"
    done = [
        text
        for number, text in (
            (row["pages"], f"{count(row['pages'], 'page')} listed"),
            (row["chunks"], f"{count(row['chunks'], 'chunk')} cut"),
            (row["sent"], f"{count(row['sent'], 'message')} sent"),
        )
        if number
    ]
    text = f"{name}: {', '.join(done) or 'nothing to do now'}"
    text += "; completed" if row.get("completed") else ""
    text += f"; waiting for GitHub until {moment(row['deferred_until'])}" if row.get("deferred_until") else ""
    return text + (f"; failed: {row['error']}" if row.get("error") else "")


def resumed(repository: str, answer: Row, *, retry_failed: bool) -> str:
    """Whether the backfill resumed, and what is retried."""
    status = answer["status"]
    text = f"{repository} is {status}" if answer["resumed"] else f"{repository} was not paused: it is {status}"
    if retry_failed:
        text += f"; {count(answer['retried'], 'failed pull request')} will be retried"
    return text


def recovered(answer: Row) -> str:
    """What recovery did; a dry run says what it would have done in the same words."""
    lost = answer["lost"]
    resent = lost + answer["unsent"] if answer["dry_run"] else max(lost, answer["sent"] - answer["requeued"])
    old = answer["old"] if answer["dry_run"] else answer["deleted"]
    done = [f"{count(answer['requeued'], 'chunk')} requeued"] if answer["requeued"] else []
    done += [f"{count(resent, 'message')} resent"] if resent else []
    done += [f"{count(old, 'old chunk')} deleted"] if old else []
    failed = f"{count(answer['failed'], 'chunk')} failed" if answer["failed"] else "nothing failed"
    text = f"{', '.join(done) or 'nothing to recover'}; {failed}"
    letters = _letters(answer)
    text += f"; {letters}" if letters else ""
    return f"Dry run, nothing was changed: {text}" if answer["dry_run"] else text[0].upper() + text[1:]


def _letters(answer: Row) -> str:
    if answer["dry_run"]:
        waiting = answer["dead_letters"]
        return f"{count(waiting, 'dead letter')} to settle" if waiting else ""
    matched, left = answer.get("dead_letters_matched", 0), answer.get("dead_letters_left", 0)
    parts = [f"{count(matched, 'dead letter')} settled"] if matched else []
    parts += [f"{count(left, 'dead letter')} left, see: backfill dead-letters list"] if left else []
    return ", ".join(parts)


def gaps(repository: str, answer: Row, *, everything: bool) -> str:
    """The summary first, then a line for each gap, with its address on GitHub."""
    counts: dict[str, int] = answer["counts"]
    if not sum(counts.values()):
        return f"{repository}: no gaps"
    parts = [f"{counts[name]:,} {name}" for name in ("failed", "refused", "incomplete") if counts[name]]
    summary = f"{repository}: {', '.join(parts) or 'nothing failed, nothing incomplete'}"
    if counts["unread"]:
        summary += f"; {counts['unread']:,} not read yet" + ("" if everything else " (--all lists them)")
    lines = [_gap(row) for row in answer["gaps"]]
    return "\n".join([summary, *lines])


def _gap(row: Row) -> str:
    parts = [f"#{row['number']}", row["reason"], row["url"] or "", row["error"] or ""]
    return "  ".join(part for part in parts if part)


def dead_letters(answer: Row) -> str:
    """A line for each letter."""
    lines = [
        f"{row['message_id']}  {row['reason'] or 'received too often'}  {row['body']}" for row in answer["dead_letters"]
    ]
    if answer.get("more"):
        lines.append(f"and {answer['more']:,} more: discard or redrive some of these first")
    return "\n".join([*lines, *_hidden(answer)]) or "No dead letters"


def redriven(answer: Row) -> str:
    """The number of letters that were sent again."""
    done = count(answer["redriven"], "message") + (" was" if answer["redriven"] == 1 else " were") + " sent again"
    return "\n".join([*([done] if answer["redriven"] or not answer.get("hidden") else []), *_hidden(answer)])


def discarded(answer: Row) -> str:
    """The number of letters that were deleted."""
    number = answer["discarded"]
    text = f"{count(number, 'dead letter')} {'was' if number == 1 else 'were'} discarded"
    return "\n".join([*([text] if number or not answer.get("missing") else []), *_hidden(answer)])


def _hidden(answer: Row) -> list[str]:
    number = answer.get("hidden") or 0
    if not number:
        return []
    return [HIDDEN.format(count(number, "dead letter") + (" is" if number == 1 else " are"))]
