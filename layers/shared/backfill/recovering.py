"""Recovery's story: take back what is stuck, send what was lost, empty the dead-letter queue, clean up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backfill import outbox
from backfill.errors import ContractViolation
from backfill.messages import Dispatch, RecoveryEvent, chunk_message
from backfill.observability import count, event, problem
from backfill.queues import Queues
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
            return {"dry_run": True, **counts}
        backfills.resume_due(self.db)
        requeued, failed = self._stale(request.stuck_threshold)
        dead = self._dead_letters()
        lost = chunks.recover_lost(self.db, request.stuck_threshold, MOST_SENT, queue_is_empty=empty)
        sent = outbox.send(self.db, self.queues, limit=MOST_SENT)
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
            for row in failed:
                chunks.fail_members(self.db, row["id"])
        return len(taken) - len(failed), len(failed)

    def _dead_letters(self) -> dict[str, int]:
        """A message is removed only after its chunk has been dealt with; what matches nothing stays, and is told."""
        matched = unmatched = 0
        for letter in self.queues.dead_letters(MOST_DEAD_LETTERS):
            try:
                message = chunk_message(letter.body)
            except ContractViolation as violation:
                problem("a dead letter matches nothing", message_id=letter.message_id, reason=str(violation))
                unmatched += 1
                continue
            if not isinstance(message, Dispatch) or chunks.get(self.db, message.chunk_id) is None:
                problem("a dead letter matches nothing", message_id=letter.message_id, reason="no chunk")
                unmatched += 1
                continue
            with self.db.transaction():
                row = chunks.recover_dead(self.db, message.chunk_id, message.dispatch_id)
                if row is not None and row["status"] == "failed":
                    chunks.fail_members(self.db, row["id"])
            self.queues.delete_dead_letter(letter)
            matched += 1
        return {"dead_letters_matched": matched, "dead_letters_left": unmatched}

    def _clean_up(self, days: int) -> int:
        deleted = 0
        while batch := chunks.clean_up(self.db, days, CLEANUP_BATCH):
            deleted += batch
        return deleted
