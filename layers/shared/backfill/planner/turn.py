"""One turn of one backfill: list for a while, keep its chunks at the mark, and complete it when nothing is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backfill import brake, outbox, priority
from backfill.errors import Deferred, Permanent, Retryable
from backfill.messages import PlanEvent
from backfill.model import Backfill, BackfillStatus
from backfill.observability import count, event
from backfill.planner import cutting, failures, lease, listing, timeline
from backfill.planner.failures import Failure
from backfill.planner.lease import Held
from backfill.planner.means import Means
from backfill.planner.refresh import refresh
from backfill.store import backfills, chunks, completed, leases, listings, repositories

# A check for changes is good for settling the backfill for this long.
CHECK_LASTS_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Planned:
    """What one run did for one backfill. ``limit``: GitHub's, which ended it."""

    repository_id: str
    repository: str | None = None
    pages: int = 0
    chunks: int = 0
    sent: int = 0
    unsent: int = 0
    is_completed: bool = False
    limit: failures.Deferred | None = None
    error: str | None = None
    skipped: str | None = None

    def as_json(self) -> Mapping[str, Any]:
        """For the handler's answer and the log; a field without a value is left out."""
        row = {
            "repository_id": self.repository_id,
            "repository": self.repository,
            "pages": self.pages,
            "chunks": self.chunks,
            "sent": self.sent,
            "unsent": self.unsent,
            "completed": self.is_completed or None,
            "deferred_until": self.limit and self.limit.until.isoformat(),
            "deferred_seconds": self.limit and self.limit.seconds,
            "error": self.error,
            "skipped": self.skipped,
        }
        return {name: value for name, value in row.items() if value is not None}


def plan(means: Means, backfill: Backfill, request: PlanEvent) -> Planned:
    """Plan one backfill under its lease. Every error is recorded with it; only the database's are raised."""
    held_lease = lease.take(means, backfill.id)
    if held_lease is None:
        # The owner of the lease may be dead, and this message is gone when it is acknowledged.
        outbox.request_plan(means.db, means.queues, backfill, brake.SHORTEST_SECONDS, arrived=True)
        return Planned(backfill.repository_id, skipped="paused, or planned by another run")
    repository = repositories.get(means.db, backfill.repository_id)
    if repository is None:
        return Planned(backfill.repository_id, skipped="removed")
    marks = priority.marks(held_lease.backfill, request.chunk_size, request.max_chunks)
    held = Held(means, held_lease, repository, marks)
    again, failure, error = None, None, None
    try:
        again = _work(held)
    except (Deferred, Permanent, Retryable) as met:
        failure, error = failures.note(held, met), met
        again = None if isinstance(failure, failures.Paused) else failure.seconds
    finally:
        ended = leases.end(means.db, held.lease, has_progressed=held.has_progressed)
    # Only now: a planner that comes while the lease is held goes away again.
    if ended.is_requested or again is not None:
        outbox.request_plan(means.db, means.queues, backfill, continuation_seconds(again, ended.idle_runs))
    planned = _report(held, failure, error)
    event("planned", **planned.as_json())
    return planned


def continuation_seconds(again: float | None, idle_runs: int) -> float:
    """The delay of the next plan request: the wait that this run asks for, or the brake's."""
    return max(again or 0.0, brake.delay_seconds(idle_runs))


def _report(held: Held, failure: Failure | None, error: Exception | None) -> Planned:
    said = None
    match failure:
        case failures.Counted():
            said = str(error)
        case failures.Paused() | failures.ListAgain() | failures.LookAgain():
            said = f"{error.code}: {error}" if isinstance(error, Permanent) else str(error)
    return Planned(
        held.backfill.repository_id,
        held.repository.full_name,
        held.pages,
        held.chunks,
        held.sent,
        held.unsent,
        held.is_completed,
        failure if isinstance(failure, failures.Deferred) else None,
        said,
        str(error) if isinstance(failure, failures.LostLease) else None,
    )


def _work(held: Held) -> float | None:
    """List for a while, and keep the mark of outstanding chunks; after how many seconds to continue, if there is more."""
    db = held.means.db
    is_marked = timeline.bring_up_to_date(held)
    if held.backfill.status is BackfillStatus.COMPLETED:
        refresh(held)
        if not completed.reopen(db, [held.backfill.id]):
            return None if is_marked else 0
    listing.ask_again(held)
    if held.backfill.listing_started_at is None:
        held.lease = listings.start(db, held.lease)
    cutting.fill(held)
    listing.list_pages(held)
    if held.backfill.is_listed and held.backfill.is_refreshing:
        refresh(held)
        cutting.fill(held)
    if not held.is_listing and held.chunks == 0 and chunks.outstanding(db, held.backfill.id).total == 0:
        _settle(held)
    if held.is_listing or not is_marked:
        return 0
    if not held.means.has_time_for_page() and not held.is_completed:
        # The next run has time to cut what this one could not.
        return 0
    # SQS did not take them all: nobody else would send the rest.
    return failures.AGAIN_SECONDS if held.unsent else None


def _settle(held: Held) -> None:
    """Complete the backfill, if nothing is left. GitHub may know of changes since the listing: ask, but not again and again
    where something changes every minute. Later changes are found as for every completed backfill."""
    db, backfill = held.means.db, held.backfill
    now = backfills.now(db)
    checked, listed = backfill.examined_at, backfill.listing_completed_at
    if checked is None or listed is None or checked < listed or (now - checked).total_seconds() > CHECK_LASTS_SECONDS:
        refresh(held)
        cutting.fill(held)
        if held.is_listing:
            return
    held.is_completed = completed.settle(db, backfill.id)
    if held.is_completed:
        count("BackfillsCompleted")
