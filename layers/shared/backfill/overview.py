"""How far every backfill is, in what state and why: one view for the status, the page and the runbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backfill.error_codes import ErrorCode
from backfill.queues import Queues
from backfill.store import budget, completed, names, progress
from backfill.store.budget import Budget, Budgets
from backfill.store.connection import Database
from backfill.store.progress import Progress
from backfill.widget.words import span


class Kind(StrEnum):
    """Whether somebody has to do something about it."""

    TROUBLE = "trouble"
    WAITING = "waiting"
    WORKING = "working"
    RESTING = "resting"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Condition:
    """``code`` is stable, and a heading of docs/operations.md that says what to do; ``why`` may be empty."""

    code: str
    kind: Kind
    why: str = ""

    @property
    def words(self) -> str:
        """The code for people."""
        return self.code.replace("_", " ").replace("github", "GitHub")


# What one view holds; an answer of Lambda has 6 MB at most.
MOST_BACKFILLS = 1000


@dataclass(frozen=True, slots=True)
class Shown:
    """One backfill, and the state that a person reads from it."""

    progress: Progress
    condition: Condition

    def as_json(self) -> dict[str, Any]:
        """A row of the status and of the page, which take the condition apart themselves."""
        return {**asdict(self.progress), "condition": self.condition}


@dataclass(frozen=True, slots=True)
class Overview:
    """``counts``: all backfills by status. ``requested``: names that are accepted and not a backfill yet, each with a reason.

    ``advice``: parts of the queries that the token may not ask for, and what to do about it.
    """

    backfills: Sequence[Shown]
    counts: Mapping[str, int]
    budgets: Budgets
    checks: completed.Waiting
    dead_letters: int
    requested: Sequence[names.Requested]
    advice: Sequence[Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """What the console answers and the page shows."""
        return {
            "backfills": [each.as_json() for each in self.backfills],
            "counts": self.counts,
            "budget": asdict(self.budgets.latest) if self.budgets.latest else None,
            "budgets": [asdict(each) for each in self.budgets.known],
            "checks": asdict(self.checks),
            "dead_letters": self.dead_letters,
            "requested": [asdict(each) for each in self.requested],
            "advice": [dict(each) for each in self.advice],
        }


def overview(db: Database, queues: Queues, repository_id: str | None = None, after_id: str | None = None) -> Overview:
    """Up to MOST_BACKFILLS backfills: one, or all, or those after ``after_id`` in the order of their ids. Reads only."""
    known = budget.budgets(db)
    rows = progress.rows(db, repository_id, MOST_BACKFILLS, after_id)
    return Overview(
        _shown(rows, known),
        progress.counts(db),
        known,
        completed.waiting(db),
        queues.dead_letters_waiting(),
        names.requested(db),
        [{**each, "advice": _ADVICE.get(each["part"], each["reason"])} for each in budget.advice(db)],
    )


def of_repository(db: Database, repository_id: str) -> Shown | None:
    """One backfill without the figures of all; None if the repository is not tracked. Reads only."""
    return next(iter(_shown(progress.rows(db, repository_id, 1), budget.budgets(db))), None)


def _shown(rows: Sequence[Progress], known: Budgets) -> list[Shown]:
    return [Shown(each, condition(each, known.of(each.repository.split("/")[0]))) for each in rows]


# What a part of the queries that a token may not ask for means to the operator.
_ADVICE = {
    "team": "the token lacks the scope read:org, so teams that were asked to review are not stored; grant it, then run:"
    " backfill resume OWNER/NAME --retry-failed"
}

# Why the system paused a backfill (pause_reason), and what that asks of the operator.
_PAUSES = {
    "consecutive_errors": "three errors in a row",
    "bad_credentials": "GitHub refuses the token; put a valid one into the secret, then resume",
    "forbidden": "the token may not read this repository; grant it access, then resume",
    "repository_unavailable": "GitHub shows no such repository to this token",
    "invalid_query": "GitHub refuses the query; read the last error, then resume",
}


def condition(row: Progress, its_budget: Budget | None) -> Condition:
    """The state of a backfill, beside the budget of the identity that reads it."""
    if row.status == "completed":
        if row.failed_prs and not row.unchecked:
            return Condition(
                "completed_with_failures", Kind.TROUBLE, f"{row.failed_prs:,} pull requests could not be read"
            )
        if row.incomplete_prs and not row.unchecked:
            return Condition(
                "completed_incomplete",
                Kind.DONE,
                f"{row.incomplete_prs:,} pull requests lack what GitHub does not give; see: backfill gaps",
            )
        return _checked(row)
    if row.status == "paused":
        return _paused(row)
    return _trouble(row) or _wait(row, its_budget) or _work(row)


def _checked(row: Progress) -> Condition:
    """Completed is what GitHub had at the last check: without checks nobody knows of a change, or that the token is revoked."""
    when = f"{row.checked_at:%Y-%m-%d %H:%M} UTC ({span(row.check_age_seconds)} ago)"
    if row.unchecked:
        return Condition(
            "unchecked",
            Kind.TROUBLE,
            f"not checked for changes since {when}; look at the token, the planner's log and CheckShare",
        )
    return Condition("completed", Kind.DONE, f"checked for changes at {when}")


def _paused(row: Progress) -> Condition:
    reason = row.pause_reason or "manual"
    if reason == "manual":
        return Condition("paused", Kind.RESTING, "by an operator, until somebody resumes it")
    why = _PAUSES.get(reason, reason.replace("_", " "))
    if row.paused_until:
        why += f"; tried again at {row.paused_until:%Y-%m-%d %H:%M} UTC"
    return Condition(reason, Kind.TROUBLE, why)


def _trouble(row: Progress) -> Condition | None:
    if row.expired_leases:
        lost = row.expired_leases
        return Condition(
            "worker_lost",
            Kind.TROUBLE,
            f"the worker of {'a chunk' if lost == 1 else f'{lost} chunks'} did not come back within its lease",
        )
    if row.stalled:
        return Condition("stalled", Kind.TROUBLE, f"no progress since {row.progressed_at:%Y-%m-%d %H:%M} UTC")
    return None


def _wait(row: Progress, its_budget: Budget | None) -> Condition | None:
    if row.processing or row.due:
        return None
    if row.next_at:
        code = "waiting_for_github" if row.next_code == ErrorCode.DEFERRED else "retrying"
        return Condition(code, Kind.WAITING, _until(row.next_at, row.next_error))
    if its_budget and its_budget.waits_until:
        why = _until(its_budget.waits_until, its_budget.wait_reason)
        return Condition("waiting_for_github", Kind.WAITING, why)
    return None


# Reasons of a reservation of the budget, in words that say what is waited for.
_LIMITS = {"server time": "server-time limit", "points are at their floor": "points limit"}


def _until(at: datetime, reason: str | None) -> str:
    return f"until {at:%H:%M} UTC ({_LIMITS.get(reason or '', reason or 'no reason')})"


def _work(row: Progress) -> Condition:
    if row.consecutive_errors:
        return Condition("retrying", Kind.WAITING, f"{row.consecutive_errors} errors in a row")
    if row.listing_completed_at is None:
        return Condition("listing", Kind.WORKING, f"{row.listed_prs:,} of {row.total_prs:,} listed")
    if row.processing:
        return Condition("detailing", Kind.WORKING, f"{row.processing} in work, {row.pending} waiting")
    if row.scan_until is not None:
        return Condition("listing", Kind.WORKING, "what has changed, newest first")
    if row.pending:
        return Condition("queued", Kind.WAITING, f"{row.pending} chunks wait for a worker")
    return Condition("queued", Kind.WAITING, "waits for the planner")
