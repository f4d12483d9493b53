"""The database's clock is put back by hours: nothing waits until it has caught up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backfill import outbox
from backfill.messages import RecoveryEvent, chunk_message
from backfill.model import Backfill, Chunk, Dispatch
from backfill.store import backfills, chunks, leases, rounds
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.integration.ageing import Ageing
from tests.integration.rows import backfill_of

NAME = "octo/one"
SIX_HOURS = 6 * 3600
# What a function of 15 minutes asks for.
LONGEST_LEASE = 900 + 30


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    """A simulator with one repository, which is not tracked yet."""
    with Simulator(generate(5, {NAME: 30}), speed=5000) as simulator:
        yield Stack(db, simulator)


def put_back(db: Database, seconds: int = SIX_HOURS) -> None:
    """All but the budget: tests/integration/test_governor.py puts that back."""
    Ageing(db, [-seconds]).age(-seconds)
    db.execute("DELETE FROM github_budget")


def tracked(db: Database) -> Backfill:
    return Backfill.from_row(backfill_of(db, 1))


def claimed(db: Database, seconds: float = LONGEST_LEASE) -> Chunk:
    chunk = chunks.claim(db, chunks.create(db, tracked(db).id, [1]).dispatch, seconds)
    assert chunk is not None
    return chunk


# Times that are legitimate hold


def test_the_longest_lease_of_a_planner_holds(db: Database) -> None:
    backfill = tracked(db)
    assert leases.take(db, backfill.id, LONGEST_LEASE) is not None
    assert leases.take(db, backfill.id, 60) is None
    reservation = leases.reserve_plan(db, backfill.id)
    assert reservation is not None and LONGEST_LEASE - 5 <= reservation.lease_seconds <= LONGEST_LEASE + 1


def test_a_lease_is_no_longer_than_the_longest(db: Database) -> None:
    """A time that no function has would be over at once."""
    backfill = tracked(db)
    assert leases.take(db, backfill.id, 10_000) is not None
    assert leases.take(db, backfill.id, 60) is None


def test_a_plan_request_with_the_longest_delay_is_on_its_way(db: Database) -> None:
    backfill = tracked(db)
    reservation = leases.reserve_plan(db, backfill.id)
    assert reservation is not None
    leases.note_plan_sent(db, backfill.id, reservation, 900)
    assert leases.reserve_plan(db, backfill.id) is None


def test_the_longest_claim_holds(db: Database) -> None:
    chunk = claimed(db)
    assert chunks.claim(db, chunk.dispatch, 60) is None


def test_a_chunk_that_waits_for_githubs_points_is_not_claimed(db: Database) -> None:
    chunk = chunks.create(db, tracked(db).id, [1])
    db.execute("UPDATE backfill_chunks SET available_at = now() + interval '1 hour'")
    assert chunks.claim(db, chunk.dispatch, 60) is None


# Times from before the clock was put back are over


def test_the_lease_of_a_planner_is_over(db: Database) -> None:
    backfill = tracked(db)
    assert leases.take(db, backfill.id, 60) is not None
    put_back(db)
    reservation = leases.reserve_plan(db, backfill.id)
    assert reservation is not None and reservation.lease_seconds == 0
    assert leases.take(db, backfill.id, 60) is not None


def test_a_plan_request_is_lost(db: Database) -> None:
    backfill = tracked(db)
    reservation = leases.reserve_plan(db, backfill.id)
    assert reservation is not None
    leases.note_plan_sent(db, backfill.id, reservation, 1)
    put_back(db)
    assert [each.id for each in leases.stalled(db, 10, 60)] == [backfill.id]
    assert leases.reserve_plan(db, backfill.id) is not None


def test_a_claim_is_taken_over_by_its_own_message(db: Database) -> None:
    chunk = claimed(db)
    put_back(db)
    again = chunks.claim(db, chunk.dispatch, 60)
    assert again is not None and again.claim_token != chunk.claim_token


def test_recovery_requeues_a_claim_and_a_message_that_was_lost(db: Database, stack: Stack) -> None:
    claimed(db)
    chunk = chunks.create(db, backfills_of(db), [2])
    outbox.send(db, stack.queues)
    stack.queues.chunks.clear()
    put_back(db)
    report = stack.recovery.recover(RecoveryEvent())
    assert (report["requeued"], report["lost"]) == (1, 1)
    now = chunks.get(db, chunk.id)
    assert now is not None and now.dispatch_id != chunk.dispatch_id


def test_a_chunk_that_was_deferred_is_claimed(db: Database) -> None:
    chunk = chunks.create(db, tracked(db).id, [1])
    db.execute("UPDATE backfill_chunks SET available_at = now() + interval '30 seconds'")
    assert chunks.claim(db, chunk.dispatch, 60) is None
    put_back(db)
    assert chunks.claim(db, chunk.dispatch, 60) is not None


def test_a_heartbeat_plans_and_checks(db: Database, stack: Stack) -> None:
    stack.add(NAME)
    stack.run()
    put_back(db)
    stack.repository(NAME).open_pull_requests(2)
    assert stack.heartbeat()["reopened"] == 1
    stack.run()
    stack.assert_equals_github()
    db.execute("UPDATE progressive_backfill_state SET status = 'active'")
    put_back(db)
    assert [row["repository"] for row in stack.heartbeat()["backfills"]] == [NAME]


def test_the_message_of_a_round_is_sent_again(db: Database) -> None:
    rounds.begin(db)
    rounds.count_run(db, has_progressed=False)
    rounds.note_sent(db, 1)
    put_back(db)
    assert not rounds.count_run(db, has_progressed=False).is_sent
    assert rounds.go_on(db) <= backfills.now(db)


@pytest.mark.parametrize("hours", [2, 6, 20])
def test_a_backfill_whose_planner_and_worker_died_is_completed(db: Database, stack: Stack, hours: int) -> None:
    stack.add(NAME, chunk_size=5)
    stack.plan_once()
    message = stack.queues.chunks.messages()[0]
    assert leases.take(db, str(stack.state()["id"]), LONGEST_LEASE) is not None
    dispatch = chunk_message(message)
    assert isinstance(dispatch, Dispatch)
    assert chunks.claim(db, dispatch, LONGEST_LEASE) is not None
    put_back(db, hours * 3600)
    stack.heartbeat()
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def backfills_of(db: Database) -> str:
    (row,) = db.rows("SELECT id FROM progressive_backfill_state")
    return str(row["id"])
