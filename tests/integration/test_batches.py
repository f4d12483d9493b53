"""The functions' handlers behind SQS and Lambda in memory: a failed message of a batch returns, and the others do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backfill.chunk_worker.worker import Worker
from backfill.errors import DatabaseUnavailable
from backfill.messages import SyncRequest
from backfill.model import Dispatch
from backfill.store.connection import Database
from functions.chunk_worker import app as worker_app
from functions.planner import app as planner_app
from local.in_process import CHUNK_WORKER, PLANNER, Stack
from local.memory_queue import MemoryQueues
from local.simulator import Simulator, generate
from local.template import deployed
from tests.integration.test_interruptions import Context, wire

NAME = "octo/batches"
Answer = dict[str, Any]


@pytest.fixture
def stack(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Lambda hands three messages at once to a function."""
    settings = deployed()
    batches = {name: replace(each, batch_size=3) for name, each in settings.functions.items()}
    with Simulator(generate(3, {NAME: 12}), speed=5000) as simulator:
        stack = Stack(db, simulator, queues=MemoryQueues(settings=replace(settings, functions=batches)))
        wire(stack, monkeypatch)
        stack.add(NAME, chunk_size=4)
        yield stack


def plan(event: Answer) -> Any:
    return planner_app.handler(event, Context())


def work(event: Answer) -> Any:
    return worker_app.handler(event, Context())


def test_a_message_that_fails_comes_back_alone_and_becomes_a_dead_letter(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions, queues = stack.queues.functions, stack.queues
    assert len(functions.deliver(PLANNER, plan)) == 1
    bad = queues.chunks.messages()[1]
    handle = Worker.handle

    def fail(worker: Worker, message: Dispatch | SyncRequest, body: str) -> str:
        if body == bad:
            raise DatabaseUnavailable("the test's doing")
        return handle(worker, message, body)

    monkeypatch.setattr(Worker, "handle", fail)
    assert len(functions.deliver(CHUNK_WORKER, work)) == 2
    assert queues.chunks == [bad]
    for receive in range(1, 5):
        queues.now = 720.0 * receive
        assert functions.deliver(CHUNK_WORKER, work) == [] and queues.chunks == [bad]
    queues.now = 3600.0
    functions.deliver(CHUNK_WORKER, work)
    assert (queues.chunks, [letter.body for letter in queues.dead]) == ([], [bad])
    monkeypatch.undo()
    assert stack.recover()["dead_letters_matched"] == 1
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    assert stack.simulator.statistics()["detailed_again"] == 0


def test_a_message_that_breaks_its_contract_is_a_dead_letter_and_its_batch_is_handled(stack: Stack) -> None:
    functions, queues = stack.queues.functions, stack.queues
    functions.deliver(PLANNER, plan)
    queues.chunks.insert(1, "no json")
    assert len(functions.deliver(CHUNK_WORKER, work)) == 3
    assert len(queues.chunks) == 1
    assert [letter.body for letter in queues.dead] == ["no json"]
