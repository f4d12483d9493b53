"""Recovery as a whole: it takes back, sends, removes and reports, and leaves the rest alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backfill.messages import RecoveryEvent, dispatch_body
from backfill.model import Chunk, Dispatch, Spent
from backfill.outcomes import MAX_ATTEMPTS, Completed
from backfill.queues import DeadLetter, Source
from backfill.recovery import Recovery
from backfill.store import backfills, chunks, conclusions, dispatches
from backfill.store.connection import Database
from local.memory_queue import MemoryQueues
from tests.integration.rows import BROKEN, backfill_of, give_back

Row = dict[str, Any]


@pytest.fixture
def queues() -> MemoryQueues:
    return MemoryQueues()


@pytest.fixture
def recovery(db: Database, queues: MemoryQueues) -> Recovery:
    return Recovery(db, queues)


def claimed(db: Database, backfill: Row, *numbers: int) -> Chunk:
    chunk = chunks.create(db, backfill["id"], numbers)
    dispatches.mark_sent(db, [chunk.dispatch])
    row = chunks.claim(db, chunk.dispatch, 150)
    assert row is not None
    return row


def age(db: Database, minutes: float) -> None:
    db.execute(
        "UPDATE backfill_chunks SET started_at = started_at - make_interval(secs => :s), sent_at = sent_at - make_interval(secs => :s),"
        " available_at = available_at - make_interval(secs => :s), lease_expires_at = lease_expires_at - make_interval(secs => :s),"
        " completed_at = completed_at - make_interval(secs => :s)",
        s=minutes * 60,
    )


def whole_database(db: Database) -> dict[str, list[Row]]:
    """Every row of every table with the transaction that wrote it: equal only if nothing was written."""
    tables = db.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        each["tablename"]: db.rows(f"SELECT xmin::text AS x, ctid::text AS c FROM {each['tablename']} ORDER BY 1, 2")
        for each in tables
    }


def dispatch(chunk: Chunk) -> str:
    return dispatch_body(chunk.dispatch)


def test_a_dry_run_reports_everything_and_writes_nothing(
    db: Database, queues: MemoryQueues, recovery: Recovery
) -> None:
    backfill = backfill_of(db, *range(1, 7))
    claimed(db, backfill, 1)
    conclusions.conclude(db, claimed(db, backfill, 2), Completed(), Spent(1, 1))
    lost = chunks.create(db, backfill["id"], [3])
    dispatches.mark_sent(db, [lost.dispatch])
    age(db, 9 * 24 * 60)
    chunks.create(db, backfill["id"], [4])
    db.execute("UPDATE progressive_backfill_state SET plan_requested_at = now()")
    queues.dead.append(DeadLetter("m1", dispatch(lost), "r"))
    before, dead = whole_database(db), list(queues.dead)
    report = recovery.recover(RecoveryEvent(dry_run=True))
    assert report == {"dry_run": True, "requeued": 1, "failed": 0, "lost": 1, "unsent": 1, "dead_letters": 1, "old": 1}
    assert (whole_database(db), queues.dead, queues.chunks, queues.plans) == (before, dead, [], [])
    assert recovery.recover(RecoveryEvent())["requeued"] == 1
    assert whole_database(db) != before


@pytest.mark.parametrize(
    ("threshold", "minutes", "requeued"), [(30, 29.9, 0), (30, 30.1, 1), (60, 59.9, 0), (60, 60.1, 1)]
)
def test_the_threshold_means_minutes(
    db: Database, recovery: Recovery, threshold: int, minutes: float, requeued: int
) -> None:
    claimed(db, backfill_of(db, 1), 1)
    age(db, minutes)
    assert recovery.recover(RecoveryEvent(stuck_threshold=threshold, dry_run=True))["requeued"] == requeued
    assert recovery.recover(RecoveryEvent(stuck_threshold=threshold))["requeued"] == requeued


def test_a_low_threshold_does_not_rob_a_living_worker(db: Database, recovery: Recovery) -> None:
    """The lease of 150 seconds has not ended after two minutes; after three it has."""
    chunk = claimed(db, backfill_of(db, 1), 1)
    age(db, 2)
    assert recovery.recover(RecoveryEvent(stuck_threshold=1))["requeued"] == 0
    chunks.fence(db, chunk)
    age(db, 1)
    assert recovery.recover(RecoveryEvent(stuck_threshold=1))["requeued"] == 1


def test_a_chunk_that_began_before_any_function_could_live_is_requeued_under_any_lease(
    db: Database, recovery: Recovery
) -> None:
    claimed(db, backfill_of(db, 1), 1)
    db.execute(
        "UPDATE backfill_chunks SET started_at = now() - interval '31 minutes', lease_expires_at = now() + interval '1 hour'"
    )
    assert recovery.recover(RecoveryEvent())["requeued"] == 1


@pytest.mark.parametrize(("days", "age_days", "deleted"), [(7, 6.99, 0), (7, 7.01, 1), (0, 0.001, 1)])
def test_cleanup_days_mean_days(db: Database, recovery: Recovery, days: int, age_days: float, deleted: int) -> None:
    backfill = backfill_of(db, 1, 2)
    conclusions.conclude(db, claimed(db, backfill, 1), Completed(), Spent(1, 1))
    age(db, age_days * 24 * 60)
    assert recovery.recover(RecoveryEvent(cleanup_days=days, dry_run=True))["old"] == deleted
    assert recovery.recover(RecoveryEvent(cleanup_days=days))["deleted"] == deleted


def test_cleaning_up_leaves_failed_and_unfinished_chunks(db: Database, recovery: Recovery) -> None:
    backfill = backfill_of(db, 1, 2, 3)
    conclusions.conclude(db, claimed(db, backfill, 1), BROKEN, Spent(1, 1))
    chunks.create(db, backfill["id"], [2])
    db.execute("UPDATE backfill_chunks SET failed_at = now() - interval '1 year' WHERE status = 'failed'")
    db.execute("UPDATE backfill_chunks SET created_at = now() - interval '1 year'")
    assert recovery.recover(RecoveryEvent(cleanup_days=0))["deleted"] == 0


def test_a_paused_backfill_gets_its_chunks_back_and_nothing_is_sent(
    db: Database, queues: MemoryQueues, recovery: Recovery
) -> None:
    backfill = backfill_of(db, 1, 2, 3)
    claimed(db, backfill, 1)
    sent = chunks.create(db, backfill["id"], [2])
    dispatches.mark_sent(db, [sent.dispatch])
    chunks.create(db, backfill["id"], [3])
    age(db, 60)
    db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    report = recovery.recover(RecoveryEvent())
    assert (report["requeued"], report["lost"], report["sent"], queues.chunks) == (1, 0, 0, [])
    db.execute("UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0")
    assert recovery.recover(RecoveryEvent())["sent"] == 3


def test_a_pause_of_the_system_ends_by_recovery_too(db: Database, recovery: Recovery) -> None:
    backfill = backfill_of(db, 1)
    backfills.pause(db, backfill["id"], "consecutive_errors", minutes=-1)
    recovery.recover(RecoveryEvent())
    assert db.one("SELECT status, pause_reason FROM progressive_backfill_state") == {
        "status": "active",
        "pause_reason": None,
    }


def test_a_run_takes_back_no_more_than_its_cap_and_sends_everything(
    db: Database, queues: MemoryQueues, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.recovery.MOST_SENT", 3)
    backfill = backfill_of(db, *range(1, 11))
    for number in range(1, 6):
        claimed(db, backfill, number)
    for number in range(6, 11):
        chunks.create(db, backfill["id"], [number])
    age(db, 60)
    first = recovery.recover(RecoveryEvent())
    assert (first["requeued"], first["sent"], len(queues.chunks)) == (3, 8, 8)
    recovery.recover(RecoveryEvent())
    assert len(queues.chunks) == 10


def test_a_chunk_without_attempts_left_has_failed_with_a_reason(db: Database, recovery: Recovery) -> None:
    claimed(db, backfill_of(db, 1), 1)
    db.execute("UPDATE backfill_chunks SET attempts = :n", n=MAX_ATTEMPTS)
    age(db, 60)
    report = recovery.recover(RecoveryEvent())
    assert (report["requeued"], report["failed"]) == (0, 1)
    assert db.one("SELECT status, error, error_code FROM backfill_chunks") == {
        "status": "failed",
        "error": "no word from its worker for 30 minutes",
        "error_code": "stale",
    }
    assert db.one("SELECT reason, error_code FROM pull_request_gaps") == {"reason": "failed", "error_code": "stale"}


def test_a_dead_letter_is_removed_only_after_its_chunk_was_requeued(db: Database, queues: MemoryQueues) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    dispatches.mark_sent(db, [chunk.dispatch])
    queues.dead.append(DeadLetter("m1", dispatch(chunk), "r"))
    seen: list[str | None] = []

    class Watching(MemoryQueues):
        def delete_dead_letter(self, letter: DeadLetter) -> None:
            row = chunks.get(db, chunk.id)
            assert row is not None
            seen.append(row.error_code)
            super().delete_dead_letter(letter)

    watching = Watching(dead=queues.dead)
    report = Recovery(db, watching).recover(RecoveryEvent())
    assert (report["dead_letters_matched"], report["dead_letters_left"], report["sent"]) == (1, 0, 1)
    assert (seen, watching.dead) == (["dead_letter"], [])
    assert json.loads(watching.chunks[0])["dispatch_id"] != chunk.dispatch_id


def test_a_dead_letter_keeps_the_time_of_a_deferral(db: Database, queues: MemoryQueues, recovery: Recovery) -> None:
    chunk = chunks.create(db, backfill_of(db, 1)["id"], [1])
    db.execute("UPDATE backfill_chunks SET available_at = now() + interval '1 hour'")
    queues.dead.append(DeadLetter("m1", dispatch(chunk), "r"))
    recovery.recover(RecoveryEvent())
    assert db.one("SELECT available_at > now() + interval '59 minutes' AS later FROM backfill_chunks") == {
        "later": True
    }


def test_dead_letters_of_settled_chunks_are_harmless_and_removed(
    db: Database, queues: MemoryQueues, recovery: Recovery
) -> None:
    backfill = backfill_of(db, 1, 2)
    done, older = claimed(db, backfill, 1), claimed(db, backfill, 2)
    conclusions.conclude(db, done, Completed(), Spent(1, 1))
    give_back(db, older)
    queues.dead += [DeadLetter("m1", dispatch(done), "r"), DeadLetter("m2", dispatch(older), "r")]
    assert recovery.recover(RecoveryEvent())["dead_letters_matched"] == 2
    assert queues.dead == []
    rows = db.rows("SELECT status, attempts, error_code FROM backfill_chunks ORDER BY chunk_number")
    assert rows == [
        {"status": "completed", "attempts": 1, "error_code": None},
        {"status": "pending", "attempts": 1, "error_code": "retryable"},
    ]


@pytest.mark.parametrize(
    "letter",
    [
        DeadLetter("m", "no json", "r"),
        DeadLetter(
            "m", '{"schema_version": 1, "repository": "octo/unknown", "pr_numbers": [1]}', "r", "repository: unknown"
        ),
        DeadLetter("m", '{"schema_version": 1, "repository": "octo/hello", "pr_numbers": [1]}', "r", was_redriven=True),
        # Refused by the worker with this reason; the chunk queue has no plan requests.
        DeadLetter("m", '{"schema_version": 1}', "r", "event: must have either chunk_id and dispatch_id"),
    ],
)
def test_a_dead_letter_that_matches_nothing_stays_and_is_reported(
    db: Database, queues: MemoryQueues, recovery: Recovery, letter: DeadLetter, caplog: pytest.LogCaptureFixture
) -> None:
    backfill_of(db, 1)
    queues.dead.append(letter)
    report = recovery.recover(RecoveryEvent())
    assert (report["dead_letters_matched"], report["dead_letters_left"]) == (0, 1)
    assert queues.dead == [letter]
    (line,) = [each for each in caplog.records if each.message == "a dead letter matches nothing"]
    assert (line.__dict__["message_id"], bool(line.__dict__["reason"])) == ("m", True)


@pytest.mark.parametrize(
    "body",
    [
        dispatch_body(Dispatch("0" * 8 + "-0000-0000-0000-" + "0" * 12, "1" * 8 + "-0000-0000-0000-" + "0" * 12)),
        json.dumps({"schema_version": 1, "repository_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}),
    ],
    ids=["chunk", "repository"],
)
def test_a_dead_letter_of_what_was_removed_is_settled(
    db: Database, queues: MemoryQueues, recovery: Recovery, body: str
) -> None:
    backfill_of(db, 1)
    queues.dead.append(DeadLetter("m", body, "r"))
    report = recovery.recover(RecoveryEvent())
    assert (report["dead_letters_matched"], report["dead_letters_left"], queues.dead) == (1, 0, [])
    assert (queues.chunks, queues.plans) == ([], [])


@pytest.mark.parametrize(
    ("letter", "queue"),
    [
        (DeadLetter("m", '{"schema_version": 1, "repository": "octo/hello"}', "r", None, Source.PLANS), "plans"),
        (DeadLetter("m", '{"schema_version": 1, "chunk_size": 7}', "r", None, Source.PLANS), "plans"),
    ],
)
def test_a_persons_plan_request_is_sent_again_as_it_is(
    db: Database, queues: MemoryQueues, recovery: Recovery, letter: DeadLetter, queue: str
) -> None:
    backfill_of(db, 1)
    queues.dead.append(letter)
    recovery.recover(RecoveryEvent())
    assert (queues.plans, queues.chunks, queues.dead) == ([letter.body], [], [])


def test_a_malformed_chunk_message_does_not_plan_everything(
    db: Database, queues: MemoryQueues, recovery: Recovery
) -> None:
    backfill_of(db, 1)
    queues.dead.append(DeadLetter("m", '{"schema_version": 1}', "r", None, Source.CHUNKS))
    report = recovery.recover(RecoveryEvent())
    assert (report["dead_letters_left"], queues.plans) == (1, [])


def test_a_dead_plan_request_is_answered_by_a_fresh_one_and_removed(
    db: Database, queues: MemoryQueues, recovery: Recovery
) -> None:
    backfill = backfill_of(db, 1)
    body = json.dumps({"schema_version": 1, "repository_id": backfill["repository_id"]})
    queues.dead += [DeadLetter(f"m{n}", body, "r") for n in range(3)]
    report = recovery.recover(RecoveryEvent())
    assert (report["dead_letters_matched"], queues.dead) == (3, [])
    assert queues.plans == [body], "one is enough"


def test_an_unsent_chunk_does_not_count_as_lost(db: Database, recovery: Recovery) -> None:
    chunks.create(db, backfill_of(db, 1)["id"], [1])
    age(db, 120)
    report = recovery.recover(RecoveryEvent())
    assert (report["lost"], report["sent"]) == (0, 1)


def test_a_chunk_that_sqs_did_not_take_stays_in_the_outbox(
    db: Database, queues: MemoryQueues, recovery: Recovery
) -> None:
    backfill = backfill_of(db, *range(1, 13))
    for number in range(1, 13):
        chunks.create(db, backfill["id"], [number])
    queues.refuse = 5
    assert recovery.recover(RecoveryEvent())["sent"] == 7
    assert db.one("SELECT count(*) AS n FROM backfill_chunks WHERE sent_at IS NULL") == {"n": 5}
    assert recovery.recover(RecoveryEvent())["sent"] == 5
