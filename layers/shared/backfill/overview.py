"""How far every backfill is, in what state and why: one view for the status, the page and the runbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backfill.error_codes import ErrorCode
from backfill.queues import Queues
from backfill.store import budget, names, progress
from backfill.store.connection import Database

Row = dict[str, Any]


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


def overview(db: Database, queues: Queues, repository_id: str | None = None, after_id: str | None = None) -> Row:
    """``backfills`` (in the order of their ids, from the one after ``after_id``, if that is given; rows of ``progress.rows``, each with its ``condition``, at most MOST_BACKFILLS), ``counts`` of
    all by status, ``budget``, and how many ``dead_letters`` there are. Reads only."""
    rows = progress.rows(db, repository_id, MOST_BACKFILLS, after_id)
    latest = budget.latest(db)
    for row in rows:
        row["condition"] = condition(row, latest)
    return {
        "backfills": rows,
        "counts": progress.counts(db),
        "budget": latest,
        "dead_letters": queues.dead_letters_waiting(),
        # Accepted, and not a backfill yet; each with its reason.
        "requested": [asdict(each) for each in names.requested(db)],
        "advice": [{**each, "advice": _ADVICE.get(each["part"], each["reason"])} for each in budget.advice(db)],
    }


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


def condition(row: Mapping[str, Any], latest_budget: Mapping[str, Any] | None) -> Condition:
    """Of one row of ``progress.rows``, beside the ``budget.latest`` of its GitHub identity."""
    if row["status"] == "completed":
        if row["failed_prs"] and not row["unchecked"]:
            return Condition(
                "completed_with_failures", Kind.TROUBLE, f"{row['failed_prs']:,} pull requests could not be read"
            )
        if row["incomplete_prs"] and not row["unchecked"]:
            return Condition(
                "completed_incomplete",
                Kind.DONE,
                f"{row['incomplete_prs']:,} pull requests lack what GitHub does not give; see: backfill gaps",
            )
        return _checked(row)
    if row["status"] == "paused":
        return _paused(row)
    return _trouble(row) or _wait(row, latest_budget) or _work(row)


def _checked(row: Mapping[str, Any]) -> Condition:
    """Completed is what GitHub had at the last check: without checks nobody knows of a change, or that the token is revoked."""
    when = f"{row['checked_at']:%Y-%m-%d %H:%M} UTC"
    if row["unchecked"]:
        return Condition(
            "unchecked",
            Kind.TROUBLE,
            f"not checked for changes since {when}; look at the token and at the planner's log",
        )
    return Condition("completed", Kind.DONE, f"checked for changes at {when}")


def _paused(row: Mapping[str, Any]) -> Condition:
    reason = row["pause_reason"]
    if reason == "manual":
        return Condition("paused", Kind.RESTING, "by an operator, until somebody resumes it")
    why = _PAUSES.get(reason, reason.replace("_", " "))
    if row["paused_until"]:
        why += f"; tried again at {row['paused_until']:%Y-%m-%d %H:%M} UTC"
    return Condition(reason, Kind.TROUBLE, why)


def _trouble(row: Mapping[str, Any]) -> Condition | None:
    if row["expired_leases"]:
        lost = row["expired_leases"]
        return Condition(
            "worker_lost",
            Kind.TROUBLE,
            f"the worker of {'a chunk' if lost == 1 else f'{lost} chunks'} did not come back within its lease",
        )
    if row["stalled"]:
        return Condition("stalled", Kind.TROUBLE, f"no progress since {row['progressed_at']:%Y-%m-%d %H:%M} UTC")
    return None


def _wait(row: Mapping[str, Any], latest_budget: Mapping[str, Any] | None) -> Condition | None:
    if row["processing"] or row["due"]:
        return None
    if row["next_at"]:
        code = "waiting_for_github" if row["next_code"] == ErrorCode.DEFERRED else "retrying"
        return Condition(code, Kind.WAITING, _until(row["next_at"], row["next_error"]))
    if latest_budget and latest_budget["waits_until"]:
        why = _until(latest_budget["waits_until"], latest_budget["wait_reason"])
        return Condition("waiting_for_github", Kind.WAITING, why)
    return None


# Reasons of a reservation of the budget, in words that say what is waited for.
_LIMITS = {"server time": "server-time limit", "points are at their floor": "points limit"}


def _until(at: datetime, reason: str | None) -> str:
    return f"until {at:%H:%M} UTC ({_LIMITS.get(reason or '', reason or 'no reason')})"


def _work(row: Mapping[str, Any]) -> Condition:
    if row["consecutive_errors"]:
        return Condition("retrying", Kind.WAITING, f"{row['consecutive_errors']} errors in a row")
    if row["listing_completed_at"] is None:
        return Condition("listing", Kind.WORKING, f"{row['listed_prs']:,} of {row['total_prs']:,} listed")
    if row["processing"]:
        return Condition("detailing", Kind.WORKING, f"{row['processing']} in work, {row['pending']} waiting")
    if row["scan_until"] is not None:
        return Condition("listing", Kind.WORKING, "what has changed, newest first")
    if row["pending"]:
        return Condition("queued", Kind.WAITING, f"{row['pending']} chunks wait for a worker")
    return Condition("queued", Kind.WAITING, "waits for the planner")
