"""What becomes of a chunk that was read: which members are to be read, and which of them did not come out whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backfill.error_codes import ErrorCode
from backfill.github.reading import ChunkDetails
from backfill.outcomes import Attempt, Completed, Retried, retry_at
from backfill.store.dividing import Stored

OLDER = "GitHub answered with an older state than it had listed"


@dataclass(frozen=True, slots=True)
class Members:
    """The stored rows to read, with the connection sizes that the listing saw; numbers that GitHub does not have."""

    rows: Sequence[Mapping[str, Any]]
    missing: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """``failed``: code and message of members that were not stored. ``gone``: members that GitHub does not have."""

    failed: dict[int, tuple[str, str]]
    gone: list[int]
    outcome: Completed | Retried


def undetailed(rows: Sequence[Mapping[str, Any]]) -> Members:
    """The listed members whose detail is missing or older than the listing."""
    return Members(
        [
            row
            for row in rows
            if row["gone_at"] is None
            and (row["detail_updated_at"] is None or row["detail_updated_at"] < row["updated_at"])
        ]
    )


def judge(attempt: Attempt, members: Members, read: ChunkDetails, stored: Stored, now: datetime) -> Judged:
    """Members that a lagging replica answered with an older state are read again, and fail with the last attempt."""
    read_numbers = {row["number"] for row in read.tables.get("pull_requests", ())}
    older = read_numbers - set(stored.accepted) - set(stored.refused)
    failed = dict(read.failed)
    failed |= {number: (ErrorCode.VALUE_REFUSED, reason) for number, reason in stored.refused.items()}
    if attempt.is_last:
        failed |= dict.fromkeys(older, (ErrorCode.OLDER_THAN_LISTED, OLDER))
    gone = sorted({*read.gone, *members.missing})
    outcome: Completed | Retried = _completed(failed, read, gone)
    if older and not attempt.is_last:
        reason = f"{OLDER} ({len(older)} pull requests)"
        outcome = Retried(retry_at(attempt, now), ErrorCode.OLDER_THAN_LISTED, reason, keep=tuple(sorted(older)))
    return Judged(failed, gone, outcome)


def _completed(failed: Mapping[int, tuple[str, str]], read: ChunkDetails, gone: Sequence[int]) -> Completed:
    """Completed, with a note about each member that is not whole."""
    notes = [f"#{number}: {text}" for number, (_, text) in sorted(failed.items())]
    for number, flaws in read.incomplete.items():
        notes.append(f"#{number}: stored without {', '.join(flaw.place for flaw in flaws)}")
    notes += [f"#{number}: no pull request on GitHub" for number in gone]
    if not notes:
        return Completed()
    worst = ErrorCode.MEMBERS_INCOMPLETE if read.incomplete else ErrorCode.MEMBERS_GONE
    return Completed("; ".join(notes), ErrorCode.MEMBERS_FAILED if failed else worst)
