"""The planner's story: list, cut into chunks, send, settle; examine what is completed; say what it would cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backfill import outbox
from backfill.chunk_processing import (
    CREDENTIALS_PAUSE_MINUTES,
    ERROR_PAUSE_MINUTES,
    UNAVAILABLE_PAUSE_MINUTES,
    note_pause,
)
from backfill.errors import ContractViolation, Deferred, Permanent, Retryable
from backfill.github import packing
from backfill.github.client import REQUEST_SIZE, GitHub
from backfill.messages import PlanEvent
from backfill.observability import count, event, note_levels, problem
from backfill.queues import Queues
from backfill.store import backfills, chunks, levels, pull_requests, repositories
from backfill.store.connection import Database, DatabaseUnavailable
from backfill.store.pull_requests import FAILED_RETRY_HOURS

Row = dict[str, Any]

# Backfills in one run; the rest is the next run's, which begins with the longest waiting.
MOST_BACKFILLS = 200
# Repositories in one examining request (GitHub takes 100 ids), and examined per run.
EXAMINED_AT_ONCE = 100
# A planner stops this long before its function ends.
MARGIN_SECONDS = 15.0
LEASE_MARGIN_SECONDS = 30.0
# UPDATED_AT paging loses what is touched during the scan: go this much further back than the watermark.
OVERLAP = timedelta(minutes=10)
# Priority: factors of chunk size and of outstanding chunks. Shares of the budget follow: 4 : 2 : 1.
PRIORITIES = {"high": (2.0, 1.0), "normal": (1.0, 1.0), "low": (1.0, 0.5)}
LARGEST_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Planner:
    """What one invocation works with. ``seconds_left`` is the function's remaining time."""

    db: Database
    github: GitHub
    queues: Queues
    seconds_left: Callable[[], float]

    def plan(self, request: PlanEvent) -> Row:
        """One run: what it did (or, in a dry run, would do), per backfill."""
        if request.dry_run:
            return self._forecast(request)
        resumed = backfills.resume_due(self.db)
        if request == PlanEvent():
            # The heartbeat, before anything can go wrong.
            note_levels(levels.read(self.db))
        only = self._only(request)
        reopened = [] if only else self._examine_completed()
        planned = [
            self._plan(backfill, request) for backfill in ([only] if only else backfills.due(self.db, MOST_BACKFILLS))
        ]
        return {"dry_run": False, "resumed": len(resumed), "reopened": len(reopened), "backfills": planned}

    def _only(self, request: PlanEvent) -> Row | None:
        """The backfill that the event names. Raises ContractViolation if there is none."""
        if request.repository_id:
            found = backfills.of_repository(self.db, request.repository_id)
            if found is None:
                raise ContractViolation("repository_id", f"{request.repository_id} has no backfill")
            return found
        if request.repository:
            owner, name = request.repository.split("/", 1)
            repository = repositories.find(self.db, owner, name)
            found = backfills.of_repository(self.db, repository["id"]) if repository else None
            if found is None:
                raise ContractViolation(
                    "repository", f"{request.repository} is not tracked; run: backfill add {request.repository}"
                )
            return found
        return None

    def _plan(self, backfill: Row, request: PlanEvent) -> Row:
        """Plan one backfill under its lease. Every failure is recorded with it; only the database's are raised."""
        held = backfills.lease(self.db, backfill["id"], max(1.0, self.seconds_left()) + LEASE_MARGIN_SECONDS)
        report: Row = {"repository_id": backfill["repository_id"], "pages": 0, "chunks": 0, "sent": 0}
        if held is None:
            return {**report, "skipped": "paused, or planned by another run"}
        repository = repositories.get(self.db, held["repository_id"])
        if repository is None:
            raise LookupError(f"backfill {held['id']} has no repository")
        report["repository"] = f"{repository['owner']}/{repository['name']}"
        try:
            self._work(held, repository, request, report)
        except DatabaseUnavailable:
            raise
        except Deferred as limit:
            report["deferred_until"] = limit.until.isoformat()
            report["again_in_seconds"] = round(limit.seconds)
        except Permanent as error:
            self._stop(held, error, report)
        except Retryable as error:
            counted = backfills.record_error(self.db, held["id"], str(error)[:2000], pause_minutes=ERROR_PAUSE_MINUTES)
            if counted and counted["paused"]:
                note_pause(self.db)
            report["error"] = str(error)
            report["again_in_seconds"] = 60
        finally:
            requested = backfills.end_lease(self.db, held)
        # Only now: a planner that comes while the lease is held goes away again.
        if requested or "again_in_seconds" in report:
            self._ask_again(held, report.get("again_in_seconds", 0))
        event("planned", **report)
        return report

    def _work(self, held: Row, repository: Row, request: PlanEvent, report: Row) -> None:
        size, most = _sizes(held, request)
        if held["status"] == "completed" and (request.repository_id or request.repository):
            held = self._refresh(held, repository, report)
            backfills.reopen(self.db, held["id"], FAILED_RETRY_HOURS)
        if held["listing_started_at"] is None:
            held = _kept(backfills.start_listing(self.db, held))
        self._fill(held, size, most, report)
        while held["listing_completed_at"] is None and self.seconds_left() > MARGIN_SECONDS:
            held = self._list_page(held, repository, report)
            self._fill(held, size, most, report)
        if held["listing_completed_at"] is None:
            report["again_in_seconds"] = 0
        elif report["chunks"] == 0 and chunks.outstanding(self.db, held["id"])["total"] == 0:
            # Nothing left as far as is known; GitHub may know of changes since the listing.
            held = self._refresh(held, repository, report)
            if held["listing_completed_at"] is None:
                report["again_in_seconds"] = 0
            else:
                self._fill(held, size, most, report)
                report["completed"] = backfills.settle(self.db, held["id"], FAILED_RETRY_HOURS)
                if report["completed"]:
                    count("BackfillsCompleted")

    def _list_page(self, held: Row, repository: Row, report: Row) -> Row:
        page = self.github.list_pull_requests(repository["node_id"], held["last_processed_cursor"])
        with self.db.transaction():
            pull_requests.store_listed(self.db, held["repository_id"], page.contributors, page.pull_requests)
            held = _kept(
                backfills.move_cursor(
                    self.db,
                    held,
                    cursor=page.end_cursor,
                    total_prs=page.total_prs,
                    ended=not page.has_next_page,
                    points=page.points,
                    watermark=page.latest_updated_at,
                )
            )
        repositories.upsert(self.db, page.repository)
        report["pages"] += 1
        count("PagesListed")
        if not page.has_next_page:
            self._find_gone(held, repository, held["listing_started_at"])
        return held

    def _find_gone(self, held: Row, repository: Row, since: Any) -> None:
        """What a whole listing did not show is asked for by number, and only then called gone."""
        suspects = pull_requests.not_listed_since(self.db, held["repository_id"], since)
        if not suspects:
            return
        listed, people, missing, _ = self.github.list_numbers(repository["node_id"], suspects)
        with self.db.transaction():
            pull_requests.store_listed(self.db, held["repository_id"], people, listed)
            pull_requests.mark_gone(self.db, held["repository_id"], missing)

    def _fill(self, held: Row, size: int, most: int, report: Row) -> None:
        """Cut chunks until ``most`` are outstanding, and send everything that waits in the outbox."""
        room = most - chunks.outstanding(self.db, held["id"])["planned"]
        # Below half of the mark, not for every single chunk: requests cut from more candidates come out fuller.
        if room * 2 >= most:
            oldest_first = held["metadata"].get("order") == "oldest_first"
            limit = (room + 1) * size
            candidates = pull_requests.to_detail(self.db, held, limit, oldest_first=oldest_first)
            more = held["listing_completed_at"] is None or len(candidates) == limit
            request_size = repositories.request_size(self.db, held["repository_id"]) or REQUEST_SIZE
            for numbers in packing.cut(candidates, size, room, request_size=int(request_size), more=more):
                try:
                    chunks.create(self.db, held["id"], numbers)
                except chunks.InAnotherChunk:
                    # Somebody asked for one of them by hand meanwhile: the next planning cuts what is left.
                    break
                report["chunks"] += 1
        report["sent"] += outbox.send(self.db, self.queues, backfill_id=held["id"])

    def _refresh(self, held: Row, repository: Row, report: Row) -> Row:
        """Everything that changed since the watermark, newest first; a whole listing if the totals still differ."""
        now = self._examined(repository)
        watermark, latest = held["updates_watermark"], _moment(now["latest_updated_at"])
        points, requests = 1, 1
        if latest is not None and (watermark is None or latest > watermark):
            cursor: str | None = None
            while True:
                page = self.github.list_updated(repository["node_id"], cursor)
                with self.db.transaction():
                    pull_requests.store_listed(self.db, held["repository_id"], page.contributors, page.pull_requests)
                points, requests, cursor = points + page.points, requests + 1, page.end_cursor
                report["pages"] += 1
                oldest = min((_moment(row["updated_at"]) or latest for row in page.pull_requests), default=latest)
                if not page.has_next_page or (watermark is not None and oldest < watermark - OVERLAP):
                    break
        held = _kept(
            backfills.set_watermark(
                self.db,
                held,
                watermark=now["latest_updated_at"],
                total_prs=now["total_prs"],
                points=points,
                requests=requests,
            )
        )
        if held["listed_prs"] != held["total_prs"] and held["listing_completed_at"] is not None:
            event("listed and counted pull requests differ", listed=held["listed_prs"], counted=held["total_prs"])
            held = _kept(backfills.start_listing(self.db, held))
        return held

    def _examined(self, repository: Row) -> Row:
        found, _ = self.github.examine([repository["node_id"]])
        now = found[repository["node_id"]]
        if now is None:
            raise Permanent(
                "repository_unavailable", f"GitHub has no {repository['owner']}/{repository['name']} for this token"
            )
        repositories.upsert(self.db, now["repository"])
        return now

    def _examine_completed(self) -> list[str]:
        """Completed backfills whose repositories changed become active; many repositories per request."""
        resting = backfills.to_examine(self.db, EXAMINED_AT_ONCE)
        if not resting:
            return []
        try:
            found, _ = self.github.examine([row["node_id"] for row in resting])
        except (Deferred, Retryable, Permanent) as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            problem("completed backfills could not be examined", error=str(error))
            return []
        reopened = []
        for row in resting:
            if self._changed(row, found[row["node_id"]]):
                reopened.append(row["id"])
        return reopened

    def _changed(self, row: Row, now: Row | None) -> bool:
        """Bring one completed backfill up to date with what GitHub says; True if there is work again."""
        if now is None:
            if repositories.note_unavailable(self.db, row["repository_id"]):
                backfills.pause(self.db, row["id"], "repository_unavailable", minutes=UNAVAILABLE_PAUSE_MINUTES)
            return False
        latest = _moment(now["latest_updated_at"])
        moved = latest is not None and (row["updates_watermark"] is None or latest > row["updates_watermark"])
        repository = repositories.upsert(self.db, now["repository"])
        if moved or now["total_prs"] != row["listed_prs"]:
            held = backfills.lease(self.db, row["id"], max(1.0, self.seconds_left()) + LEASE_MARGIN_SECONDS)
            if held is None:
                return False
            try:
                self._refresh(held, repository, {"pages": 0})
            except Deferred as limit:
                problem("a completed backfill waits for its refresh", error=str(limit))
            finally:
                backfills.end_lease(self.db, held)
        return backfills.reopen(self.db, row["id"], FAILED_RETRY_HOURS)

    def _stop(self, held: Row, error: Permanent, report: Row) -> None:
        report["error"] = f"{error.code}: {error}"
        if error.code == "invalid_query" and held["last_processed_cursor"]:
            # An opaque cursor that GitHub refuses is worth nothing: list again; rows that are there stay.
            backfills.start_listing(self.db, held)
            report["again_in_seconds"] = 60
        elif error.code == "repository_unavailable" and not repositories.note_unavailable(
            self.db, held["repository_id"]
        ):
            report["again_in_seconds"] = 60
        else:
            minutes = UNAVAILABLE_PAUSE_MINUTES if error.code == "repository_unavailable" else CREDENTIALS_PAUSE_MINUTES
            backfills.pause(self.db, held["id"], error.code, minutes=minutes, error=str(error))
            note_pause(self.db)

    def _ask_again(self, held: Row, seconds: float) -> None:
        if backfills.request_plan(self.db, held["id"], max(backfills.PLAN_REQUEST_LOST_SECONDS, seconds)):
            self.queues.request_plan(held["repository_id"], seconds)

    def _forecast(self, request: PlanEvent) -> Row:
        """What a run would do and what the whole backfill will take. Reads only: the database and nothing else."""
        only = self._only(request)
        reports = []
        for each in [only] if only else backfills.due(self.db, MOST_BACKFILLS):
            backfill = backfills.get(self.db, each["id"])
            if backfill is None:
                continue
            size, most = _sizes(backfill, request)
            to_detail = pull_requests.to_detail(self.db, backfill, backfill["listed_prs"] + 1, oldest_first=False)
            points, requests = packing.predict(to_detail, size)
            to_list = max(0, backfill["total_prs"] - backfill["listed_prs"])
            pages = -(-to_list // packing.PAGE)
            if to_list:
                # Not listed yet, so of unknown size: five points and requests for every 100 (design section 6).
                points, requests = points + pages + round(to_list * 0.055), requests + pages + round(to_list * 0.055)
            seconds = round(0.15 * requests + 0.1 * (len(to_detail) + to_list))
            reports.append(
                {
                    "repository_id": backfill["repository_id"],
                    "pull_requests_to_list": to_list,
                    "pull_requests_to_detail": len(to_detail) + to_list,
                    "chunks_now": len(packing.cut(to_detail, size, most)),
                    "points": points,
                    "requests": requests,
                    "seconds": seconds,
                    "finish": (backfills.now(self.db) + timedelta(seconds=seconds)).isoformat(),
                }
            )
        return {"dry_run": True, "backfills": reports}


def _sizes(backfill: Row, request: PlanEvent) -> tuple[int, int]:
    """Chunk size and outstanding chunks of a run: the event's, else the backfill's, scaled by its priority."""
    size_factor, chunks_factor = PRIORITIES[backfill["metadata"].get("priority") or "normal"]
    size = request.chunk_size or round(backfill["chunk_size"] * size_factor)
    most = request.max_chunks or max(1, round(backfill["max_chunks"] * chunks_factor))
    return max(1, min(LARGEST_CHUNK, size)), most


def _kept(row: Row | None) -> Row:
    if row is None:
        raise Retryable("another planner took the backfill over")
    return row


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
