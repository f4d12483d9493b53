"""The planner's story: list, cut into chunks, send, settle; and examine what is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backfill import brake, dead_letters, naming, outbox, priority
from backfill.errors import ContractViolation, DatabaseUnavailable, Deferred, LeaseLost, Permanent, Retryable
from backfill.github import packing
from backfill.github.client import GitHub
from backfill.github.errors import (
    Forbidden,
    InvalidQuery,
    RepositoryUnavailable,
    TooLarge,
    Unexplained,
    UnknownField,
    Unreachable,
)
from backfill.github.listing import ListingPage
from backfill.messages import PlanEvent
from backfill.model import Repository, Spent
from backfill.observability import count, event, note_levels, problem
from backfill.outcomes import CREDENTIALS_PAUSE_MINUTES, ERROR_PAUSE_MINUTES, UNAVAILABLE_PAUSE_MINUTES
from backfill.pauses import note_pause
from backfill.queues import Queues
from backfill.store import backfills, chunks, levels, names, pull_requests, removals, repositories, rounds
from backfill.store.connection import Database
from backfill.store.pull_requests import FAILED_RETRY_HOURS

Row = dict[str, Any]

# Backfills of one run; more are the next run's, which begins with the longest unplanned.
MOST_BACKFILLS = 200
# Repositories in one examining request (GitHub takes 100 ids).
EXAMINED_AT_ONCE = 100
# Completed backfills read from the database at once: to choose a hundred costs as much as to choose them all.
READ_AT_ONCE = 10_000
# Requests about completed repositories that fail in a row, before GitHub as a whole is taken to be in trouble: one bad
# repository among a hundred is found after seven.
MOST_REFUSALS = 10
# A run lists one repository no longer than this, then others have their turn; the plan queue brings it back.
LISTING_SECONDS = 10.0
# After an error that may pass.
ERROR_AGAIN_SECONDS = 60.0
# A planner stops this long before its function ends: a page may wait for its turn, and take GitHub's ten seconds.
MARGIN_SECONDS = 20.0
# To check a completed repository is a request, and a page of what has changed.
CHECK_MARGIN_SECONDS = 40.0
# No margin takes more than this part of the function's time, or a function with a short timeout would never begin. The
# shortest timeout is WorkerTimeout's in template.yaml: a run that begins with less begins too late.
LARGEST_MARGIN = 2 / 3
SHORTEST_TIMEOUT_SECONDS = 30.0
LEASE_MARGIN_SECONDS = 30.0
# Stalled backfills that a run wakes, and for how long one that was planned is not stalled.
MOST_WOKEN = 10
REST_SECONDS = 60.0
# UPDATED_AT paging loses what is touched during the scan: go this much further back than the watermark.
OVERLAP = timedelta(minutes=10)
# Changes that came during a scan are scanned again at once, so often; then the next examination finds them.
SCANS = 3
# GitHub counts pull requests that it does not show, of blocked accounts. While these become more, a whole listing comes so
# often at most.
HIDDEN_LISTING_EVERY = timedelta(days=1)
# What GitHub said about a repository is good for settling it for so long.
EXAMINATION_LASTS = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Margins:
    """With less time than this left, a run begins nothing: no ``page``, no ``check`` of completed repositories. In seconds."""

    page: float = MARGIN_SECONDS
    check: float = CHECK_MARGIN_SECONDS

    @classmethod
    def of(cls, timeout_seconds: float) -> Margins:
        """The margins of a run that begins with so much time."""
        most = max(timeout_seconds, SHORTEST_TIMEOUT_SECONDS) * LARGEST_MARGIN
        return cls(min(MARGIN_SECONDS, most), min(CHECK_MARGIN_SECONDS, most))


@dataclass(frozen=True, slots=True)
class Part:
    """How far one part of a round came: whether it is done, else after how long to go on, and how many things it moved."""

    is_done: bool
    wait_seconds: float = 0.0
    moved: int = 0


@dataclass(slots=True)
class Planned:
    """What one run did for one backfill. ``again_seconds``: after how long to go on; None: nobody has to."""

    repository_id: str
    repository: str | None = None
    pages: int = 0
    chunks: int = 0
    sent: int = 0
    unsent: int = 0
    is_completed: bool = False
    limit: Deferred | None = None
    error: str | None = None
    skipped: str | None = None
    again_seconds: float | None = None

    @property
    def has_progressed(self) -> bool:
        """Whether the run moved the backfill."""
        return bool(self.pages or self.chunks or self.is_completed)

    def as_json(self) -> Row:
        """For the handler's answer and the log; what does not apply is left out."""
        row: Row = {
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


@dataclass(frozen=True, slots=True)
class Planner:
    """What one invocation works with. ``seconds_left`` is the function's remaining time."""

    db: Database
    github: GitHub
    queues: Queues
    seconds_left: Callable[[], float]
    margins: Margins = Margins()

    def plan(self, request: PlanEvent) -> Row:
        """One run: what it did, per backfill."""
        return replace(self, margins=Margins.of(self.seconds_left()))._run(request)

    def _run(self, request: PlanEvent) -> Row:
        resumed = backfills.resume_due(self.db)
        taken = 0 if request.is_message or request != PlanEvent() else self._take_back_dead_letters()
        if request == PlanEvent():
            # The heartbeat, before anything can go wrong.
            pull_requests.read_again(self.db)
            note_levels(levels.read(self.db))
        reopened: list[str] = []
        if request.repository_id or request.repository:
            planned = [self._plan(backfill, request) for backfill in self._named(request)]
            self._wake()
        else:
            began = rounds.go_on(self.db) if request.is_message else rounds.begin(self.db)
            named = self._resolve_names()
            reopened, checked = self._check_completed(began)
            planned, done = self._round(request, began)
            self._follow_up(named, checked, done)
        return {
            "dry_run": False,
            "resumed": len(resumed),
            "dead_letters": taken,
            "reopened": len(reopened),
            "backfills": [each.as_json() for each in planned],
        }

    def _take_back_dead_letters(self) -> int:
        """Take back the work of dead letters, so that it goes on at the first heartbeat after an outage; how many."""
        if self.queues.dead_letters_waiting() == 0:
            return 0
        taken = dead_letters.take_back(self.db, self.queues, lambda: self.seconds_left() > self.margins.page)
        if taken.matched:
            outbox.send(self.db, self.queues)
        return taken.matched

    def _resolve_names(self) -> Part:
        """Ask GitHub for names that were accepted before it could answer: a hundred in one request."""
        wanted = names.due(self.db, naming.MOST_NAMES)
        if not wanted or self.seconds_left() < self.margins.page:
            return Part(not wanted)
        try:
            found = naming.find(self.github, wanted)
        except Deferred as limit:
            names.postpone(self.db, wanted, str(limit)[:2000], limit.seconds)
            return Part(False, limit.seconds)
        except InvalidQuery as error:
            # The server does not even know how to name a repository: it stays so until somebody replaces it.
            problem("names cannot be asked for", error=str(error))
            for each in wanted:
                names.refuse(self.db, each, str(error)[:2000])
            return Part(len(wanted) < naming.MOST_NAMES, moved=len(wanted))
        except (Retryable, Permanent) as error:
            problem("names could not be asked for", error=str(error))
            names.postpone(self.db, wanted, str(error)[:2000], naming.AGAIN_SECONDS)
            return Part(True)
        for each in wanted:
            answer = found[each.full_name]
            if isinstance(answer, (Permanent, Retryable)):
                problem("GitHub does not answer for a name", repository=each.full_name, error=str(answer))
                names.refuse(self.db, each, str(answer)[:2000])
                continue
            try:
                naming.track(self.db, self.queues, each, answer, self.github.unsupported)
            except Retryable as error:
                names.postpone(self.db, [each], str(error)[:2000], naming.AGAIN_SECONDS)
        return Part(len(wanted) < naming.MOST_NAMES, moved=len(wanted))

    def _named(self, request: PlanEvent) -> list[Row]:
        """The backfill of a request. A message outlives a repository that is removed: then there is nothing to do."""
        try:
            return [tracked(self.db, request)]
        except ContractViolation:
            name = request.repository
            if request.is_message and (request.repository_id or (name and removals.was_removed(self.db, name))):
                event("a plan request is of a repository that was removed", repository=name or request.repository_id)
                return []
            raise

    def _round(self, request: PlanEvent, began: datetime) -> tuple[list[Planned], Part]:
        """Active backfills that this round has not planned, the longest unplanned first.

        A limit of GitHub's ends the run: it is the same for all.
        """
        due = backfills.due(self.db, MOST_BACKFILLS + 1)
        waiting = [row for row in due if row["planned_at"] is None or row["planned_at"] < began]
        planned: list[Planned] = []
        for backfill in waiting[:MOST_BACKFILLS]:
            if self.seconds_left() < self.margins.page:
                break
            planned.append(self._plan(backfill, request))
            limit = planned[-1].limit
            if limit is not None:
                return planned, Part(len(planned) == len(waiting), limit.seconds, len(planned) - 1)
        return planned, Part(len(planned) == len(waiting), moved=len(planned))

    def _follow_up(self, *parts: Part) -> None:
        """Send the message that goes on with the round, unless it is done. After runs that moved nothing it waits longer."""
        if all(part.is_done for part in parts):
            rounds.end(self.db)
            return
        run = rounds.count_run(self.db, has_progressed=any(part.moved for part in parts))
        if run.is_sent:
            return
        wait = max(part.wait_seconds for part in parts)
        delay = min(max(wait, brake.delay_seconds(run.idle_runs)), brake.LONGEST_SECONDS)
        self.queues.request_plan(None, delay)
        rounds.note_sent(self.db, delay)

    def _wake(self) -> None:
        """Backfills that nothing moves: resumed by SQL, or their plan request was lost."""
        for backfill in backfills.stalled(self.db, MOST_WOKEN, REST_SECONDS):
            outbox.request_plan(self.db, self.queues, backfill, brake.SHORTEST_SECONDS)

    def _plan(self, backfill: Row, request: PlanEvent) -> Planned:
        """Plan one backfill under its lease. Every failure is recorded with it; only the database's are raised."""
        held = backfills.lease(self.db, backfill["id"], max(1.0, self.seconds_left()) + LEASE_MARGIN_SECONDS)
        run = Planned(backfill["repository_id"])
        if held is None:
            # Whoever holds the lease may be dead, and this message is gone when it is acknowledged.
            outbox.request_plan(self.db, self.queues, backfill, brake.SHORTEST_SECONDS, arrived=True)
            run.skipped = "paused, or planned by another run"
            return run
        repository = repositories.get(self.db, held["repository_id"])
        if repository is None:
            run.skipped = "removed"
            return run
        run.repository = f"{repository.full_name}"
        try:
            run.again_seconds = self._work(held, repository, request, run)
        except (Deferred, Permanent, Retryable) as error:
            self._note_failure(held, error, run)
        finally:
            ended = backfills.end_lease(self.db, held, has_progressed=run.has_progressed)
        # Only now: a planner that comes while the lease is held goes away again.
        if ended.is_requested or run.again_seconds is not None:
            delay = max(run.again_seconds or 0.0, brake.delay_seconds(ended.idle_runs))
            outbox.request_plan(self.db, self.queues, held, delay)
        event("planned", **run.as_json())
        return run

    def _note_failure(self, held: Row, error: Deferred | Permanent | Retryable, run: Planned) -> None:
        """What an error means for the backfill, and after how long to go on."""
        match error:
            case Deferred():
                run.limit, run.again_seconds = error, error.seconds
                backfills.defer(self.db, held, error.until)
            case Permanent():
                run.error, run.again_seconds = f"{error.code}: {error}", self._stop(held, error)
            case LeaseLost():
                # Whoever took it over may be dead by now, and this message is gone when it is acknowledged.
                run.skipped, run.again_seconds = str(error), brake.SHORTEST_SECONDS
            case Retryable():
                run.error, run.again_seconds = str(error), ERROR_AGAIN_SECONDS
                is_outage = isinstance(error, Unreachable)
                if backfills.record_error(
                    self.db, held["id"], str(error)[:2000], pause_minutes=ERROR_PAUSE_MINUTES, is_outage=is_outage
                ):
                    note_pause(self.db)

    def _work(self, held: Row, repository: Repository, request: PlanEvent, run: Planned) -> float | None:
        """List for a while, and keep the mark of outstanding chunks; in how many seconds to go on, if there is more."""
        size, most = priority.marks(held, request.chunk_size, request.max_chunks)
        if held["status"] == "completed":
            held = self._refresh(held, repository, run)
            if not backfills.reopen(self.db, [held["id"]], FAILED_RETRY_HOURS):
                return None
        self._ask_again(held, repository, run)
        if held["listing_started_at"] is None:
            held = _kept(backfills.start_listing(self.db, held))
        self._fill(held, size, most, run)
        begin = self.seconds_left()
        while held["listing_completed_at"] is None and self._has_time(begin):
            held = self._list_page(held, repository, run)
            self._fill(held, size, most, run)
        if held["listing_completed_at"] is not None and held["scan_until"] is not None:
            held = self._refresh(held, repository, run)
            self._fill(held, size, most, run)
        if _is_listing(held):
            return 0
        if run.chunks == 0 and chunks.outstanding(self.db, held["id"]).total == 0:
            again = self._settle(held, repository, size, most, run)
            if again is not None:
                return again
        if self.seconds_left() <= self.margins.page and not run.is_completed:
            # Somebody who has time cuts what this run could not.
            return 0
        # SQS did not take them all: nobody else would come and send the rest.
        return ERROR_AGAIN_SECONDS if run.unsent else None

    def _has_time(self, begin: float) -> bool:
        left = self.seconds_left()
        return left > self.margins.page and begin - left < LISTING_SECONDS

    def _settle(self, held: Row, repository: Repository, size: int, most: int, run: Planned) -> float | None:
        """Nothing is left as far as is known. GitHub may know of changes since the listing: ask, but not again and again
        where something changes every minute. What comes later is found as for every completed backfill."""
        examined, listed = held["examined_at"], held["listing_completed_at"]
        if examined is None or examined < listed or examined < backfills.now(self.db) - EXAMINATION_LASTS:
            held = self._refresh(held, repository, run)
            self._fill(held, size, most, run)
            if _is_listing(held):
                return 0
        run.is_completed = backfills.settle(self.db, held["id"], FAILED_RETRY_HOURS)
        if run.is_completed:
            count("BackfillsCompleted")
        return None

    def _list_page(self, held: Row, repository: Repository, run: Planned) -> Row:
        with self._booking(held) as spent:
            try:
                page = self.github.list_pull_requests(
                    repository.node_id, held["last_processed_cursor"], page_size=held["listing_page_size"]
                )
            except TooLarge as error:
                return self._halve_page(held, spent(), error)
            if not page.has_next_page:
                # Before the end is noted: a planner that is interrupted here reads the last page again, and asks again.
                self._find_gone(held, repository, {row["number"] for row in page.pull_requests})
            with self.db.transaction():
                pull_requests.store_listed(self.db, held["repository_id"], page.contributors, page.pull_requests)
                self._note_refused(held, page)
                held = _kept(
                    backfills.move_cursor(
                        self.db,
                        held,
                        cursor=page.end_cursor,
                        total_prs=page.total_prs,
                        ended=not page.has_next_page,
                        points=spent().points,
                        requests=spent().requests,
                        watermark=_known_until(_moment(page.latest_updated_at)),
                    )
                )
        repositories.refresh(self.db, [page.repository])
        run.pages += 1
        count("PagesListed")
        return held

    def _find_gone(self, held: Row, repository: Repository, shown: set[int]) -> None:
        """What a whole listing did not show, its last page with ``shown`` included, is asked for by number, and only then
        called gone."""
        unseen = pull_requests.not_listed(self.db, held["repository_id"])
        suspects = [number for number in unseen if number not in shown]
        for start in range(0, len(suspects), packing.PAGE):
            # Stored at once: if this comes to an end half way, the rest are the suspects of the next planner.
            some = suspects[start : start + packing.PAGE]
            found = self.github.list_numbers(repository.node_id, some)
            with self.db.transaction():
                pull_requests.store_listed(
                    self.db, held["repository_id"], found.contributors, found.pull_requests, found.missing
                )
                pull_requests.mark_gone(self.db, held["repository_id"], found.missing)
                if found.missing:
                    # They explain the difference of the counts: what remains of it is another one's.
                    _kept(backfills.note_unlisted(self.db, held, 0))

    def _ask_again(self, held: Row, repository: Repository, run: Planned) -> None:
        """Ask for numbers that GitHub has and did not list, once their time has come."""
        for some in _pieces(pull_requests.to_ask_again(self.db, held["repository_id"]), packing.PAGE):
            with self._booking(held) as spent:
                found = self.github.list_numbers(repository.node_id, some)
                with self.db.transaction():
                    pull_requests.store_listed(self.db, held["repository_id"], found.contributors, found.pull_requests)
                    backfills.book(self.db, held["id"], points=spent().points, requests=spent().requests)
                    pull_requests.forget_refused(self.db, held["repository_id"], found.missing)
                    pull_requests.note_refused(self.db, held["repository_id"], found.refused, is_asked_again=True)
            run.pages += 1

    def _note_refused(self, held: Row, page: ListingPage) -> None:
        """What a page did not show: a number becomes a gap with its reason; a row without a number is told in the status."""
        pull_requests.note_refused(self.db, held["repository_id"], page.refused)
        for refusal in page.unplaced:
            problem("GitHub does not show a row of its listing", reason=refusal.reason)
            backfills.note_error(
                self.db, held["id"], f"GitHub does not show a pull request of its listing: {refusal.reason}"
            )

    @contextmanager
    def _booking(self, held: Row) -> Iterator[Callable[[], Spent]]:
        """What is asked of GitHub inside is booked by whoever stores the answers: ``spent()`` so far. If it comes to
        nothing, it is booked here."""
        before = self.github.spent
        try:
            yield lambda: self.github.spent - before
        except (DatabaseUnavailable, Deferred, Permanent, Retryable):
            wasted = self.github.spent - before
            backfills.book(self.db, held["id"], points=wasted.points, requests=wasted.requests)
            raise

    def _fill(self, held: Row, size: int, most: int, run: Planned) -> None:
        """Cut chunks until ``most`` are outstanding, and send everything that waits in the outbox."""
        room = most - chunks.outstanding(self.db, held["id"]).planned
        while room > 0 and self.seconds_left() > self.margins.page:
            some = min(room, packing.POOL_CHUNKS)
            cut = self._cut(held, size, some)
            run.chunks += cut
            room -= cut
            if cut < some:
                break
        sent = outbox.send(self.db, self.queues, backfill_id=held["id"])
        run.sent += sent.accepted
        run.unsent = sent.refused

    def _cut(self, held: Row, size: int, most: int) -> int:
        """Cut up to ``most`` chunks from what is listed and has no current detail; how many.

        The choice is as large for one chunk as for many: requests cut from more candidates come out fuller.
        """
        oldest_first = held["metadata"].get("order") == "oldest_first"
        limit = (packing.POOL_CHUNKS + 1) * size
        candidates = pull_requests.to_detail(self.db, held, limit, oldest_first=oldest_first)
        more = held["listing_completed_at"] is None or len(candidates) == limit
        # While GitHub refuses nothing, requests have grown to the size of a chunk by the time when most of these are read.
        request_size = repositories.request_size(self.db, held["repository_id"]) or packing.PAGE
        created = 0
        for numbers in packing.cut(candidates, size, most, request_size=int(request_size), more=more):
            try:
                chunks.create(self.db, held["id"], numbers, planner_token=held["planner_token"])
            except chunks.InAnotherChunk:
                # Somebody asked for one of them by hand meanwhile: the next planning cuts what is left.
                break
            created += 1
        return created

    def _halve_page(self, held: Row, spent: Spent, error: TooLarge) -> Row:
        """GitHub could not answer for a page: the next try, of this run or a later one, is for half of it. Raises the error
        if that was a single pull request."""
        if held["listing_page_size"] == 1:
            raise error
        problem("a page of the listing is halved", error=str(error), page_size=held["listing_page_size"])
        return _kept(backfills.halve_page(self.db, held, points=spent.points, requests=spent.requests))

    def _refresh(self, held: Row, repository: Repository, run: Planned) -> Row:
        """Everything that changed since the watermark, newest first; a whole listing if the totals differ all the same.

        Where the time ends before the scan does, ``scan_until`` is left, and the next refresh goes on with the next page.
        """
        begin = self.seconds_left()
        for _ in range(SCANS):
            if held["scan_until"] is None:
                held = self._look(held, repository)
            has_moved = held["scan_until"] is not None
            while held["scan_until"] is not None:
                if not self._has_time(begin):
                    return held
                held = self._scan_page(held, repository, run)
            if not has_moved or not _counts_differ(held, held["total_prs"]):
                break
        if _counts_differ(held, held["total_prs"]) and held["listing_completed_at"] is not None:
            difference = held["total_prs"] - held["listed_prs"]
            event("listed and counted pull requests differ", listed=held["listed_prs"], counted=held["total_prs"])
            if _is_more_hidden(held, difference, backfills.now(self.db)):
                held = _kept(backfills.note_unlisted(self.db, held, difference))
            else:
                held = _kept(backfills.start_listing(self.db, held, difference))
        return held

    def _look(self, held: Row, repository: Repository) -> Row:
        """Ask GitHub for its total and its newest change; if that is news, a scan begins."""
        with self._booking(held) as spent:
            now = self._examined(repository)
            latest, watermark = _moment(now["latest_updated_at"]), held["updates_watermark"]
            has_moved = latest is not None and (watermark is None or latest > watermark)
            return self._begin_scan(held, _known_until(latest) if has_moved else None, now["total_prs"], spent())

    def _begin_scan(self, held: Row, until: datetime | None, total_prs: int, spent: Spent) -> Row:
        """At the front; with ``until`` None there is nothing to scan."""
        return _kept(
            backfills.begin_scan(
                self.db, held, until=until, total_prs=total_prs, points=spent.points, requests=spent.requests
            )
        )

    def _scan_page(self, held: Row, repository: Repository, run: Planned) -> Row:
        """The next page by UPDATED_AT; the last is the one that reaches the watermark and a little further."""
        watermark = held["updates_watermark"]
        with self._booking(held) as spent:
            try:
                page = self.github.list_updated(
                    repository.node_id, held["scan_cursor"], page_size=held["listing_page_size"]
                )
            except TooLarge as error:
                return self._halve_page(held, spent(), error)
            except InvalidQuery:
                if held["scan_cursor"] is None:
                    raise
                # An opaque cursor that GitHub refuses is worth nothing.
                return self._begin_scan(held, held["scan_until"], held["total_prs"], spent())
            seen = [_moment(row["updated_at"]) for row in page.pull_requests]
            oldest = min((moment for moment in seen if moment is not None), default=None)
            is_far_enough = watermark is not None and oldest is not None and oldest < watermark - OVERLAP
            with self.db.transaction():
                pull_requests.store_listed(self.db, held["repository_id"], page.contributors, page.pull_requests)
                self._note_refused(held, page)
                held = _kept(
                    backfills.move_scan(
                        self.db,
                        held,
                        cursor=page.end_cursor,
                        ended=is_far_enough or not page.has_next_page,
                        total_prs=page.total_prs,
                        points=spent().points,
                        requests=spent().requests,
                    )
                )
        run.pages += 1
        count("PagesListed")
        return held

    def _examined(self, repository: Repository) -> Row:
        found, _ = self.github.examine([repository.node_id])
        now = found[repository.node_id]
        if isinstance(now, Unexplained):
            raise now
        if now is None:
            raise RepositoryUnavailable(f"GitHub has no {repository.full_name} for this token")
        repositories.refresh(self.db, [now["repository"]])
        return now

    def _check_completed(self, began: datetime) -> tuple[list[str], Part]:
        """Check for changes, once a round, whatever is completed; the ids of those that became active.

        100 repositories cost a point where nothing has changed.
        """
        reopened: list[str] = []
        checked = 0
        while at_rest := backfills.to_examine(self.db, READ_AT_ONCE, began):
            if self.seconds_left() < self.margins.check:
                return reopened, Part(False, moved=checked)
            try:
                for resting, found in self._answers(at_rest):
                    some, limit = self._reopened(resting, found)
                    reopened += some
                    if limit is not None:
                        is_done = not backfills.to_examine(self.db, 1, began)
                        return reopened, Part(is_done, limit.seconds, checked)
                    checked += len(resting)
            except Deferred as limit:
                return reopened, Part(False, limit.seconds, checked)
            except (Retryable, Permanent) as error:
                # GitHub, or the token: the next heartbeat asks again.
                problem("completed backfills could not be checked for changes", error=str(error))
                return reopened, Part(True, moved=checked)
        return reopened, Part(True, moved=checked)

    def _answers(self, at_rest: Sequence[Row]) -> Iterator[tuple[Sequence[Row], dict[str, Row | Unexplained | None]]]:
        """What GitHub says about each, while there is time. A repository that spoils the answer for others is found by
        halves, and gets the error."""
        waiting = [at_rest[start : start + EXAMINED_AT_ONCE] for start in range(0, len(at_rest), EXAMINED_AT_ONCE)]
        refusals = 0
        while waiting and self.seconds_left() >= self.margins.check:
            some = waiting.pop(0)
            try:
                found = self.github.examine([row["node_id"] for row in some])[0]
            except (Forbidden, TooLarge, Unexplained) as error:
                refusals += 1
                half = len(some) // 2
                if half:
                    waiting = [some[:half], some[half:], *waiting]
                else:
                    self._note_unchecked(some[0], error)
                if refusals == MOST_REFUSALS:
                    raise
                continue
            refusals = 0
            yield some, found

    def _note_unchecked(self, row: Row, error: Exception) -> None:
        """One completed repository could not be checked. It keeps the error, and the next round asks again."""
        problem("a completed repository could not be checked for changes", backfill=row["id"], error=str(error))
        backfills.note_unchecked(self.db, row["id"], str(error)[:2000])
        if isinstance(error, Forbidden):
            backfills.pause(self.db, row["id"], error.code, minutes=CREDENTIALS_PAUSE_MINUTES, error=str(error)[:2000])
            note_pause(self.db)

    def _reopened(
        self, resting: Sequence[Row], found: Mapping[str, Row | Unexplained | None]
    ) -> tuple[list[str], Deferred | None]:
        """Bring completed backfills up to date with what GitHub says of them; the ids of those with work again, and the
        limit that interrupted this.

        A few statements for all of them: in most, nothing has changed. What the time or a limit leaves over is not noted
        as checked, and this round asks again.
        """
        missing = [row for row in resting if found[row["node_id"]] is None]
        again = repositories.note_unavailable(self.db, [row["repository_id"] for row in missing]) if missing else set()
        for row in missing:
            if row["repository_id"] in again:
                backfills.pause(self.db, row["id"], "repository_unavailable", minutes=UNAVAILABLE_PAUSE_MINUTES)
        checked, present = {row["id"] for row in missing}, []
        for row in resting:
            now = found[row["node_id"]]
            if isinstance(now, Unexplained):
                self._note_unchecked(row, now)
            elif now is not None:
                present.append((row, now))
        repositories.refresh(self.db, [now["repository"] for _, now in present])
        limit: Deferred | None = None
        for row, now in present:
            try:
                if self._is_current(row, now) or (limit is None and self._refresh_at_rest(row)):
                    checked.add(row["id"])
            except Deferred as met:
                limit = met
        backfills.note_examined(self.db, sorted(checked))
        return backfills.reopen(self.db, [row["id"] for row, _ in present], FAILED_RETRY_HOURS), limit

    def _is_current(self, row: Row, now: Row) -> bool:
        """Whether GitHub has nothing new of a completed repository."""
        latest, watermark = _moment(now["latest_updated_at"]), row["updates_watermark"]
        has_moved = latest is not None and (watermark is None or latest > watermark)
        is_explained = bool(row["unlisted_prs"]) and now["total_prs"] == row["listed_prs"]
        has_other_total = now["total_prs"] != row["total_prs"] or _counts_differ(row, now["total_prs"])
        return not (has_moved or is_explained or has_other_total)

    def _refresh_at_rest(self, row: Row) -> bool:
        """List what is new or changed of a completed backfill, under its lease; False if that failed or time is short."""
        if self.seconds_left() < self.margins.check:
            return False
        repository = repositories.get(self.db, row["repository_id"])
        held = backfills.lease(self.db, row["id"], max(1.0, self.seconds_left()) + LEASE_MARGIN_SECONDS)
        if held is None or repository is None:
            # Another run has it in hand.
            return True
        run = Planned(row["repository_id"])
        try:
            self._refresh(held, repository, run)
        except Deferred:
            raise
        except (Retryable, Permanent) as error:
            self._note_unchecked(row, error)
            return False
        finally:
            backfills.end_lease(self.db, held, has_progressed=run.pages > 0)
        return True

    def _stop(self, held: Row, error: Permanent) -> float | None:
        """The token, the repository or the cursor is the trouble: pause with an end, or try again in so many seconds."""
        is_cursor = isinstance(error, InvalidQuery) and not isinstance(error, UnknownField)
        if is_cursor and held["last_processed_cursor"]:
            # An opaque cursor that GitHub refuses is worth nothing: list again; rows that are there stay.
            backfills.start_listing(self.db, held)
            return ERROR_AGAIN_SECONDS
        minutes: int | None = CREDENTIALS_PAUSE_MINUTES
        if isinstance(error, RepositoryUnavailable):
            if not repositories.note_unavailable(self.db, [held["repository_id"]]):
                return ERROR_AGAIN_SECONDS
            minutes = UNAVAILABLE_PAUSE_MINUTES
        elif isinstance(error, UnknownField):
            # A server that is too old stays so until somebody replaces it, and resumes.
            minutes = None
        backfills.pause(self.db, held["id"], error.code, minutes=minutes, error=str(error))
        note_pause(self.db)
        return None


def tracked(db: Database, request: PlanEvent) -> Row:
    """The backfill that the event names. Raises ContractViolation if there is none."""
    if request.repository_id:
        found = backfills.of_repository(db, request.repository_id)
        if found is None:
            raise ContractViolation("repository_id", f"{request.repository_id} has no backfill; see: backfill status")
        return found
    owner, name = (request.repository or "/").split("/", 1)
    repository = repositories.find(db, owner, name)
    found = backfills.of_repository(db, repository.id) if repository else None
    if found is None:
        raise ContractViolation(
            "repository", f"{request.repository} is not tracked; run: backfill add {request.repository}"
        )
    return found


def _pieces(numbers: Sequence[int], most: int) -> list[Sequence[int]]:
    """The same in pieces of at most so many."""
    return [numbers[start : start + most] for start in range(0, len(numbers), most)]


def _is_listing(backfill: Row) -> bool:
    """Whether its listing, or a scan of its changes, goes on."""
    return backfill["listing_completed_at"] is None or backfill["scan_until"] is not None


def _counts_differ(backfill: Row, total_prs: int) -> bool:
    """Whether GitHub counts other than what is listed, and other than it is known to count without showing."""
    return total_prs - backfill["listed_prs"] not in (0, backfill["unlisted_prs"])


def _is_more_hidden(backfill: Row, difference: int, now: datetime) -> bool:
    """Whether GitHub only counts more of what it does not show, and a whole listing has confirmed not long ago that it does
    so. What is new or changed shows in the scan; what is gone makes the count smaller."""
    has_grown = difference > backfill["unlisted_prs"] > 0
    return has_grown and bool(now - backfill["listing_started_at"] < HIDDEN_LISTING_EVERY)


def _known_until(latest: datetime | None, now: datetime | None = None) -> datetime | None:
    """Until when every change is known, if GitHub's newest is ``latest``.

    GitHub's times are whole seconds: in one that has hardly passed, something else may still change. A date in the future
    is of a clock that was set wrong: changes from now on are older than it.
    """
    if latest is None:
        return None
    now = now or datetime.now(UTC)
    if latest > now - timedelta(seconds=60):
        return min(latest, now.replace(microsecond=0)) - timedelta(seconds=1)
    return latest


def _kept(row: Row | None) -> Row:
    if row is None:
        raise LeaseLost
    return row


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
