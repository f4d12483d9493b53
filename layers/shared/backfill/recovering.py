"""Recovery's story: take back what is stuck, send what was lost, empty the dead-letter queue, clean up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backfill import outbox
from backfill.errors import ContractViolation
from backfill.messages import PlanEvent, RecoveryEvent, SyncRequest, chunk_message, plan_request
from backfill.observability import count, event, problem
from backfill.queues import DeadLetter, Queues, Source
from backfill.store import backfills, chunks
from backfill.store.connection import Database

# Per run: what is left is the next run's.
MOST_SENT = 1000
MOST_DEAD_LETTERS = 500
CLEANUP_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one invocation works with."""

    db: Database
    queues: Queues

    def recover(self, request: RecoveryEvent) -> dict[str, Any]:
        """One run: counts of what was done, or in a dry run of what would be done."""
        empty = self.queues.chunks_waiting() == 0
        if request.dry_run:
            counts = chunks.what_recovery_would_do(
                self.db, request.stuck_threshold, request.cleanup_days, queue_is_empty=empty
            )
            return {"dry_run": True, **counts, "dead_letters": self.queues.dead_letters_waiting()}
        backfills.resume_due(self.db)
        requeued, failed = self._stale(request.stuck_threshold)
        dead = self._dead_letters()
        lost = chunks.recover_lost(self.db, request.stuck_threshold, MOST_SENT, queue_is_empty=empty)
        sent = outbox.send(self.db, self.queues, limit=MOST_SENT).accepted
        report = {
            "dry_run": False,
            "requeued": requeued,
            "failed": failed,
            "lost": lost,
            "sent": sent,
            **dead,
            "deleted": self._clean_up(request.cleanup_days),
        }
        count("ChunksRecovered", requeued + lost)
        count("DeadLettersLeft", dead["dead_letters_left"])
        event("recovered", **report)
        return report

    def _stale(self, threshold_minutes: int) -> tuple[int, int]:
        with self.db.transaction():
            taken = chunks.recover_stale(self.db, threshold_minutes, MOST_SENT)
            failed = [row for row in taken if row["status"] == "failed"]
            chunks.fail_members(self.db, *(row["id"] for row in failed))
        return len(taken) - len(failed), len(failed)

    def _dead_letters(self) -> dict[str, int]:
        """A letter is removed only after what it was about has been dealt with; what matches nothing stays, and is told."""
        matched = unmatched = 0
        for letter in self.queues.dead_letters(MOST_DEAD_LETTERS):
            reason = self._deal_with(letter)
            if reason is not None:
                problem("a dead letter matches nothing", message_id=letter.message_id, reason=reason)
                unmatched += 1
                continue
            self.queues.delete_dead_letter(letter)
            matched += 1
        return {"dead_letters_matched": matched, "dead_letters_left": unmatched}

    def _deal_with(self, letter: DeadLetter) -> str | None:
        """Requeue the chunk or the planning of a letter; or the reason why it matches neither."""
        if letter.reason is not None:
            return letter.reason
        try:
            message = chunk_message(letter.body)
        except ContractViolation as violation:
            return self._plan_again(letter) if letter.queue is Source.PLANS else str(violation)
        if isinstance(message, SyncRequest):
            return "a message by hand that failed again and again; send it again by: backfill dead-letters redrive"
        if chunks.get(self.db, message.chunk_id) is None:
            event("a dead letter is of a chunk that was removed", chunk_id=message.chunk_id)
            return None
        with self.db.transaction():
            row = chunks.recover_dead(self.db, message.chunk_id, message.dispatch_id)
            if row is not None and row["status"] == "failed":
                chunks.fail_members(self.db, row["id"])
        event("a dead letter was matched", chunk_id=message.chunk_id, status=row["status"] if row else "settled before")
        return None

    def _plan_again(self, letter: DeadLetter) -> str | None:
        """A plan request that failed again and again is answered by a fresh one, unless one is on its way. A person's own
        request is sent again as it is."""
        request = plan_request(letter.body)
        if request is None:
            return "no plan request"
        if request != PlanEvent(repository_id=request.repository_id) or request.repository_id is None:
            self.queues.redrive(letter)
            return None
        backfill = backfills.of_repository(self.db, request.repository_id)
        if backfill is None:
            event("a dead letter is of a repository that was removed", repository_id=request.repository_id)
            return None
        outbox.request_plan(self.db, self.queues, backfill)
        event("a dead letter was matched", repository_id=request.repository_id, status=backfill["status"])
        return None

    def _clean_up(self, days: int) -> int:
        deleted = 0
        while batch := chunks.clean_up(self.db, days, CLEANUP_BATCH):
            deleted += batch
        return deleted
