"""The worker's story: claim a chunk, read it from GitHub, store it whole, and ask for more work when little is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backfill import brake, outbox, priority
from backfill.errors import ContractViolation, Deferred, NotSent, Permanent, Removed, Retryable, StaleClaim
from backfill.github.client import ChunkDetails, GitHub, Spent
from backfill.github.errors import OutOfMemory, OutOfTime, Unreachable
from backfill.github.governor import LONGEST_SLEEP_SECONDS, NEWCOMER_SLEEP_SECONDS
from backfill.github.packing import cut
from backfill.github.reading import Terms
from backfill.github.request_size import RequestSize
from backfill.messages import Dispatch, SyncRequest
from backfill.observability import about, count, event, note_levels, problem
from backfill.queues import Queues
from backfill.store import backfills, chunks, levels, pull_requests, removals, repositories
from backfill.store.connection import Database, DatabaseUnavailable

Row = dict[str, Any]

# A chunk is given back this long before Lambda would kill the worker.
MARGIN_SECONDS = 10.0
# A lease outlasts the function's time by this much, and ends well before SQS shows the message again.
LEASE_MARGIN_SECONDS = 30.0
# The first retry of a chunk comes after this, each further one after twice as long.
FIRST_RETRY_SECONDS = 30
# Pauses that the system makes end by themselves; the cause may be gone by then.
ERROR_PAUSE_MINUTES = 60
CREDENTIALS_PAUSE_MINUTES = 60
UNAVAILABLE_PAUSE_MINUTES = 24 * 60
# The statuses that a chunk does not leave, and what is counted of them.
_ENDED = {"completed": "ChunksCompleted", "failed": "ChunksFailed"}
# A message by hand for pull requests that are being worked on comes back after this.
BUSY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Worker:
    """What one invocation works with. ``seconds_left`` is the function's remaining time."""

    db: Database
    github: GitHub
    queues: Queues
    seconds_left: Callable[[], float]

    def handle(self, message: Dispatch | SyncRequest, body: str) -> str:
        """One message of the chunk queue; what became of it, in a word. Raises only what SQS should retry."""
        try:
            return self._accept(message, body) if isinstance(message, SyncRequest) else self._process(message)
        except Removed as removed:
            event("a message is of a repository that was removed", reason=str(removed))
            return "removed"

    def _process(self, dispatch: Dispatch) -> str:
        lease = max(1.0, self.seconds_left()) + LEASE_MARGIN_SECONDS
        chunk = chunks.claim(self.db, dispatch.chunk_id, dispatch.dispatch_id, lease)
        if chunk is None:
            return self._not_claimed(dispatch)
        backfill_id = chunk["backfill_state_id"]
        repository = repositories.get(self.db, chunk["repository_id"])
        if repository is None:
            raise Removed(f"chunk {chunk['id']} has no repository")
        begin, before = time.monotonic(), self.github.spent
        fields = {"chunk_id": chunk["id"], "chunk": chunk["chunk_number"], "attempt": chunk["attempts"]}
        with about(**fields, repository=f"{repository['owner']}/{repository['name']}", backfill=backfill_id):
            event("chunk claimed", dispatch_id=dispatch.dispatch_id, pull_requests=len(chunk["pr_numbers"]))
            outcome = self._outcome(chunk, repository, before)
            count("ChunkDuration", time.monotonic() - begin)
            # Committed. What follows may fail or never come: then the message comes back, and `_not_claimed` does it.
            if outcome in _ENDED:
                self._go_on(backfill_id)
            elif outcome in ("split", "given back", "stale"):
                self._send(backfill_id=backfill_id)
            else:
                self._send(chunk_id=chunk["id"])
        return outcome

    def _outcome(self, chunk: Row, repository: Row, before: Spent) -> str:
        """What became of a claimed chunk.

        ``before`` is what the client had spent until the claim: the rest is the chunk's, whatever becomes of it.
        """
        try:
            return self._attempt(chunk, repository, before)
        except DatabaseUnavailable as broken:
            return self._after_break(chunk, before, broken)
        except StaleClaim:
            return self._stale(chunk, before)

    def _attempt(self, chunk: Row, repository: Row, before: Spent) -> str:
        """Read and store, or give the chunk back: decided on the type of what was raised."""
        try:
            outcome = self._read_and_store(chunk, repository, before)
        except DatabaseUnavailable:
            raise
        except Deferred as limit:
            self._release(chunk, before, limit.until, chunks.DEFERRED, limit.reason)
            count("ChunksDeferred")
            count("DeferralSeconds", limit.seconds)
            event("chunk deferred", reason=limit.reason, until=limit.until.isoformat(), seconds=round(limit.seconds))
            return "deferred"
        except (OutOfTime, OutOfMemory) as short:
            return self._split(chunk, before, short)
        except Permanent as error:
            return self._stop(chunk, before, error)
        except Retryable as error:
            return self._retry(chunk, before, error)
        if outcome == "completed":
            count("ChunksCompleted")
        else:
            count("ChunkErrors")
        return outcome

    def _stale(self, chunk: Row, before: Spent) -> str:
        count("StaleClaims")
        self._book(chunk, self.github.spent - before)
        problem("chunk was taken back from this worker; nothing of it was stored")
        return "stale"

    def _after_break(self, chunk: Row, before: Spent, broken: DatabaseUnavailable) -> str:
        """Whether the last COMMIT took effect is unknown: on a new connection the fence tells.

        No error of the backfill's: a restart of Postgres meets all its workers at once, and would pause it. While
        Postgres is away this raises DatabaseUnavailable; then the message comes back when the lease has ended.
        """
        try:
            return self._retry(chunk, before, broken, is_error=False)
        except StaleClaim:
            now = chunks.get(self.db, chunk["id"])
            if now is not None and now["status"] in _ENDED and now["attempts"] == chunk["attempts"]:
                count(_ENDED[now["status"]])
                return str(now["status"])
            booked = now["requests"] - chunk["requests"] if now is not None else 0
            if booked and booked == (self.github.spent - before).requests:
                # Its release took effect, whichever it was, and has booked what the chunk had cost.
                return "given back"
            return self._stale(chunk, before)

    def _split(self, chunk: Row, before: Spent, short: OutOfTime | OutOfMemory) -> str:
        """Too much for one invocation: half of it becomes a chunk of its own. One pull request alone is tried again."""
        numbers = chunk["pr_numbers"]
        spent = self.github.spent - before
        if len(numbers) == 1 or not spent.requests:
            return self._retry(chunk, before, short, is_error=False)
        half = -(-len(numbers) // 2)
        with self.db.transaction():
            chunks.release(
                self.db,
                chunk,
                available_at=None,
                counts_as_attempt=False,
                points=spent.points,
                requests=spent.requests,
                error=str(short),
                error_code=short.code,
                keep=numbers[:half],
            )
            chunks.create(self.db, chunk["backfill_state_id"], numbers[half:], origin=chunk["origin"])
            self._book(chunk, spent)
        count("ChunksSplit")
        problem("chunk was split", error=str(short), kept=half, pull_requests=len(numbers))
        return "split"

    def _not_claimed(self, dispatch: Dispatch) -> str:
        if chunks.unsend(self.db, dispatch.chunk_id, dispatch.dispatch_id):
            return "paused"
        early = chunks.seconds_early(self.db, dispatch.chunk_id, dispatch.dispatch_id)
        if early:
            if not self.queues.send_chunks([(dispatch.chunk_id, dispatch.dispatch_id, early)]):
                raise NotSent("SQS did not take the message of a deferred chunk again")
            return "early"
        count("DuplicateMessages")
        event("claim refused", chunk_id=dispatch.chunk_id, dispatch_id=dispatch.dispatch_id)
        chunk = chunks.get(self.db, dispatch.chunk_id)
        if chunk is not None:
            # Its first delivery may have ended between its COMMIT and what follows.
            self._send(backfill_id=chunk["backfill_state_id"])
            self._go_on(chunk["backfill_state_id"], brake.SHORTEST_SECONDS)
        return "duplicate"

    def _read_and_store(self, chunk: Row, repository: Row, before: Spent) -> str:
        rows, missing = self._members(chunk, repository)
        read = self.github.details(
            repository["node_id"],
            rows,
            Terms(
                request_size=_learned_size(repository),
                learn=lambda size: repositories.set_request_size(self.db, repository["id"], size.value, size.ceiling),
                seconds_left=lambda: self.seconds_left() - MARGIN_SECONDS,
                patience=LONGEST_SLEEP_SECONDS if chunk["error_code"] == chunks.DEFERRED else NEWCOMER_SLEEP_SECONDS,
            ),
        )
        begin, spent = time.monotonic(), self.github.spent - before
        with self.db.transaction():
            outcome = self._store(chunk, read, missing, spent)
            if repository["unavailable_since"] is not None:
                repositories.note_available(self.db, repository["id"])
        seconds = time.monotonic() - begin
        written = sum(len(of_table) for of_table in read.tables.values())
        count("PullRequestsStored", len(read.tables.get("pull_requests", ())))
        count("RowsWritten", written)
        count("DatabaseSeconds", seconds)
        event(
            "chunk completed",
            pull_requests=len(rows),
            failed=len(read.failed),
            rows=written,
            points=spent.points,
            requests=spent.requests,
            database_seconds=round(seconds, 3),
        )
        return outcome

    def _members(self, chunk: Row, repository: Row) -> tuple[list[Row], list[int]]:
        """The rows to read, with the connection sizes that the listing saw; and numbers that GitHub does not have."""
        rows = pull_requests.by_numbers(self.db, repository["id"], chunk["pr_numbers"])
        if chunk["origin"] == "planner":
            stale = [r for r in rows if r["detail_updated_at"] is None or r["detail_updated_at"] < r["updated_at"]]
            return [row for row in stale if row["gone_at"] is None], []
        # A person may name what was never listed, and wants what is there now.
        found = self.github.list_numbers(repository["node_id"], chunk["pr_numbers"])
        with self.db.transaction():
            chunks.fence(self.db, chunk)
            pull_requests.store_listed(self.db, repository["id"], found.contributors, found.pull_requests)
            pull_requests.note_refused(self.db, repository["id"], found.refused)
        return found.pull_requests, found.missing

    def _store(self, chunk: Row, read: ChunkDetails, missing: list[int], spent: Spent) -> str:
        """Everything about the chunk in the present transaction, the fence first: ``completed``, or ``retried`` for those
        that a lagging replica answered with an older state."""
        repository_id = chunk["repository_id"]
        chunks.fence(self.db, chunk)
        stored = pull_requests.store_divided(self.db, repository_id, read.tables, chunk["pr_numbers"])
        read_numbers = {row["number"] for row in read.tables.get("pull_requests", ())}
        older = read_numbers - set(stored.accepted) - set(stored.refused)
        failed = dict(read.failed)
        for number, reason in stored.refused.items():
            failed[number] = (pull_requests.REFUSED, reason)
        is_last = chunk["attempts"] >= chunks.MAX_ATTEMPTS
        for number in older if is_last else ():
            failed[number] = ("older_than_listed", "GitHub answered with an older state than it had listed")
        pull_requests.record_failed(self.db, repository_id, failed)
        pull_requests.mark_gone(self.db, repository_id, [*read.gone, *missing])
        notes = [f"#{number}: {text}" for number, (_, text) in sorted(failed.items())]
        notes += [
            f"#{number}: stored without {', '.join(flaw.place for flaw in flaws)}"
            for number, flaws in read.incomplete.items()
        ]
        notes += [f"#{number}: no pull request on GitHub" for number in sorted({*read.gone, *missing})]
        if older and not is_last:
            wait = FIRST_RETRY_SECONDS * 2 ** (chunk["attempts"] - 1)
            chunks.release(
                self.db,
                chunk,
                available_at=backfills.now(self.db) + timedelta(seconds=wait),
                counts_as_attempt=True,
                points=spent.points,
                requests=spent.requests,
                error=f"GitHub answered with an older state than it had listed for {len(older)} pull requests",
                error_code="older_than_listed",
                keep=sorted(older),
            )
            backfills.record_success(self.db, chunk["backfill_state_id"], points=spent.points, requests=spent.requests)
            return "retried"
        chunks.complete(
            self.db,
            chunk,
            points=spent.points,
            requests=spent.requests,
            error="; ".join(notes)[:2000] or None,
            error_code=_note_code(read, failed, notes),
        )
        backfills.record_success(self.db, chunk["backfill_state_id"], points=spent.points, requests=spent.requests)
        if failed:
            count("PullRequestsFailed", len(failed))
        if read.incomplete:
            count("PullRequestsIncomplete", len(read.incomplete))
        return "completed"

    def _retry(self, chunk: Row, before: Spent, error: Retryable, *, is_error: bool = True) -> str:
        """Another attempt later, or failed for good; three errors in a row pause the backfill."""
        problem("chunk attempt failed", error_code=error.code, error=str(error))
        count("ChunkErrors")
        if chunk["attempts"] >= chunks.MAX_ATTEMPTS:
            return self._fail(chunk, before, "attempts_spent", str(error), is_error=is_error)
        wait, spent = FIRST_RETRY_SECONDS * 2 ** (chunk["attempts"] - 1), self.github.spent - before
        with self.db.transaction():
            chunks.release(
                self.db,
                chunk,
                available_at=backfills.now(self.db) + timedelta(seconds=wait),
                counts_as_attempt=True,
                points=spent.points,
                requests=spent.requests,
                error=str(error)[:2000],
                error_code=error.code,
            )
            paused = is_error and self._record_error(chunk, str(error), is_outage=isinstance(error, Unreachable))
            self._book(chunk, spent)
        if paused:
            note_pause(self.db)
        return "retried"

    def _stop(self, chunk: Row, before: Spent, error: Permanent) -> str:
        """The token or the repository, not the chunk, is the trouble: give it back and pause, with an end."""
        problem("backfill stopped", error_code=error.code, error=str(error))
        if error.code == "repository_unavailable":
            if not repositories.note_unavailable(self.db, [chunk["repository_id"]]):
                # Perhaps a hiccup: the second look comes minutes later, and is no attempt.
                again = backfills.now(self.db) + timedelta(seconds=repositories.LOOK_AGAIN_SECONDS + 1)
                self._release(chunk, before, again, error.code, str(error))
                return "retried"
            minutes = UNAVAILABLE_PAUSE_MINUTES
        elif error.code in ("bad_credentials", "forbidden"):
            minutes = CREDENTIALS_PAUSE_MINUTES
        else:
            return self._fail(chunk, before, error.code, str(error), is_error=True)
        # A person's chunk passes a person's pause: it waits as long as the system's own pause would last.
        until = backfills.now(self.db) + timedelta(minutes=minutes)
        self._release(chunk, before, until, error.code, str(error), pause_minutes=minutes)
        note_pause(self.db)
        return "paused"

    def _release(
        self,
        chunk: Row,
        before: Spent,
        until: datetime | None,
        code: str,
        reason: str,
        *,
        pause_minutes: int | None = None,
    ) -> None:
        """Give the chunk back without an attempt lost, and pause the backfill where that is called for; what the chunk
        has cost so far stays booked."""
        spent = self.github.spent - before
        with self.db.transaction():
            chunks.release(
                self.db,
                chunk,
                available_at=until,
                counts_as_attempt=False,
                points=spent.points,
                requests=spent.requests,
                error=reason[:2000],
                error_code=code,
            )
            if pause_minutes is not None:
                backfills.pause(self.db, chunk["backfill_state_id"], code, minutes=pause_minutes, error=reason[:2000])
            self._book(chunk, spent)

    def _fail(self, chunk: Row, before: Spent, code: str, reason: str, *, is_error: bool) -> str:
        spent = self.github.spent - before
        with self.db.transaction():
            chunks.fail(
                self.db,
                chunk,
                points=spent.points,
                requests=spent.requests,
                error=reason[:2000],
                error_code=code,
            )
            paused = is_error and self._record_error(chunk, reason)
            self._book(chunk, spent)
        if paused:
            note_pause(self.db)
        count("ChunksFailed")
        problem("chunk failed", error_code=code, error=reason)
        return "failed"

    def _record_error(self, chunk: Row, error: str, *, is_outage: bool = False) -> bool:
        """Count an error of the backfill; True if it paused it."""
        return backfills.record_error(
            self.db,
            chunk["backfill_state_id"],
            error[:2000],
            pause_minutes=ERROR_PAUSE_MINUTES,
            is_outage=is_outage,
        )

    def _book(self, chunk: Row, spent: Spent) -> None:
        backfills.book(self.db, chunk["backfill_state_id"], points=spent.points, requests=spent.requests)

    def _send(self, *, backfill_id: str | None = None, chunk_id: str | None = None) -> None:
        """What is committed and was not sent. Raises NotSent if SQS does not take it all."""
        sent = outbox.send(self.db, self.queues, backfill_id=backfill_id, chunk_id=chunk_id)
        if sent.refused:
            raise NotSent(f"SQS did not take {sent.refused} messages of {sent.refused + sent.accepted}")

    def _go_on(self, backfill_id: str, seconds: float = 0) -> None:
        """Few chunks left: ask for planning after ``seconds``, which also settles the backfill when nothing is left."""
        backfill = backfills.get(self.db, backfill_id)
        if backfill is None:
            return
        _, most = priority.marks(backfill)
        if priority.is_low(chunks.outstanding(self.db, backfill_id)["planned"], most):
            outbox.request_plan(self.db, self.queues, backfill, seconds)

    def _accept(self, request: SyncRequest, body: str) -> str:
        """A message by hand becomes chunks of its own; what a pending chunk holds is covered by that chunk."""
        owner, name = request.repository.split("/", 1)
        repository = repositories.find(self.db, owner, name)
        backfill = backfills.of_repository(self.db, repository["id"]) if repository else None
        if (repository is None or backfill is None) and removals.was_removed(self.db, request.repository):
            event("a message is of a repository that was removed", repository=request.repository)
            return "removed"
        if repository is None or backfill is None:
            raise ContractViolation(
                "repository", f"{request.repository} is not tracked; run: backfill add {request.repository}"
            )
        held = chunks.covered(self.db, backfill["id"], request.pr_numbers)
        if "processing" in held.values():
            # What is being read now may be older than what this person wants.
            self.queues.send_body(body, BUSY_SECONDS)
            return "busy"
        # What a pending chunk holds is read with that chunk, and now.
        chunks.hurry(self.db, backfill["id"], list(held))
        known = {row["number"]: row for row in pull_requests.by_numbers(self.db, repository["id"], request.pr_numbers)}
        free = [known.get(number, _unknown(number)) for number in request.pr_numbers if number not in held]
        try:
            with self.db.transaction():
                for numbers in cut(free, backfill["chunk_size"], len(free)):
                    chunks.create(self.db, backfill["id"], numbers, origin="message")
        except chunks.InAnotherChunk:
            self.queues.send_body(body, BUSY_SECONDS)
            return "busy"
        self._send(backfill_id=backfill["id"])
        count("SyncRequests")
        return "accepted"


def _learned_size(repository: Row) -> RequestSize:
    """What was learned of this repository's requests."""
    size = repository["detail_request_size"]
    return RequestSize() if size is None else RequestSize(float(size), repository["detail_request_ceiling"])


def _note_code(read: ChunkDetails, failed: Mapping[int, object], notes: Sequence[str]) -> str | None:
    """What the note of a completed chunk is about, at its worst."""
    if failed:
        return "members_failed"
    if read.incomplete:
        return "members_incomplete"
    return "members_gone" if notes else None


def note_pause(db: Database) -> None:
    """Trouble has paused a backfill: the alarms shall know it now, not at the next heartbeat."""
    count("BackfillsPaused")
    note_levels(levels.read(db))


def _unknown(number: int) -> Row:
    """A pull request that was never listed: taken for one without connections when chunks are cut."""
    sizes = (
        "labels",
        "assignees",
        "review_requests",
        "closing_issues",
        "comments",
        "reviews",
        "review_threads",
        "commits",
        "files",
    )
    return {"number": number, "total_comments_count": 0, **{f"{size}_count": 0 for size in sizes}}
