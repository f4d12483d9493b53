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
        if request.dry_run:
            return {"dry_run": True, **self._look(request)}
        report = {"dry_run": False, **asdict(self._recover(request))}
        event("recovered", **report)
        return report

    def _look(self, request: RecoveryEvent) -> dict[str, int]:
        found = recoveries.recoverable(
            self.db, request.stuck_threshold, request.cleanup_days, queue_is_empty=self._is_queue_empty()
        )
        return {**asdict(found), "dead_letters": self.queues.dead_letters_waiting()}

    def _recover(self, request: RecoveryEvent) -> Recovered:
        empty = self._is_queue_empty()
        backfills.resume_due(self.db)
        with self.db.transaction():
            taken = recoveries.requeue_expired(self.db, request.stuck_threshold, MOST_SENT)
        failed = sum(each.status is ChunkStatus.FAILED for each in taken)
        dead = dead_letters.take_back(self.db, self.queues)
        lost = recoveries.requeue_lost(self.db, request.stuck_threshold, MOST_SENT, queue_is_empty=empty)
        sent = outbox.send(self.db, self.queues, limit=MOST_SENT).accepted
        deleted = self._clean_up(request.cleanup_days)
        count("ChunksRecovered", len(taken) - failed + lost)
        count("DeadLettersLeft", dead.left)
        return Recovered(len(taken) - failed, failed, lost, sent, dead.matched, dead.left, deleted)

    def _is_queue_empty(self) -> bool:
        return self.queues.chunks_waiting() == 0

    def _clean_up(self, days: int) -> int:
        deleted = 0
        while batch := recoveries.clean_up(self.db, days, CLEANUP_BATCH):
            deleted += batch
        return deleted
