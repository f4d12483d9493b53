"""A worker's run: claim a chunk, read it from GitHub, store it whole, and ask for planning when few chunks are left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from backfill import brake, outbox, outcomes, priority
from backfill.chunk_worker.handled import Handled, handled
from backfill.chunk_worker.judging import Members, judge, undetailed
from backfill.chunk_worker.sync_requests import accept
from backfill.error_codes import ErrorCode
from backfill.errors import DatabaseUnavailable, Deferred, NotSent, Permanent, Removed, Retryable, StaleClaim
from backfill.github.client import GitHub
from backfill.github.errors import RepositoryUnavailable
from backfill.github.governor import LONGEST_SLEEP_SECONDS, NEWCOMER_SLEEP_SECONDS
from backfill.github.reading import ChunkDetails, Terms
from backfill.github.request_size import RequestSize
from backfill.messages import SyncRequest
from backfill.model import Chunk, Dispatch, Origin, Repository, Spent, Waiting
from backfill.observability import about, count, event, problem
from backfill.outcomes import Attempt, Ending, Outcome
from backfill.pauses import note_pause
from backfill.queues import Queues
from backfill.store import (
    backfills,
    chunks,
    conclusions,
    dispatches,
    pull_requests,
    refused_numbers,
    repositories,
    timelines,
)
from backfill.store.connection import Database

# The worker gives a chunk back this long before Lambda would kill it.
MARGIN_SECONDS = 10.0
# A lease outlasts the function's time by this much, and ends well before SQS shows the message again.
LEASE_MARGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed chunk. ``spent_before`` is what the client had spent until the claim: the rest is the chunk's cost."""

    chunk: Chunk
    repository: Repository
    spent_before: Spent


@dataclass(frozen=True, slots=True)
class Worker:
    """What one invocation works with. ``seconds_left`` is the function's remaining time."""

    db: Database
    github: GitHub
    queues: Queues
    seconds_left: Callable[[], float]

    def handle(self, message: Dispatch | SyncRequest, body: str) -> Handled:
        """Handle one message of the chunk queue. Raises only what SQS should retry, and ContractViolation."""
        try:
            if isinstance(message, SyncRequest):
                return accept(self.db, self.queues, message, body)
            return self._process(message)
        except Removed as removed:
            event("a message is of a repository that was removed", reason=str(removed))
            return Handled.REMOVED

    def _process(self, dispatch: Dispatch) -> Handled:
        lease = max(1.0, self.seconds_left()) + LEASE_MARGIN_SECONDS
        chunk = chunks.claim(self.db, dispatch, lease)
        if chunk is None:
            return self._not_claimed(dispatch)
        repository = repositories.get(self.db, chunk.repository_id)
        if repository is None:
            raise Removed(f"chunk {chunk.id} has no repository")
        claim, begin = Claim(chunk, repository, self.github.spent), time.monotonic()
        fields = {"chunk_id": chunk.id, "chunk": chunk.chunk_number, "attempt": chunk.attempts}
        with about(**fields, repository=repository.full_name, backfill=chunk.backfill_id):
            event("chunk claimed", dispatch_id=dispatch.dispatch_id, pull_requests=len(chunk.pr_numbers))
            ending = self._end(claim)
            count("ChunkDuration", time.monotonic() - begin)
            # Committed. If the follow-up fails or never happens, the message comes back and `_not_claimed` does it.
            self._follow_up(chunk, ending)
        return handled(ending)

    def _end(self, claim: Claim) -> Ending:
        """Read and store the chunk, or write what stands in the way; how the claim ended."""
        try:
            try:
                ending: Ending = self._read_and_store(claim)
            except (Deferred, Permanent, Retryable) as error:
                ending = self._after_error(claim, error)
        except DatabaseUnavailable as broken:
            ending = self._after_break(claim, broken)
        except StaleClaim:
            ending = outcomes.Superseded()
        if isinstance(ending, outcomes.Superseded):
            self._book(claim)
        _tell(ending)
        return ending

    def _after_error(self, claim: Claim, error: Deferred | Permanent | Retryable) -> Outcome:
        """Decide what becomes of the chunk, and write it."""
        if isinstance(error, Deferred):
            count("DeferralSeconds", error.seconds)
        looked_before = isinstance(error, RepositoryUnavailable) and bool(
            repositories.note_unavailable(self.db, [claim.repository.id])
        )
        outcome = outcomes.decide(
            error, Attempt.of(claim.chunk, self._spent(claim)), backfills.now(self.db), looked_before=looked_before
        )
        return self._write(claim, outcome)

    def _after_break(self, claim: Claim, broken: DatabaseUnavailable) -> Ending:
        """Whether the last COMMIT took effect is unknown: on a new connection the fence tells.

        This is not an error of the backfill: a restart of Postgres meets all its workers at once, and would pause it.
        While Postgres is away this raises DatabaseUnavailable, and the message comes back when the lease has ended.
        """
        outcome = outcomes.retried(
            broken, Attempt.of(claim.chunk, self._spent(claim)), backfills.now(self.db), counts=False
        )
        try:
            return self._write(claim, outcome)
        except StaleClaim:
            return outcomes.after_lost_commit(claim.chunk, chunks.get(self.db, claim.chunk.id), self._spent(claim))

    def _write(self, claim: Claim, outcome: Outcome) -> Outcome:
        with self.db.transaction():
            pauses = conclusions.conclude(self.db, claim.chunk, outcome, self._spent(claim))
        if pauses:
            note_pause(self.db)
        return outcome

    def _book(self, claim: Claim) -> None:
        """What a superseded attempt has cost is spent all the same."""
        spent = self._spent(claim)
        backfills.book(self.db, claim.chunk.backfill_id, spent)

    def _read_and_store(self, claim: Claim) -> Outcome:
        members = self._members(claim)
        read = self.github.of(claim.repository.owner).details(
            claim.repository.node_id, members.rows, self._terms(claim)
        )
        begin, spent = time.monotonic(), self._spent(claim)
        with self.db.transaction():
            outcome = self._store(claim, members, read, spent)
            if claim.repository.unavailable_since is not None:
                repositories.note_available(self.db, claim.repository.id)
        seconds = time.monotonic() - begin
        written = sum(len(of_table) for of_table in read.tables.values())
        count("PullRequestsStored", len(read.tables.get("pull_requests", ())))
        count("RowsWritten", written)
        count("DatabaseSeconds", seconds)
        event(
            "chunk completed",
            pull_requests=len(members.rows),
            failed=len(read.failed),
            rows=written,
            points=spent.points,
            requests=spent.requests,
            database_seconds=round(seconds, 3),
        )
        return outcome

    def _members(self, claim: Claim) -> Members:
        chunk, repository = claim.chunk, claim.repository
        if chunk.origin is Origin.PLANNER:
            return undetailed(pull_requests.by_numbers(self.db, repository.id, chunk.pr_numbers))
        # A person may name a number that was never listed, and wants the state of now.
        found = self.github.of(repository.owner).list_numbers(repository.node_id, chunk.pr_numbers)
        with self.db.transaction():
            chunks.fence(self.db, chunk)
            pull_requests.store_listed(self.db, repository.id, found.contributors, found.pull_requests)
            refused_numbers.note_refused(self.db, repository.id, found.refused)
        return Members(found.pull_requests, found.missing)

    def _terms(self, claim: Claim) -> Terms:
        repository = claim.repository
        learned, ceiling = repository.detail_request_size, repository.detail_request_ceiling
        return Terms(
            request_size=RequestSize() if learned is None else RequestSize(learned, ceiling),
            learn=lambda size: repositories.set_request_size(self.db, repository.id, size.value, size.ceiling),
            seconds_left=lambda: self.seconds_left() - MARGIN_SECONDS,
            patience=LONGEST_SLEEP_SECONDS if claim.chunk.was_deferred else NEWCOMER_SLEEP_SECONDS,
            timeline=claim.chunk.reads_timeline,
        )

    def _store(self, claim: Claim, members: Members, read: ChunkDetails, spent: Spent) -> Outcome:
        """Write everything about the chunk in the present transaction, the fence first."""
        chunk, repository_id = claim.chunk, claim.repository.id
        now = chunks.fence(self.db, chunk)
        stored = pull_requests.store_divided(self.db, repository_id, read.tables, chunk.pr_numbers)
        judged = judge(Attempt.of(chunk, spent), members, read, stored, now)
        pull_requests.record_failed(self.db, repository_id, judged.failed)
        pull_requests.mark_denied(self.db, repository_id, judged.gone)
        if judged.failed:
            count("PullRequestsFailed", len(judged.failed))
        if read.incomplete:
            count("PullRequestsIncomplete", len(read.incomplete))
        conclusions.conclude(self.db, chunk, judged.outcome, spent)
        if not chunk.reads_timeline:
            timelines.mark_if_wanted_since(self.db, repository_id, chunk.pr_numbers)
        return judged.outcome

    def _not_claimed(self, dispatch: Dispatch) -> Handled:
        if dispatches.unsend(self.db, dispatch):
            return Handled.PAUSED
        early = dispatches.seconds_early(self.db, dispatch)
        if early:
            if not self.queues.send_chunks([Waiting(dispatch, early)]):
                raise NotSent("SQS did not take the message of a deferred chunk again")
            return Handled.EARLY
        count("DuplicateMessages")
        event("claim refused", chunk_id=dispatch.chunk_id, dispatch_id=dispatch.dispatch_id)
        chunk = chunks.get(self.db, dispatch.chunk_id)
        if chunk is not None:
            # Its first delivery may have ended between its COMMIT and the follow-up.
            outbox.send_all(self.db, self.queues, backfill_id=chunk.backfill_id)
            self._request_planning_if_low(chunk.backfill_id, brake.SHORTEST_SECONDS)
        return Handled.DUPLICATE

    def _follow_up(self, chunk: Chunk, ending: Ending) -> None:
        """Send what follows from a committed ending. Raises NotSent."""
        match ending:
            case outcomes.Completed() | outcomes.Failed():
                self._request_planning_if_low(chunk.backfill_id)
            case outcomes.Split() | outcomes.Released() | outcomes.Superseded():
                outbox.send_all(self.db, self.queues, backfill_id=chunk.backfill_id)
            case outcomes.Deferred() | outcomes.Retried() | outcomes.Stopped():
                outbox.send_all(self.db, self.queues, chunk_id=chunk.id)

    def _request_planning_if_low(self, backfill_id: str, seconds: float = 0) -> None:
        """Few chunks left: ask for planning after ``seconds``, which also settles the backfill when nothing is left."""
        backfill = backfills.get(self.db, backfill_id)
        if backfill is None:
            return
        most = priority.marks(backfill).chunks
        if priority.is_low(chunks.outstanding(self.db, backfill_id).planned, most):
            outbox.request_plan(self.db, self.queues, backfill, seconds)

    def _spent(self, claim: Claim) -> Spent:
        return self.github.spent - claim.spent_before


def _tell(ending: Ending) -> None:
    """Metrics and log lines of an ending."""
    match ending:
        case outcomes.Completed():
            count("ChunksCompleted")
        case outcomes.Deferred(until, code, reason):
            if code is ErrorCode.DEFERRED:
                count("ChunksDeferred")
            event("chunk deferred", error_code=code, reason=reason, until=until.isoformat())
        case outcomes.Retried(_, code, reason):
            count("ChunkErrors")
            problem("chunk attempt failed", error_code=code, error=reason)
        case outcomes.Split(kept, moved, _, reason):
            count("ChunksSplit")
            problem("chunk was split", error=reason, kept=len(kept), moved=len(moved))
        case outcomes.Stopped(_, _, code, reason):
            problem("backfill stopped", error_code=code, error=reason)
        case outcomes.Failed(code, reason):
            if code is ErrorCode.ATTEMPTS_SPENT:
                count("ChunkErrors")
            count("ChunksFailed")
            problem("chunk failed", error_code=code, error=reason)
        case outcomes.Superseded():
            count("StaleClaims")
            problem("chunk was taken back from this worker; nothing of it was stored")
