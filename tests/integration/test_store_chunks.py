"""The life of a chunk, transition by transition; races with separate connections, each test named after its race."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pg8000.exceptions import DatabaseError

from backfill.error_codes import ErrorCode
from backfill.errors import LeaseLost, StaleClaim
from backfill.model import Chunk, Spent
from backfill.outcomes import MAX_ATTEMPTS, Completed, Deferred, Outcome
from backfill.store import (
    backfills,
    chunks,
    completed,
    conclusions,
    dispatches,
    leases,
    listings,
    pull_requests,
    recoveries,
    sync_requests,
)
from backfill.store.connection import Database
from tests.integration.rows import BROKEN, backfill_of, details, give_back


def claimed(db: Database, chunk: Chunk) -> Chunk:
    row = chunks.claim(db, chunk.dispatch, 60)
    assert row is not None
    return row


def test_a_duplicate_message_does_not_claim_twice(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    assert claimed(db, chunk).attempts == 1
    assert chunks.claim(db, chunk.dispatch, 60) is None


def test_a_message_of_an_older_dispatch_does_not_claim(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    first = claimed(db, chunk)
    give_back(db, first)
    assert chunks.claim(db, chunk.dispatch, 60) is None


def test_the_redelivered_message_of_a_dead_worker_takes_over_when_the_lease_has_expired(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    first = claimed(db, chunk)
    db.execute("UPDATE backfill_chunks SET lease_expires_at = now() - interval '1 second'")
    second = claimed(db, chunk)
    assert second.attempts == 2
    with pytest.raises(StaleClaim):
        conclusions.conclude(db, first, Completed(), Spent(1, 1))


def test_an_outcome_and_its_booking_are_one_round_trip(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    backfill = backfill_of(db, 1, 2, 3)
    mine = [claimed(db, chunks.create(db, backfill["id"], [number])) for number in (1, 2, 3)]
    later = Deferred(backfills.now(db), ErrorCode.DEFERRED, "points are spent")
    trips: list[int] = []
    pipeline = Database.pipeline

    def counted(self: Database, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[dict[str, Any]]]:
        trips.append(len(statements))
        return pipeline(self, statements)

    monkeypatch.setattr(Database, "pipeline", counted)
    with db.transaction():
        conclusions.conclude(db, mine[0], Completed(), Spent(1, 2))
        conclusions.conclude(db, mine[1], later, Spent(1, 2))
        conclusions.conclude(db, mine[2], BROKEN, Spent(1, 2))
    monkeypatch.undo()
    assert trips == [2, 2, 3]
    assert db.one("SELECT points_spent, requests_made FROM progressive_backfill_state") == {
        "points_spent": 3,
        "requests_made": 6,
    }


def test_a_worker_that_lost_its_claim_changes_neither_its_chunk_nor_its_backfill(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    first = claimed(db, chunk)
    db.execute("UPDATE backfill_chunks SET lease_expires_at = now() - interval '1 second'")
    claimed(db, chunk)
    outcomes: list[Outcome] = [Completed(), BROKEN]
    for outcome in outcomes:
        with pytest.raises(StaleClaim), db.transaction():
            conclusions.conclude(db, first, outcome, Spent(1, 1))
    assert db.one("SELECT points_spent, last_processed_at FROM progressive_backfill_state") == {
        "points_spent": 0,
        "last_processed_at": None,
    }
    assert db.one("SELECT status, points FROM backfill_chunks") == {"status": "processing", "points": 0}
    assert db.one("SELECT detail_failed_at FROM pull_requests") == {"detail_failed_at": None}


def test_a_chunk_that_has_spent_its_attempts_is_not_claimed_again(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    claimed(db, chunk)
    db.execute(
        "UPDATE backfill_chunks SET lease_expires_at = now() - interval '1 second', attempts = :n",
        n=MAX_ATTEMPTS,
    )
    assert chunks.claim(db, chunk.dispatch, 60) is None


def test_a_paused_backfill_is_not_claimed_and_its_chunk_is_sent_after_the_resume(db: Database) -> None:
    backfill = backfill_of(db, 1)
    chunk = chunks.create(db, backfill["id"], [1])
    dispatches.mark_sent(db, [chunk.dispatch])
    backfills.pause(db, backfill["id"], "manual", minutes=None)
    assert chunks.claim(db, chunk.dispatch, 60) is None
    assert dispatches.unsend(db, chunk.dispatch)
    assert dispatches.to_send(db, limit=10) == []
    backfills.resume(db, backfill["id"])
    assert [each.dispatch.chunk_id for each in dispatches.to_send(db, limit=10)] == [chunk.id]


def test_a_deferral_gives_its_attempt_back(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    later = db.one("SELECT now() + interval '10 minutes' AS at")
    assert later is not None
    deferred = Deferred(later["at"], ErrorCode.DEFERRED, "points are spent")
    conclusions.conclude(db, claimed(db, chunk), deferred, Spent(1, 1))
    row = chunks.get(db, chunk.id)
    assert row is not None and (row.status, row.attempts, row.points) == ("pending", 0, 1)
    (unsent,) = dispatches.to_send(db, limit=10)
    assert 590 < unsent.wait_seconds <= 600


def test_a_chunk_whose_time_comes_just_after_the_refused_claim_keeps_its_message(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    db.execute("UPDATE backfill_chunks SET available_at = now() + interval '10 minutes'")
    assert chunks.claim(db, chunk.dispatch, 60) is None
    assert 590 < dispatches.seconds_early(db, chunk.dispatch) <= 600
    db.execute("UPDATE backfill_chunks SET available_at = now() + interval '1 second'")
    assert dispatches.seconds_early(db, chunk.dispatch) == 1
    claimed(db, chunk)
    assert dispatches.seconds_early(db, chunk.dispatch) == 0


def test_a_pull_request_is_in_one_unfinished_chunk_only(db: Database) -> None:
    backfill = backfill_of(db, 1, 2, 3)
    first = chunks.create(db, backfill["id"], [1, 2])
    with pytest.raises(chunks.InAnotherChunk, match=r"is in another chunk"):
        chunks.create(db, backfill["id"], [2, 3])
    assert sync_requests.held(db, backfill["id"], [1, 3]) == {1: "pending"}
    conclusions.conclude(db, claimed(db, first), Completed(), Spent(1, 1))
    assert chunks.create(db, backfill["id"], [2, 3]).chunk_number == 2


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'processing'", "processing_has"),
        ("status = 'completed'", "completed_has_a_time"),
        ("status = 'failed'", "failed_has"),
        ("status = 'failed', failed_at = now()", "failed_has_a_reason"),
        ("completed_at = now()", "completed_has_a_time"),
    ],
)
def test_columns_are_tied_to_states(db: Database, change: str, constraint: str) -> None:
    chunks.create(db, backfill_of(db, 1)["id"], [1])
    with pytest.raises(DatabaseError, match=constraint):
        db.execute(f"UPDATE backfill_chunks SET {change}")


@pytest.mark.parametrize(("minutes", "taken"), [(29, 0), (31, 1)])
def test_thirty_minutes_are_thirty_minutes(db: Database, minutes: int, taken: int) -> None:
    claimed(db, chunks.create(db, backfill_of(db, 1)["id"], [1]))
    db.execute("UPDATE backfill_chunks SET started_at = now() - make_interval(mins => :minutes)", minutes=minutes)
    assert len(recoveries.requeue_expired(db, 30, 100)) == taken


def test_a_stale_chunk_without_attempts_left_has_failed_and_its_pull_requests_know_why(db: Database) -> None:
    backfill = backfill_of(db, 1)
    chunk = claimed(db, chunks.create(db, backfill["id"], [1]))
    db.execute("UPDATE backfill_chunks SET started_at = now() - interval '1 hour', attempts = :n", n=MAX_ATTEMPTS)
    (failed,) = recoveries.requeue_expired(db, 30, 100)
    assert (failed.status, failed.error_code) == ("failed", "stale")
    assert db.one("SELECT detail_error_code FROM pull_requests") == {"detail_error_code": "stale"}
    with pytest.raises(StaleClaim):
        chunks.fence(db, chunk)


def test_of_sixteen_workers_with_one_message_one_claims(connect: Callable[[], Database]) -> None:
    db = connect()
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    won: list[str | None] = []
    start = threading.Barrier(16)

    def work(own: Database) -> None:
        own.one("SELECT 1 AS warm")
        start.wait()
        row = chunks.claim(own, chunk.dispatch, 60)
        if row is not None:
            won.append(row.claim_token)

    threads = [threading.Thread(target=work, args=(connect(),)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_long_queue_is_not_mistaken_for_loss(db: Database) -> None:
    backfill = backfill_of(db, 1, 2)
    first, second = (chunks.create(db, backfill["id"], [number]) for number in (1, 2))
    for chunk in (first, second):
        dispatches.mark_sent(db, [chunk.dispatch])
    db.execute(
        "UPDATE backfill_chunks SET sent_at = now() - interval '3 hours', available_at = now() - interval '3 hours'"
    )
    assert recoveries.requeue_lost(db, 30, 100, queue_is_empty=False) == 0
    claimed(db, second)
    assert recoveries.requeue_lost(db, 30, 100, queue_is_empty=False) == 0
    db.execute("UPDATE backfill_chunks SET sent_at = now() - interval '1 hour' WHERE chunk_number = 2")
    assert recoveries.requeue_lost(db, 30, 100, queue_is_empty=False) == 1


def test_a_message_lost_from_an_empty_queue_is_sent_again(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    dispatches.mark_sent(db, [chunk.dispatch])
    db.execute(
        "UPDATE backfill_chunks SET sent_at = now() - interval '1 hour', available_at = now() - interval '1 hour'"
    )
    assert recoveries.requeue_lost(db, 30, 100, queue_is_empty=True) == 1
    assert [each.dispatch.chunk_id for each in dispatches.to_send(db, limit=10)] == [chunk.id]


def test_a_dead_letter_requeues_its_chunk_once(db: Database) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    requeued = recoveries.requeue_dead(db, chunk.dispatch)
    assert requeued is not None and (requeued.status, requeued.attempts) == ("pending", 0), (
        "a receive is not an attempt"
    )
    assert recoveries.requeue_dead(db, chunk.dispatch) is None


def test_cleaning_up_deletes_old_completed_chunks_in_batches(db: Database) -> None:
    backfill = backfill_of(db, 1, 2, 3)
    for number in (1, 2, 3):
        conclusions.conclude(db, claimed(db, chunks.create(db, backfill["id"], [number])), Completed(), Spent(1, 1))
    db.execute("UPDATE backfill_chunks SET completed_at = now() - interval '8 days' WHERE chunk_number < 3")
    assert [recoveries.clean_up(db, 7, 1) for _ in range(3)] == [1, 1, 0]
    assert db.one("SELECT chunk_number FROM backfill_chunks") == {"chunk_number": 3}


def test_the_third_error_in_a_row_pauses_with_an_end(db: Database) -> None:
    backfill = backfill_of(db, 1)
    paused = [backfills.record_error(db, backfill["id"], "boom", pause_minutes=60) for _ in range(4)]
    assert paused == [False, False, True, False]
    assert db.one("SELECT status, consecutive_errors, error_count, pause_reason FROM progressive_backfill_state") == {
        "status": "paused",
        "consecutive_errors": 4,
        "error_count": 4,
        "pause_reason": "consecutive_errors",
    }
    assert backfills.resume_due(db) == []
    db.execute("UPDATE progressive_backfill_state SET paused_until = now() - interval '1 second'")
    assert backfills.resume_due(db) == [backfill["id"]]


def test_a_backfill_completes_only_when_nothing_is_left(db: Database) -> None:
    backfill = backfill_of(db, 1)
    chunk = claimed(db, chunks.create(db, backfill["id"], [1]))
    assert not completed.settle(db, backfill["id"])
    db.execute("UPDATE progressive_backfill_state SET listing_completed_at = now()")
    assert not completed.settle(db, backfill["id"])
    pull_requests.store_details(db, backfill["repository_id"], details(1))
    assert not completed.settle(db, backfill["id"])
    conclusions.conclude(db, chunk, Completed(), Spent(1, 1))
    assert completed.settle(db, backfill["id"])


def test_of_two_planners_one_has_the_lease(connect: Callable[[], Database]) -> None:
    one, other = connect(), connect()
    backfill = backfill_of(one, 1)
    held = leases.take(one, backfill["id"], 60)
    assert held is not None
    assert leases.take(other, backfill["id"], 60) is None
    leases.end(one, held, has_progressed=False)
    assert leases.take(other, backfill["id"], 60) is not None


def test_a_planner_whose_lease_was_taken_over_cuts_no_chunk_of_what_it_chose_before(db: Database) -> None:
    """What it chose may be stored by now, and the backfill completed: nobody would send such a chunk."""
    backfill = backfill_of(db, 2)
    late = leases.take(db, backfill["id"], 60)
    assert late is not None
    chunks.create(db, backfill["id"], [1], planner_token=late.token)
    db.execute("UPDATE progressive_backfill_state SET planner_lease_expires_at = now() - interval '1 second'")
    other = leases.take(db, backfill["id"], 60)
    with pytest.raises(LeaseLost):
        chunks.create(db, backfill["id"], [2], planner_token=late.token)
    assert other is not None
    leases.end(db, other, has_progressed=False)
    with pytest.raises(LeaseLost):
        chunks.create(db, backfill["id"], [2], planner_token=late.token)
    assert chunks.outstanding(db, backfill["id"]).total == 1


def test_the_cursor_moves_only_from_where_it_was_read(db: Database) -> None:
    held = leases.take(db, backfill_of(db, 1)["id"], 60)
    assert held is not None
    moved = listings.move_cursor(db, held, listings.Page("A", False, 2, Spent(1, 1)), None)
    assert moved.backfill.last_processed_cursor == "A"
    with pytest.raises(LeaseLost):
        listings.move_cursor(db, held, listings.Page("B", False, 2, Spent(1, 1)), None)
    found = backfills.get(db, held.backfill.id)
    assert found is not None and found.last_processed_cursor == "A"


def test_the_migration_of_error_codes_replaces_names_of_classes(db: Database) -> None:
    backfill = backfill_of(db, 1, 2)
    for number, name in ((1, "OutOfTime"), (2, "too_large")):
        chunk = chunks.create(db, backfill["id"], [number])
        db.execute("UPDATE backfill_chunks SET error = 'x', error_code = :name WHERE id = :id", name=name, id=chunk.id)
    migration = Path(__file__).parents[2] / "migrations" / "versions" / "0016_words.sql"
    db.execute(migration.read_text(encoding="utf-8").split(";")[0])
    assert db.rows("SELECT error_code FROM backfill_chunks ORDER BY chunk_number") == [
        {"error_code": "out_of_time"},
        {"error_code": "too_large"},
    ]
    assert sync_requests.held(db, backfill["id"], [1, 2]) == {1: "pending", 2: "pending"}
