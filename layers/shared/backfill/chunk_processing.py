"""The worker's story: claim a chunk, read it from GitHub, store it whole, and ask for more work when little is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backfill import brake, outbox, outcomes, priority
from backfill.error_codes import ErrorCode
from backfill.errors import ContractViolation, Deferred, NotSent, Permanent, Removed, Retryable, StaleClaim
from backfill.github.client import ChunkDetails, GitHub
from backfill.github.errors import RepositoryUnavailable
from backfill.github.governor import LONGEST_SLEEP_SECONDS, NEWCOMER_SLEEP_SECONDS
from backfill.github.packing import cut
from backfill.github.reading import Flaw, Terms
from backfill.github.request_size import RequestSize
from backfill.messages import Dispatch, SyncRequest
from backfill.model import Spent
from backfill.observability import about, count, event, note_levels, problem
from backfill.outcomes import (
    Attempt,
    Completed,
    Failed,
    Outcome,
    Retried,
    Split,
    Stopped,
    decide,
    retried,
    retry_at,
)
from backfill.queues import Queues
from backfill.store import backfills, chunks, conclusions, levels, pull_requests, removals, repositories
from backfill.store.connection import Database, DatabaseUnavailable

Row = dict[str, Any]

# A chunk is given back this long before Lambda would kill the worker.
MARGIN_SECONDS = 10.0
# A lease outlasts the function's time by this much, and ends well before SQS shows the message again.
LEASE_MARGIN_SECONDS = 30.0
OLDER = "GitHub answered with an older state than it had listed"
# The statuses that a chunk does not leave, and what is counted of them.
_ENDED = {"completed": "ChunksCompleted", "failed": "ChunksFailed"}
# Outcomes in the log, and in a handler's answer.
_WORDS: dict[type[Outcome], str] = {
    Completed: "completed",
    outcomes.Deferred: "deferred",
    Retried: "retried",
    Split: "split",
    Stopped: "paused",
    Failed: "failed",
}
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
        """What became of a claimed chunk, in a word.

        ``before`` is what the client had spent until the claim: the rest is the chunk's, whatever becomes of it.
        """
        try:
            try:
                outcome = self._read_and_store(chunk, repository, before)
            except (Deferred, Permanent, Retryable) as error:
                outcome = self._after_error(chunk, before, error)
        except DatabaseUnavailable as broken:
            return self._after_break(chunk, before, broken)
        except StaleClaim:
            return self._stale(chunk, before)
        self._tell(outcome)
        return _WORDS[type(outcome)]

    def _after_error(self, chunk: Row, before: Spent, error: Deferred | Permanent | Retryable) -> Outcome:
        """Decide what becomes of the chunk, and write it."""
        if isinstance(error, Deferred):
            count("DeferralSeconds", error.seconds)
        looked_before = isinstance(error, RepositoryUnavailable) and bool(
            repositories.note_unavailable(self.db, [chunk["repository_id"]])
        )
        attempt = _attempt(chunk, self.github.spent - before)
        return self._write(chunk, before, decide(error, attempt, backfills.now(self.db), looked_before=looked_before))

    def _write(self, chunk: Row, before: Spent, outcome: Outcome) -> Outcome:
        with self.db.transaction():
            paused = conclusions.conclude(self.db, chunk, outcome, self.github.spent - before)
        if paused:
            note_pause(self.db)
        return outcome

    def _tell(self, outcome: Outcome) -> None:
        """Metrics and log lines of an outcome."""
        match outcome:
            case Completed():
                count("ChunksCompleted")
            case outcomes.Deferred(until, code, reason):
                if code is ErrorCode.DEFERRED:
                    count("ChunksDeferred")
                event("chunk deferred", error_code=code, reason=reason, until=until.isoformat())
            case Retried(_, code, reason):
                count("ChunkErrors")
                problem("chunk attempt failed", error_code=code, error=reason)
            case Split(kept, moved, _, reason):
                count("ChunksSplit")
                problem("chunk was split", error=reason, kept=len(kept), moved=len(moved))
            case Stopped(_, _, code, reason):
                problem("backfill stopped", error_code=code, error=reason)
            case Failed(code, reason):
                if code is ErrorCode.ATTEMPTS_SPENT:
                    count("ChunkErrors")
                count("ChunksFailed")
                problem("chunk failed", error_code=code, error=reason)

    def _stale(self, chunk: Row, before: Spent) -> str:
        count("StaleClaims")
        spent = self.github.spent - before
        backfills.book(self.db, chunk["backfill_state_id"], points=spent.points, requests=spent.requests)
        problem("chunk was taken back from this worker; nothing of it was stored")
        return "stale"

    def _after_break(self, chunk: Row, before: Spent, broken: DatabaseUnavailable) -> str:
        """Whether the last COMMIT took effect is unknown: on a new connection the fence tells.

        It is not an error of the backfill: a restart of Postgres meets all its workers at once, and would pause it. While
        Postgres is away this raises DatabaseUnavailable; then the message comes back when the lease has ended.
        """
        attempt = _attempt(chunk, self.github.spent - before)
        try:
            outcome = self._write(chunk, before, retried(broken, attempt, backfills.now(self.db), counts=False))
        except StaleClaim:
            return self._after_commit(chunk, before)
        self._tell(outcome)
        return _WORDS[type(outcome)]

    def _after_commit(self, chunk: Row, before: Spent) -> str:
        """The COMMIT whose answer was lost took effect, or another worker has the chunk."""
        now = chunks.get(self.db, chunk["id"])
        if now is not None and now["status"] in _ENDED and now["attempts"] == chunk["attempts"]:
            count(_ENDED[now["status"]])
            return str(now["status"])
        booked = now["requests"] - chunk["requests"] if now is not None else 0
        if booked and booked == (self.github.spent - before).requests:
            # Its release took effect, whichever it was, and has booked what the chunk had cost.
            return "given back"
        return self._stale(chunk, before)

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

    def _read_and_store(self, chunk: Row, repository: Row, before: Spent) -> Outcome:
        rows, missing = self._members(chunk, repository)
        read = self.github.details(
            repository["node_id"],
            rows,
            Terms(
                request_size=_learned_size(repository),
                learn=lambda size: repositories.set_request_size(self.db, repository["id"], size.value, size.ceiling),
                seconds_left=lambda: self.seconds_left() - MARGIN_SECONDS,
                patience=LONGEST_SLEEP_SECONDS if chunk["error_code"] == ErrorCode.DEFERRED else NEWCOMER_SLEEP_SECONDS,
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

    def _store(self, chunk: Row, read: ChunkDetails, missing: list[int], spent: Spent) -> Outcome:
        """Everything about the chunk in the present transaction, the fence first. Members that a lagging replica answered
        with an older state are read again."""
        repository_id = chunk["repository_id"]
        chunks.fence(self.db, chunk)
        stored = pull_requests.store_divided(self.db, repository_id, read.tables, chunk["pr_numbers"])
        attempt = _attempt(chunk, spent)
        read_numbers = {row["number"] for row in read.tables.get("pull_requests", ())}
        older = read_numbers - set(stored.accepted) - set(stored.refused)
        failed = dict(read.failed)
        failed |= {number: (ErrorCode.VALUE_REFUSED, reason) for number, reason in stored.refused.items()}
        if attempt.is_last:
            failed |= dict.fromkeys(older, (ErrorCode.OLDER_THAN_LISTED, OLDER))
        gone = sorted({*read.gone, *missing})
        pull_requests.record_failed(self.db, repository_id, failed)
        pull_requests.mark_gone(self.db, repository_id, gone)
        if failed:
            count("PullRequestsFailed", len(failed))
        if read.incomplete:
            count("PullRequestsIncomplete", len(read.incomplete))
        outcome: Outcome = _completed(failed, read.incomplete, gone)
        if older and not attempt.is_last:
            reason = f"{OLDER} ({len(older)} pull requests)"
            at = retry_at(attempt, backfills.now(self.db))
            outcome = Retried(at, ErrorCode.OLDER_THAN_LISTED, reason, keep=tuple(sorted(older)))
        conclusions.conclude(self.db, chunk, outcome, spent)
        return outcome

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


def _attempt(chunk: Row, spent: Spent) -> Attempt:
    return Attempt(tuple(chunk["pr_numbers"]), chunk["attempts"], spent.requests)


def _completed(
    failed: Mapping[int, tuple[str, str]], incomplete: Mapping[int, Sequence[Flaw]], gone: Sequence[int]
) -> Completed:
    """Completed, with a note about each member that is not whole."""
    notes = [f"#{number}: {text}" for number, (_, text) in sorted(failed.items())]
    for number, flaws in incomplete.items():
        notes.append(f"#{number}: stored without {', '.join(flaw.place for flaw in flaws)}")
    notes += [f"#{number}: no pull request on GitHub" for number in gone]
    if not notes:
        return Completed()
    worst = ErrorCode.MEMBERS_INCOMPLETE if incomplete else ErrorCode.MEMBERS_GONE
    return Completed("; ".join(notes), ErrorCode.MEMBERS_FAILED if failed else worst)


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
