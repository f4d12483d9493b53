"""Recovery's story: take back what is stuck, send what was lost, empty the dead-letter queue, clean up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backfill import dead_letters, outbox
from backfill.messages import RecoveryEvent
from backfill.observability import count, event
from backfill.queues import Queues
from backfill.store import backfills, chunks
from backfill.store.connection import Database

# Per run: what is left is the next run's.
MOST_SENT = 1000
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
        dead = dead_letters.take_back(self.db, self.queues)
        lost = chunks.recover_lost(self.db, request.stuck_threshold, MOST_SENT, queue_is_empty=empty)
        sent = outbox.send(self.db, self.queues, limit=MOST_SENT).accepted
        report = {
            "dry_run": False,
            "requeued": requeued,
            "failed": failed,
            "lost": lost,
            "sent": sent,
            "dead_letters_matched": dead.matched,
            "dead_letters_left": dead.left,
            "deleted": self._clean_up(request.cleanup_days),
        }
        count("ChunksRecovered", requeued + lost)
        count("DeadLettersLeft", dead.left)
        event("recovered", **report)
        return report

    def _stale(self, threshold_minutes: int) -> tuple[int, int]:
        with self.db.transaction():
            taken = chunks.recover_stale(self.db, threshold_minutes, MOST_SENT)
            failed = [row for row in taken if row["status"] == "failed"]
            chunks.fail_members(self.db, *(row["id"] for row in failed))
        return len(taken) - len(failed), len(failed)

    def _clean_up(self, days: int) -> int:
        deleted = 0
        while batch := chunks.clean_up(self.db, days, CLEANUP_BATCH):
            deleted += batch
        return deleted
