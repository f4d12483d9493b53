"""A container is frozen between heartbeats, and its connections are dead when it thaws."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backfill.errors import DatabaseUnavailable
from backfill.github import transport
from backfill.store import connection
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate

NAME = "octo/frozen"
HEARTBEAT = 1800.0


@pytest.fixture
def stack(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A dead connection is noticed after three and two seconds, not after 75 and 25."""
    monkeypatch.setattr(connection, "_SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(transport, "READ_SECONDS", 2.0)
    db = Database(lambda: direct_url)
    with Simulator(generate(3, {NAME: 12}), speed=5000) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME, chunk_size=3)
        yield stack
        stack.container.close()
    db.close()


def assert_is_whole(stack: Stack) -> None:
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    assert stack.simulator.statistics()["detailed_again"] == 0
    assert len(stack.queues.dead) == 0


def test_a_container_that_is_frozen_between_all_invocations_opens_its_connections_anew(stack: Stack) -> None:
    outcomes = stack.run(between=lambda: stack.container.freeze(HEARTBEAT))
    assert outcomes == ["completed"] * 4
    assert stack.container.cut >= 2 * len(outcomes)
    assert_is_whole(stack)


def test_a_connection_to_postgres_that_dies_sooner_costs_one_receive_and_nothing_else(stack: Stack) -> None:
    stack.plan_once()
    stack.container.freeze(5, github=False)
    with pytest.raises(DatabaseUnavailable, match="the connection to Postgres broke"):
        stack.work_once()
    (message, *_) = stack.queues.chunks.messages()
    assert (message.receives, message.due - stack.queues.now) == (1, 720)
    assert sorted(stack.run()) == ["completed"] * 4
    assert stack.queues.now >= 720
    assert_is_whole(stack)


def test_a_connection_to_github_that_dies_sooner_splits_a_chunk_and_loses_nothing(stack: Stack) -> None:
    """No answer in time is what GitHub gives to a request that is too large, too."""
    stack.plan_once()
    stack.container.freeze(5, database=False)
    assert stack.work_once() == "split"
    stack.run(
        between=lambda: stack.db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending'")
    )
    assert_is_whole(stack)
