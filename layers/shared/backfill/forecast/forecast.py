"""The forecast of a planner run: points, requests, time and money of each backfill until it is completed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from backfill import priority, tracking
from backfill.errors import ContractViolation
from backfill.forecast import pace
from backfill.forecast.prices import dollars
from backfill.forecast.sampling import SAMPLE, Sampler, Unlisted, scaled
from backfill.forecast.work import Work, average
from backfill.github import packing
from backfill.github.client import GitHub
from backfill.limits import CHECK_SHARE
from backfill.messages import PlanEvent
from backfill.planner import cutting
from backfill.planner.completed import CHECKED_AT_ONCE
from backfill.planner.run import MOST_BACKFILLS
from backfill.priority import Marks
from backfill.store import backfills, budget, completed, forecasts
from backfill.store.budget import Budget, Budgets
from backfill.store.connection import Database
from backfill.store.forecasts import Active

# Settings of a backfill that nobody has added yet.
CHUNK_SIZE, MAX_CHUNKS = 25, 10


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One backfill. ``identity`` reads it. ``pace``: seconds that one of GitHub's seconds takes."""

    work: Work
    identity: str | None
    pace: float
    seconds: float
    finish: datetime

    def as_json(self) -> dict[str, Any]:
        """An object of the answer."""
        work = self.work
        return {
            "repository_id": work.repository_id,
            "repository": work.name,
            "status": work.status,
            "identity": self.identity,
            "pull_requests_to_list": work.to_list,
            "pull_requests_to_detail": work.to_detail,
            "chunks": work.chunks,
            "chunks_now": work.chunks_now,
            "points": work.points,
            "requests": work.requests,
            "server_seconds": round(work.server_seconds),
            "seconds": round(self.seconds),
            "aws_usd": round(dollars(work, self.pace), 4),
            "basis": work.basis,
            "finish": self.finish.isoformat(),
        }


_SUMMED = (
    "pull_requests_to_list",
    "pull_requests_to_detail",
    "chunks",
    "chunks_now",
    "points",
    "requests",
    "server_seconds",
    "aws_usd",
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A dry run at the time ``now``. ``to_check``: completed repositories that a run would check for changes now."""

    backfills: Sequence[Foreseen]
    to_check: int
    budgets: Budgets
    now: datetime

    def as_json(self) -> dict[str, Any]:
        """The handler's answer."""
        rows = [each.as_json() for each in self.backfills]
        last = max(rows, key=lambda row: row["seconds"], default={"seconds": 0, "finish": self.now.isoformat()})
        total = {field: sum(row[field] for row in rows) for field in _SUMMED}
        budgets = [{name: _plain(value) for name, value in asdict(each).items()} for each in self.budgets.known]
        return {
            "dry_run": True,
            "backfills": rows,
            "total": total | {"seconds": last["seconds"], "finish": last["finish"]},
            "completed_to_examine": {"repositories": self.to_check, "points": _points_of_checks(self.to_check)},
            "budget": budgets[0] if budgets else None,
            "budgets": budgets,
        }


@dataclass(frozen=True, slots=True)
class Forecaster:
    """Dry runs of the planner. The GitHub client's governor must only look at the budget (ObservedBudget)."""

    db: Database
    github: GitHub
    seconds_left: Callable[[], float]
    check_share: float = CHECK_SHARE
    timeline: bool = False

    def forecast(self, request: PlanEvent) -> Forecast:
        """What a run of the planner would do now, and what the backfills take until they are completed."""
        with self.db.reading():
            asked, others = self._works(request)
            known, now = budget.budgets(self.db), backfills.now(self.db)
            foreseen: dict[Work, Foreseen] = {}
            for its in {id(each): each for each in (known.of(work.owner) for work in asked)}.values():
                mine, theirs = ([work for work in works if known.of(work.owner) is its] for works in (asked, others))
                seconds_each = pace.pace(self.db, mine, known, its)
                foreseen |= {each.work: each for each in _of_identity(mine, theirs, seconds_each, its, now)}
            in_order = [foreseen[work] for work in asked]
            return Forecast(in_order, self._to_check(known), known, now)

    def _to_check(self, known: Budgets) -> int:
        """What is due, as far as the share of each identity's points goes."""
        due = Counter[str]()
        for owner, count in completed.due_by_owner(self.db).items():
            its = known.of(owner)
            due[its.identity if its else ""] += count
        return sum(
            int(min(count, CHECKED_AT_ONCE * max(0, completed.points_left(self.db, identity, self.check_share))))
            for identity, count in due.items()
        )

    def _works(self, request: PlanEvent) -> tuple[list[Work], list[Work]]:
        """The backfills that are asked for, and the other active ones, which take their share meanwhile."""
        sampler = Sampler(self.db, self.github, self.seconds_left)
        named = request.repository or request.repository_id
        try:
            only = tracking.of_event(self.db, request) if named else None
        except ContractViolation:
            if request.repository is None:
                raise
            others = forecasts.active(self.db, None)
            return [self._untracked(request, sampler)], [self._roughly(each) for each in others]
        active = forecasts.active(self.db, only.id if only else None)
        count = 1 if only else MOST_BACKFILLS
        return [self._tracked(each, request, sampler) for each in active[:count]], [
            self._roughly(each) for each in active[count:]
        ]

    def _untracked(self, request: PlanEvent, sampler: Sampler) -> Work:
        """A repository that nobody has added yet."""
        owner, name = (request.repository or "/").split("/", 1)
        row, total = self.github.of(owner).repository(owner, name)
        marks = priority.scale("normal", request.chunk_size or CHUNK_SIZE, request.max_chunks or MAX_CHUNKS)
        unlisted = Unlisted(row["owner"], row["node_id"], None, None, total, self.timeline)
        work = Work(row["owner"], f"{row['owner']}/{row['name']}", None, "untracked", _share(marks), basis="")
        return _with_unlisted(work, unlisted, marks, sampler)

    def _tracked(self, active: Active, request: PlanEvent, sampler: Sampler) -> Work:
        backfill = active.backfill
        marks = priority.marks(backfill, request.chunk_size, request.max_chunks)
        found = forecasts.sizes_left(self.db, backfill.repository_id, SAMPLE)
        left = found[0]["remaining"] if found else 0
        timeline = backfill.wants_timeline(self.timeline)
        sizes = [packing.with_timeline(row, timeline) for row in found]
        work = Work(active.owner, active.full_name, backfill.repository_id, backfill.status, _share(marks))
        work = work.with_details(left, scaled(sizes, left, marks.chunk_size), "listed sizes")
        to_list = 0 if backfill.is_listed else max(0, backfill.total_prs - backfill.listed_prs)
        unlisted = Unlisted(
            active.owner, active.node_id, backfill.repository_id, backfill.last_processed_cursor, to_list, timeline
        )
        work = _with_unlisted(work, unlisted, marks, sampler)
        return replace(work, chunks_now=min(work.chunks, cutting.room_for(self.db, backfill, marks)))

    def _roughly(self, active: Active) -> Work:
        """An active backfill that nobody asked about: enough to know its share."""
        backfill = active.backfill
        left = max(0, backfill.total_prs - backfill.processed_prs)
        marks = priority.marks(backfill)
        work = Work(active.owner, "", backfill.repository_id, backfill.status, _share(marks))
        predicted = average(left, marks, backfill.wants_timeline(self.timeline))
        return replace(work.with_details(left, predicted, "averages"), chunks=0)


def _of_identity(
    asked: Sequence[Work], others: Sequence[Work], seconds_each: float, its: Budget | None, now: datetime
) -> Iterator[Foreseen]:
    """When each backfill is done, if those of one identity share its time and its points."""
    works = [*asked, *others]
    finishes = pace.until_done([(work.server_seconds * seconds_each, work.share) for work in works])
    busy = max(seconds_each * sum(work.server_seconds for work in works), 1e-9)
    rate = sum(work.points for work in works) / busy
    for work, finish in zip(asked, finishes, strict=False):
        seconds = pace.with_resets(finish, rate, its, now)
        yield Foreseen(work, its.identity if its else None, seconds_each, seconds, now + timedelta(seconds=seconds))


def _with_unlisted(work: Work, unlisted: Unlisted, marks: Marks, sampler: Sampler) -> Work:
    """Add the pull requests that are not listed yet, by a sample of them or by the averages."""
    count, work = unlisted.count, work.with_listing(unlisted.count)
    if count:
        sizes = sampler.sizes(unlisted)
        predicted = scaled(sizes, count, marks.chunk_size) if sizes else average(count, marks, unlisted.timeline)
        sample = "listed sizes" if len(sizes) >= count else f"a sample of {len(sizes)}"
        work = work.with_details(count, predicted, sample if sizes else "averages")
    return replace(work, chunks_now=min(work.chunks, marks.chunks))


def _share(marks: Marks) -> int:
    """Most outstanding pull requests: all chunks wait in one queue."""
    return marks.chunk_size * marks.chunks


def _points_of_checks(repositories: int) -> int:
    """A request costs a point."""
    return -(-repositories // CHECKED_AT_ONCE)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
