"""A recovery run: requeue expired claims, send lost messages, empty the dead-letter queue, clean up."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from backfill import dead_letters, outbox
from backfill.messages import RecoveryEvent
from backfill.model import ChunkStatus
from backfill.observability import count, event
from backfill.queues import Queues
from backfill.store import backfills, recoveries
from backfill.store.connection import Database

# Per run: the next run takes the rest.
MOST_SENT = 1000
CLEANUP_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a run did, in chunks, messages and dead letters."""

    requeued: int
    failed: int
    lost: int
    sent: int
    dead_letters_matched: int
    dead_letters_left: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one invocation works with."""

    db: Database
    queues: Queues

    def recover(self, request: RecoveryEvent) -> dict[str, int]:
        """One run; its counts, or those of what it would do. ``dry_run`` says which."""
        empty = self.queues.chunks_waiting() == 0
        if request.dry_run:
            found = recoveries.recoverable(self.db, request.stuck_threshold, request.cleanup_days, queue_is_empty=empty)
            return {"dry_run": True, **found, "dead_letters": self.queues.dead_letters_waiting()}
        report = {"dry_run": False, **asdict(self._recover(request, queue_is_empty=empty))}
        event("recovered", **report)
        return report

    def _recover(self, request: RecoveryEvent, *, queue_is_empty: bool) -> Recovered:
        backfills.resume_due(self.db)
        with self.db.transaction():
            taken = recoveries.requeue_expired(self.db, request.stuck_threshold, MOST_SENT)
        failed = sum(each.status is ChunkStatus.FAILED for each in taken)
        dead = dead_letters.take_back(self.db, self.queues)
        lost = recoveries.requeue_lost(self.db, request.stuck_threshold, MOST_SENT, queue_is_empty=queue_is_empty)
        sent = outbox.send(self.db, self.queues, limit=MOST_SENT).accepted
        deleted = self._clean_up(request.cleanup_days)
        count("ChunksRecovered", len(taken) - failed + lost)
        count("DeadLettersLeft", dead.left)
        return Recovered(len(taken) - failed, failed, lost, sent, dead.matched, dead.left, deleted)

    def _clean_up(self, days: int) -> int:
        deleted = 0
        while batch := recoveries.clean_up(self.db, days, CLEANUP_BATCH):
            deleted += batch
        return deleted
