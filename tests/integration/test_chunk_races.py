"""Races with real threads and connections: the loser waits for the winner's lock, or is refused.

The winner does its statement and keeps the transaction open; the loser starts; pg_blocking_pids says who waits for whom.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest

from backfill import outbox
from backfill.error_codes import ErrorCode
from backfill.errors import StaleClaim
from backfill.model import Chunk, Dispatch, Spent, Waiting
from backfill.outcomes import Completed, Deferred
from backfill.store import backfills, chunks, conclusions, dispatches, leases, pull_requests, recoveries, removals
from backfill.store.connection import Database
from local.memory_queue import MemoryQueues
from tests.integration.rows import OCTOCAT, backfill_of, details, listed

Row = dict[str, Any]
Connect = Callable[[], Database]
# Far more than a slow machine needs; nothing waits for it to pass.
PATIENCE_SECONDS = 60


class Loser:
    """A call in a thread and on a connection of its own."""

    def __init__(self, db: Database, call: Callable[[Database], Any]) -> None:
        self.pid = (db.one("SELECT pg_backend_pid() AS pid") or {})["pid"]
        self.answer: Any = None
        self.failure: BaseException | None = None

        def run() -> None:
            try:
                self.answer = call(db)
            except BaseException as failure:
                self.failure = failure

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def is_seen_waiting_for(self, winner: Database, observer: Database) -> None:
        """Postgres itself says that this one waits for a lock which the winner holds."""
        holder = (winner.one("SELECT pg_backend_pid() AS pid") or {})["pid"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            row = observer.one(
                "SELECT wait_event_type, pg_blocking_pids(pid) AS blockers FROM pg_stat_activity WHERE pid = :pid",
                pid=self.pid,
            )
            if row is not None and row["wait_event_type"] == "Lock":
                assert row["blockers"] == [holder]
                return
            if not self._thread.is_alive():
                raise AssertionError(f"it did not wait: {self.answer!r} {self.failure!r}")
            time.sleep(0.01)
        raise AssertionError("it neither waited nor ended")

    def result(self) -> Any:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure
        return self.answer


def pending(db: Database, backfill: Row, *numbers: int) -> Chunk:
    chunk = chunks.create(db, backfill["id"], numbers)
    dispatches.mark_sent(db, [chunk.dispatch])
    return chunk


def claimed(db: Database, backfill: Row, *numbers: int) -> Chunk:
    chunk = pending(db, backfill, *numbers)
    row = chunks.claim(db, chunk.dispatch, 150)
    assert row is not None
    return row


def make_stale(db: Database) -> None:
    db.execute("UPDATE backfill_chunks SET started_at = now() - interval '1 hour' WHERE status = 'processing'")


def store_and_complete(db: Database, chunk: Chunk) -> None:
    with db.transaction():
        chunks.fence(db, chunk)
        pull_requests.store_details(db, chunk.repository_id, details(*chunk.pr_numbers))
        conclusions.conclude(db, chunk, Completed(), Spent(1, 1))


def test_a_stale_worker_waits_for_recovery_and_then_stores_nothing(connect: Connect) -> None:
    recovery, worker, observer = connect(), connect(), connect()
    chunk = claimed(recovery, backfill_of(recovery, 1), 1)
    make_stale(recovery)
    with recovery.transaction():
        assert len(recoveries.requeue_expired(recovery, 30, 10)) == 1
        late = Loser(worker, lambda db: store_and_complete(db, chunk))
        late.is_seen_waiting_for(recovery, observer)
    with pytest.raises(StaleClaim):
        late.result()
    assert observer.one("SELECT count(*) AS n FROM comments") == {"n": 0}
    assert observer.one("SELECT status, attempts FROM backfill_chunks") == {"status": "pending", "attempts": 1}


def test_recovery_passes_by_a_worker_that_is_storing_and_does_not_wait(connect: Connect) -> None:
    worker, recovery = connect(), connect()
    backfill = backfill_of(worker, 1, 2)
    chunk, other = claimed(worker, backfill, 1), claimed(worker, backfill, 2)
    make_stale(worker)
    with worker.transaction():
        chunks.fence(worker, chunk)
        taken = Loser(recovery, lambda db: recoveries.requeue_expired(db, 30, 10)).result()
        assert [row.id for row in taken] == [other.id]
        pull_requests.store_details(worker, chunk.repository_id, details(1))
        conclusions.conclude(worker, chunk, Completed(), Spent(1, 1))
    assert recoveries.requeue_expired(recovery, 30, 10) == []


def test_two_workers_on_one_message_the_second_waits_and_gets_nothing(connect: Connect) -> None:
    first, second, observer = connect(), connect(), connect()
    chunk = pending(first, backfill_of(first, 1), 1)
    with first.transaction():
        assert chunks.claim(first, chunk.dispatch, 150) is not None
        other = Loser(second, lambda db: chunks.claim(db, chunk.dispatch, 150))
        other.is_seen_waiting_for(first, observer)
    assert other.result() is None
    assert observer.one("SELECT attempts FROM backfill_chunks") == {"attempts": 1}


def test_a_dead_worker_s_message_and_recovery_the_second_waits_and_gets_nothing(connect: Connect) -> None:
    """The message is shown again at the moment when recovery runs: one of the two has the chunk."""
    recovery, worker, observer = connect(), connect(), connect()
    chunk = claimed(recovery, backfill_of(recovery, 1), 1)
    make_stale(recovery)
    recovery.execute("UPDATE backfill_chunks SET lease_expires_at = now() - interval '1 minute'")
    with recovery.transaction():
        assert len(recoveries.requeue_expired(recovery, 30, 10)) == 1
        again = Loser(worker, lambda db: chunks.claim(db, chunk.dispatch, 150))
        again.is_seen_waiting_for(recovery, observer)
    assert again.result() is None


def test_two_planners_the_second_waits_and_has_no_lease(connect: Connect) -> None:
    first, second, observer = connect(), connect(), connect()
    backfill = backfill_of(first, 1)
    with first.transaction():
        assert leases.take(first, backfill["id"], 60) is not None
        other = Loser(second, lambda db: leases.take(db, backfill["id"], 60))
        other.is_seen_waiting_for(first, observer)
    assert other.result() is None


def test_two_planners_that_cut_the_same_pull_request_the_second_waits_and_is_refused(connect: Connect) -> None:
    """A planner whose lease ran out, or a person's message: the primary key of members knows."""
    first, second, observer = connect(), connect(), connect()
    backfill = backfill_of(first, 1, 2, 3)
    with first.transaction():
        chunks.create(first, backfill["id"], [1, 2])
        other = Loser(second, lambda db: chunks.create(db, backfill["id"], [2, 3]))
        other.is_seen_waiting_for(first, observer)
    with pytest.raises(chunks.InAnotherChunk):
        other.result()
    assert observer.rows("SELECT pr_numbers FROM backfill_chunks") == [{"pr_numbers": [1, 2]}]


def test_two_recoveries_pass_each_other_by(connect: Connect) -> None:
    first, second = connect(), connect()
    backfill = backfill_of(first, *range(1, 7))
    for number in range(1, 5):
        claimed(first, backfill, number)
    lost = [pending(first, backfill, number) for number in (5, 6)]
    make_stale(first)
    first.execute(
        "UPDATE backfill_chunks SET sent_at = now() - interval '1 hour', available_at = now() - interval '1 hour'"
        " WHERE status = 'pending'"
    )
    with first.transaction():
        mine = recoveries.requeue_expired(first, 30, 2)
        assert recoveries.requeue_lost(first, 30, 1, queue_is_empty=True) == 1
        theirs = Loser(second, lambda db: recoveries.requeue_expired(db, 30, 10)).result()
        also = Loser(second, lambda db: recoveries.requeue_lost(db, 30, 10, queue_is_empty=True)).result()
    assert (len(mine), len(theirs), also) == (2, 2, len(lost) - 1)
    assert not {row.id for row in mine} & {row.id for row in theirs}


def test_a_claim_waits_for_a_pause_and_then_loses(connect: Connect) -> None:
    operator, worker, observer = connect(), connect(), connect()
    chunk = pending(operator, backfill_of(operator, 1), 1)
    with operator.transaction():
        operator.execute("UPDATE progressive_backfill_state SET status = 'paused'")
        late = Loser(worker, lambda db: chunks.claim(db, chunk.dispatch, 150))
        late.is_seen_waiting_for(operator, observer)
    assert late.result() is None


def test_a_pause_waits_for_a_claim_and_the_claimed_chunk_finishes(connect: Connect) -> None:
    worker, operator, observer = connect(), connect(), connect()
    chunk = pending(worker, backfill_of(worker, 1), 1)
    with worker.transaction():
        mine = chunks.claim(worker, chunk.dispatch, 150)
        assert mine is not None
        pause = Loser(operator, lambda db: db.execute("UPDATE progressive_backfill_state SET status = 'paused'"))
        pause.is_seen_waiting_for(worker, observer)
    assert pause.result() == 1
    store_and_complete(worker, mine)
    assert observer.one("SELECT status, processed_prs FROM progressive_backfill_state") == {
        "status": "paused",
        "processed_prs": 1,
    }


def test_cleaning_up_passes_by_a_chunk_that_is_being_completed(connect: Connect) -> None:
    worker, recovery = connect(), connect()
    backfill = backfill_of(worker, 1, 2)
    old, chunk = claimed(worker, backfill, 1), claimed(worker, backfill, 2)
    store_and_complete(worker, old)
    with worker.transaction():
        chunks.fence(worker, chunk)
        conclusions.conclude(worker, chunk, Completed(), Spent(1, 1))
        assert Loser(recovery, lambda db: recoveries.clean_up(db, 0, 10)).result() == 1
    assert chunks.get(recovery, chunk.id) is not None
    assert recoveries.clean_up(recovery, 0, 10) == 1


def test_two_cleanings_pass_each_other_by(connect: Connect) -> None:
    first, second = connect(), connect()
    backfill = backfill_of(first, 1, 2, 3)
    for number in (1, 2, 3):
        store_and_complete(first, claimed(first, backfill, number))
    with first.transaction():
        assert recoveries.clean_up(first, 0, 2) == 2
        assert Loser(second, lambda db: recoveries.clean_up(db, 0, 10)).result() == 1


def test_a_dead_letter_and_its_redriven_message_the_second_waits_and_gets_nothing(connect: Connect) -> None:
    worker, recovery, observer = connect(), connect(), connect()
    chunk = pending(worker, backfill_of(worker, 1), 1)
    with worker.transaction():
        assert chunks.claim(worker, chunk.dispatch, 150) is not None
        dead = Loser(recovery, lambda db: recoveries.requeue_dead(db, chunk.dispatch))
        dead.is_seen_waiting_for(worker, observer)
    assert dead.result() is None
    assert observer.one("SELECT status FROM backfill_chunks") == {"status": "processing"}


def test_a_requeued_chunk_is_not_called_sent_for_its_old_message(connect: Connect) -> None:
    """The sender is slow: between SQS and the mark the chunk was claimed and deferred, with another dispatch."""
    sender, worker = connect(), connect()
    backfill = backfill_of(sender, 1)
    chunk = chunks.create(sender, backfill["id"], [1])

    class Slow(MemoryQueues):
        def send_chunks(self, waiting: Iterable[Waiting]) -> list[Dispatch]:
            accepted = super().send_chunks(waiting)
            mine = chunks.claim(worker, chunk.dispatch, 150)
            assert mine is not None
            deferred = Deferred(backfills.now(worker), ErrorCode.DEFERRED, "x")
            conclusions.conclude(worker, mine, deferred, Spent())
            return accepted

    outbox.send(sender, Slow())
    row = chunks.get(sender, chunk.id)
    assert row is not None
    assert row.sent_at is None
    assert [each.dispatch for each in dispatches.to_send(sender, limit=10)] == [row.dispatch]


def test_many_workers_that_store_the_same_people_and_labels_do_not_deadlock(connect: Connect) -> None:
    db = connect()
    backfill = backfill_of(db, *range(1, 25))
    mine = [claimed(db, backfill, *range(n, n + 3)) for n in range(1, 25, 3)]
    workers = [Loser(connect(), partial(store_and_complete, chunk=chunk)) for chunk in mine]
    for each in workers:
        each.result()
    assert db.one("SELECT processed_prs FROM progressive_backfill_state") == {"processed_prs": 24}


def test_a_worker_with_a_failed_and_a_missing_number_and_a_planner_s_page_wait_and_do_not_deadlock(
    connect: Connect,
) -> None:
    """The worker locks all its pull requests before it locks the backfill: the planner's page waits for the first one."""
    worker, planner, observer = connect(), connect(), connect()
    chunk = claimed(worker, backfill_of(worker, 1, 2, 3), 1, 2, 3)
    repository = chunk.repository_id

    def list_page(db: Database) -> None:
        with db.transaction():
            pull_requests.store_listed(
                db, repository, [], [listed(n, "2024-02-01T00:00:00Z", author_id=None) for n in (2, 3, 4)]
            )

    tables = {**details(1), "contributors": []}
    tables = {
        name: [{**row, "author_id": None} if "author_id" in row else row for row in rows]
        for name, rows in tables.items()
    }
    with worker.transaction():
        chunks.fence(worker, chunk)
        pull_requests.store_divided(worker, repository, tables, chunk.pr_numbers)
        page = Loser(planner, list_page)
        page.is_seen_waiting_for(worker, observer)
        pull_requests.record_failed(worker, repository, {2: ("unexplained", "x")})
        pull_requests.mark_gone(worker, repository, [3])
        conclusions.conclude(worker, chunk, Completed(), Spent(1, 1))
    page.result()
    assert observer.rows("SELECT number, gone_at IS NULL AS is_there FROM pull_requests ORDER BY number") == [
        {"number": number, "is_there": True} for number in (1, 2, 3, 4)
    ]


def test_a_page_whose_numbers_vanish_and_a_worker_that_stores_one_of_them_do_not_deadlock(connect: Connect) -> None:
    planner, worker, observer = connect(), connect(), connect()
    chunk = claimed(planner, backfill_of(planner, 1, 2, 3), 3)
    with planner.transaction():
        pull_requests.store_listed(planner, chunk.repository_id, [OCTOCAT], [listed(9)], [3])
        late = Loser(worker, lambda db: store_and_complete(db, chunk))
        late.is_seen_waiting_for(planner, observer)
        assert pull_requests.mark_gone(planner, chunk.repository_id, [3]) == 1
    late.result()


def test_a_claim_against_a_late_worker_that_stores_waits_and_does_not_deadlock(connect: Connect) -> None:
    """The lease has ended and the message is shown again, while the first worker stores."""
    late, second, observer = connect(), connect(), connect()
    chunk = claimed(late, backfill_of(late, 1), 1)
    late.execute("UPDATE backfill_chunks SET lease_expires_at = now() - interval '1 minute'")
    with late.transaction():
        chunks.fence(late, chunk)
        again = Loser(second, lambda db: chunks.claim(db, chunk.dispatch, 150))
        again.is_seen_waiting_for(late, observer)
        pull_requests.store_details(late, chunk.repository_id, details(1))
        conclusions.conclude(late, chunk, Completed(), Spent(1, 1))
    assert again.result() is None


def test_a_new_chunk_waits_for_a_worker_that_ends_the_chunk_of_its_numbers(connect: Connect) -> None:
    """The worker deletes the members and then locks the backfill; the creator of a chunk needs both, too."""
    worker, planner, observer = connect(), connect(), connect()
    backfill = backfill_of(worker, 1)
    chunk = claimed(worker, backfill, 1)
    with worker.transaction():
        # As a completion does, which then locks the backfill.
        chunks.fence(worker, chunk)
        worker.execute("DELETE FROM backfill_chunk_members WHERE chunk_id = :id", id=chunk.id)
        created = Loser(planner, lambda db: chunks.create(db, backfill["id"], [1]))
        created.is_seen_waiting_for(worker, observer)
        conclusions.conclude(worker, chunk, Completed(), Spent(1, 1))
    assert created.result().pr_numbers == (1,)


def test_a_removal_waits_for_a_worker_that_stores_and_does_not_deadlock(connect: Connect) -> None:
    worker, operator, observer = connect(), connect(), connect()
    chunk = claimed(worker, backfill_of(worker, 1), 1)
    with worker.transaction():
        chunks.fence(worker, chunk)
        removal = Loser(operator, lambda db: removals.remove_backfill(db, chunk.repository_id))
        removal.is_seen_waiting_for(worker, observer)
        pull_requests.store_details(worker, chunk.repository_id, details(1))
        conclusions.conclude(worker, chunk, Completed(), Spent(1, 1))
    assert removal.result() is True


def test_a_chunk_that_is_created_while_a_removal_waits_is_claimed_or_removed_without_a_deadlock(
    connect: Connect,
) -> None:
    planner, operator, observer = connect(), connect(), connect()
    backfill = backfill_of(planner, 1)
    with planner.transaction():
        chunk = chunks.create(planner, backfill["id"], [1])
        removal = Loser(operator, lambda db: removals.remove_backfill(db, chunk.repository_id))
        removal.is_seen_waiting_for(planner, observer)
    assert removal.result() is True
    assert chunks.claim(planner, chunk.dispatch, 150) is None
