"""What a backfill would take before it does: points, requests, time, money. Reads only; Postgres itself refuses writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import cycle, islice

from backfill import priority, tracking
from backfill.errors import ContractViolation, Deferred, Permanent, Retryable
from backfill.github import cost, packing
from backfill.github.client import GitHub
from backfill.limits import FLOOR, SERVER_SHARE
from backfill.messages import PlanEvent
from backfill.model import Backfill
from backfill.planner.run import MOST_BACKFILLS
from backfill.store import backfills, budget, chunks, forecasts, progress
from backfill.store.connection import Database, Row
from backfill.store.pull_requests import FAILED_RETRY_HOURS

# Sizes that a prediction packs exactly; of more it takes every n-th.
SAMPLE = 2000
# Requests that a dry run may spend on repositories whose sizes nobody has listed yet, for each and in all.
SAMPLE_REQUESTS, MOST_SAMPLE_REQUESTS = 5, 20
# Fewer sampled pull requests say less than the averages do.
LEAST_SAMPLE = 50
# Points and requests for the details of a pull request, where nothing better is known (design section 8).
AVERAGE_POINTS = 0.055
# So many pull requests within the last hour make a pace.
LEAST_PACE = 250
# GitHub's points come back after an hour.
WINDOW_SECONDS = 3600.0
# Points before anybody has asked GitHub.
USUAL_LIMIT = 5000
# The template's concurrency and memory; all workers are there while GitHub sets the pace.
WORKERS, MEMORY_GB = 4, 0.5
# Planner seconds for a page of the listing or a chunk, more or less.
PLANNING_SECONDS = 1.0
# US dollars in us-east-1 (aws.amazon.com/lambda, /sqs, /cloudwatch pricing, November 2026): arm64 GB-second, Lambda
# request, SQS request (a message takes three), GB of logs.
GB_SECOND, INVOCATION, SQS_REQUEST, LOG_GB = 0.0000133334, 0.20e-6, 0.40e-6, 0.50
# Bytes of log that a request and a chunk leave.
LOG_BYTES_OF_REQUEST, LOG_BYTES_OF_CHUNK = 700, 3500


@dataclass(frozen=True, slots=True)
class Work:
    """What is left of one backfill. ``share`` weighs it against others that are active; ``basis`` says how sure it is."""

    name: str
    repository_id: str | None
    status: str
    share: int
    to_list: int
    to_detail: int
    chunks: int
    chunks_now: int
    points: int
    requests: int
    basis: str

    @property
    def pages(self) -> int:
        return -(-self.to_list // packing.PAGE)

    @property
    def server_seconds(self) -> float:
        """GitHub's time, by the published figures."""
        details = self.requests * cost.seconds() + cost.seconds(detailed=self.to_detail) - cost.seconds()
        return details + self.pages * (cost.seconds(listed=packing.PAGE) - cost.seconds())


@dataclass(slots=True)
class Forecaster:
    """One dry run. The GitHub client's governor must only look at the budget (ObservedBudget)."""

    db: Database
    github: GitHub
    seconds_left: Callable[[], float]
    requests_left: int = MOST_SAMPLE_REQUESTS

    def forecast(self, request: PlanEvent) -> Row:
        """What a run of the planner would do now, and what the backfills will take until they are completed."""
        with self.db.reading():
            asked, others = self._works(request)
            known = budget.latest(self.db)
            pace = self._pace(asked, known["slowness"] if known else 1.0)
            now = backfills.now(self.db)
            works = [*asked, *others]
            finishes = until_done([(work.server_seconds * pace, work.share) for work in works])
            busy = max(pace * sum(work.server_seconds for work in works), 1e-9)
            rate = sum(work.points for work in works) / busy
            rows = []
            for work, finish in zip(asked, finishes, strict=False):
                seconds = with_resets(finish, rate, known, now)
                rows.append(_row(work, pace, seconds) | {"finish": (now + timedelta(seconds=seconds)).isoformat()})
            completed = progress.counts(self.db)["completed"]
        total = {field: sum(row[field] for row in rows) for field in _SUMMED}
        last = max(rows, key=lambda row: row["seconds"], default={"seconds": 0, "finish": now.isoformat()})
        return {
            "dry_run": True,
            "backfills": rows,
            "total": total | {"seconds": last["seconds"], "finish": last["finish"]},
            "completed_to_examine": {"repositories": completed, "points": -(-completed // 100)},
            "budget": _plain(known),
        }

    def _works(self, request: PlanEvent) -> tuple[list[Work], list[Work]]:
        """The backfills that are asked for, and the other active ones, which take their share meanwhile."""
        named = request.repository or request.repository_id
        try:
            only = tracking.of_event(self.db, request) if named else None
        except ContractViolation:
            if request.repository is None:
                raise
            return [self._untracked(request)], [_roughly(row) for row in forecasts.active(self.db, None)]
        rows = forecasts.active(self.db, only.id if only else None)
        count = 1 if only else MOST_BACKFILLS
        return [self._work(row, request) for row in rows[:count]], [_roughly(row) for row in rows[count:]]

    def _untracked(self, request: PlanEvent) -> Work:
        """A repository that nobody has added yet."""
        owner, name = (request.repository or "/").split("/", 1)
        repository, total = self.github.repository(owner, name)
        backfill = {
            "metadata": {},
            "chunk_size": request.chunk_size or 25,
            "max_chunks": request.max_chunks or 10,
            "last_processed_cursor": None,
            **repository,
        }
        size, most = priority.scale("normal", backfill["chunk_size"], backfill["max_chunks"])
        work = Work(f"{repository['owner']}/{repository['name']}", None, "untracked", size * most, 0, 0, 0, 0, 0, 0, "")
        return self._with_unlisted(work, backfill, total, 0, size, most)

    def _work(self, row: Row, request: PlanEvent) -> Work:
        size, most = priority.marks(Backfill.from_row(row), request.chunk_size, request.max_chunks)
        listed = forecasts.sizes_left(self.db, row["repository_id"], SAMPLE, FAILED_RETRY_HOURS)
        left = listed[0]["remaining"] if listed else 0
        predicted = scaled(listed, left, size)
        planned = chunks.outstanding(self.db, row["id"]).planned
        room = max(0, most - planned)
        work = Work(
            name=f"{row['owner']}/{row['name']}",
            repository_id=row["repository_id"],
            status=row["status"],
            share=size * most,
            to_list=0,
            to_detail=left,
            chunks=predicted.chunks,
            chunks_now=min(room, predicted.chunks),
            points=predicted.points,
            requests=predicted.requests,
            basis="listed sizes",
        )
        to_list = max(0, row["total_prs"] - row["listed_prs"]) if row["listing_completed_at"] is None else 0
        return self._with_unlisted(work, row, to_list, left, size, room)

    def _with_unlisted(self, work: Work, row: Row, to_list: int, left: int, size: int, room: int) -> Work:
        """Add what is not listed yet, by a sample of it, or by the averages; and the questions before it is settled."""
        if not to_list:
            return replace(work, points=work.points + 1, requests=work.requests + 1)
        sample = self._sample(row, to_list)
        if sample:
            predicted = scaled(sample, to_list, size)
            basis = "listed sizes" if len(sample) >= to_list else f"a sample of {len(sample)}"
        else:
            some = round(to_list * AVERAGE_POINTS)
            predicted = packing.Prediction(some, some, -(-to_list // size))
            basis = "averages"
        pages = -(-to_list // packing.PAGE)
        number = work.chunks + predicted.chunks
        return replace(
            work,
            to_list=to_list,
            to_detail=left + to_list,
            chunks=number,
            chunks_now=min(room, number),
            points=work.points + predicted.points + pages + 1,
            requests=work.requests + predicted.requests + pages + 1,
            basis=basis,
        )

    def _sample(self, row: Row, to_list: int) -> list[Row]:
        """Sizes of pull requests that are not listed yet: all of them where a few pages show them, else evenly spread
        numbers. Empty where GitHub cannot be asked now."""
        requests = min(SAMPLE_REQUESTS, self.requests_left)
        pages = -(-to_list // packing.PAGE)
        if requests < 2 or self.seconds_left() < 60:
            return []
        self.requests_left -= min(requests, pages)
        try:
            return self._first_pages(row, pages) if pages <= requests else self._spread(row, requests - 1)
        except (Deferred, Retryable, Permanent):
            return []

    def _first_pages(self, row: Row, pages: int) -> list[Row]:
        cursor, found = row["last_processed_cursor"], []
        for _ in range(pages):
            page = self.github.list_pull_requests(row["node_id"], cursor)
            cursor = page.end_cursor
            found += page.pull_requests
            if not page.has_next_page:
                break
        return found

    def _spread(self, row: Row, requests: int) -> list[Row]:
        """Pull requests and issues share their numbers: what is no pull request falls out of the sample."""
        newest = self.github.list_updated(row["node_id"], None).pull_requests
        last = max((each["number"] for each in newest), default=0)
        first = forecasts.largest_number(self.db, row["repository_id"]) if row.get("repository_id") else 0
        step = max(1.0, (last - first) / (requests * packing.PAGE))
        numbers = [first + 1 + int(index * step) for index in range(requests * packing.PAGE)]
        found = self.github.list_numbers(row["node_id"], [number for number in numbers if number <= last]).pull_requests
        return found if len(found) >= LEAST_SAMPLE else []

    def _pace(self, works: Sequence[Work], slowness: float) -> float:
        """Seconds that one of GitHub's seconds takes: as measured within the last hour, where enough happened; else as the
        governor spends them on this GitHub."""
        measured = forecasts.pace(self.db)
        details = sum(work.to_detail for work in works)
        if measured["pull_requests"] < LEAST_PACE or measured["seconds"] <= 0 or not details:
            return slowness / SERVER_SHARE
        seconds_each = sum(work.server_seconds for work in works) / details
        return float(measured["seconds"] / measured["pull_requests"] / seconds_each)


def scaled(sizes: Sequence[Row], count: int, chunk_size: int) -> packing.Prediction:
    """The prediction for ``count`` pull requests of which these are a sample."""
    if not sizes or not count:
        return packing.Prediction(0, 0, 0)
    packed = min(count, max(SAMPLE, len(sizes)))
    rows = [{**row, "number": number} for number, row in enumerate(islice(cycle(sizes), packed))]
    found = packing.predict(rows, chunk_size)
    return packing.Prediction(*(round(value * count / packed) for value in found))


def until_done(works: Sequence[tuple[float, float]]) -> list[float]:
    """When each of ``(seconds of work, share)`` is done, if all go on at once in proportion to their shares."""
    left = {index: seconds for index, (seconds, _) in enumerate(works)}
    finishes, now = [0.0] * len(works), 0.0
    while left:
        shares = sum(works[index][1] for index in left)
        first = min(left, key=lambda index: left[index] / works[index][1])
        elapsed = left[first] * shares / works[first][1]
        now += elapsed
        for index in left:
            left[index] -= elapsed * works[index][1] / shares
        finishes[first] = now
        del left[first]
    return finishes


def with_resets(seconds: float, points_per_second: float, latest_budget: Row | None, now: datetime) -> float:
    """Seconds of work, and the waits for GitHub's points between them: the floor is not touched, and a window's points
    are there again after its reset."""
    known = latest_budget if latest_budget and latest_budget["remaining"] is not None else None
    limit = known["limit"] if known else USUAL_LIMIT
    points = (known["remaining"] if known else limit) - FLOOR * limit
    passed = _ahead(known, "blocked_until", now) or 0.0
    window_ends = _ahead(known, "reset_at", now) or WINDOW_SECONDS
    while points_per_second > 0:
        can_work = min(max(0.0, points) / points_per_second, max(0.0, window_ends - passed))
        if seconds <= can_work:
            break
        seconds -= can_work
        passed = max(passed, window_ends)
        points, window_ends = (1 - FLOOR) * limit, passed + WINDOW_SECONDS
    return passed + seconds


def _ahead(known: Row | None, field: str, now: datetime) -> float | None:
    """Seconds until a moment that is still to come."""
    moment = known[field] if known else None
    return (moment - now).total_seconds() if moment is not None and moment > now else None


def dollars(work: Work, pace: float) -> float:
    """What AWS takes for functions, queues and logs; the database and the network are your own. At the most: all
    workers wait for GitHub all the time."""
    function_seconds = WORKERS * work.server_seconds * pace + PLANNING_SECONDS * (work.pages + work.chunks)
    messages = 2 * work.chunks
    logged = LOG_BYTES_OF_REQUEST * work.requests + LOG_BYTES_OF_CHUNK * work.chunks
    return function_seconds * MEMORY_GB * GB_SECOND + messages * (INVOCATION + 3 * SQS_REQUEST) + logged / 1e9 * LOG_GB


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


def _row(work: Work, pace: float, seconds: float) -> Row:
    return {
        "repository_id": work.repository_id,
        "repository": work.name,
        "status": work.status,
        "pull_requests_to_list": work.to_list,
        "pull_requests_to_detail": work.to_detail,
        "chunks": work.chunks,
        "chunks_now": work.chunks_now,
        "points": work.points,
        "requests": work.requests,
        "server_seconds": round(work.server_seconds),
        "seconds": round(seconds),
        "aws_usd": round(dollars(work, pace), 4),
        "basis": work.basis,
    }


def _roughly(row: Row) -> Work:
    """An active backfill that nobody asked about: enough to know what share it takes."""
    size, most = priority.marks(Backfill.from_row(row))
    left = max(0, row["total_prs"] - row["processed_prs"])
    points = round(left * AVERAGE_POINTS)
    return Work("", row["repository_id"], row["status"], size * most, 0, left, 0, 0, points, points, "averages")


def _plain(row: Row | None) -> Row | None:
    if row is None:
        return None
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
