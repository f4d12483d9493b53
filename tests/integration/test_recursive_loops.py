"""Lambda stops a loop of functions after 16 rounds unless the template allows it."""

from __future__ import annotations

from typing import Any

import pytest

from backfill.store.connection import Database
from local.in_process import CHUNK_WORKER, PLANNER, Stack
from local.memory_queue import MOST_IN_A_CHAIN, MemoryQueues, RecursiveInvocation, Traced
from local.simulator import Simulator, generate
from tests.infrastructure.shapes import shape

NAME = "octo/large"


def stopped(resources: dict[str, Any]) -> frozenset[str]:
    """Functions whose loops Lambda stops: all that do not say otherwise."""
    functions = {name: each for name, each in resources.items() if each["Type"] == "AWS::Lambda::Function"}
    assert {PLANNER, CHUNK_WORKER} <= functions.keys()
    return frozenset(name for name, each in functions.items() if each["Properties"].get("RecursiveLoop") != "Allow")


def test_the_seventeenth_invocation_in_a_chain_is_dropped() -> None:
    queues = MemoryQueues(stopped=frozenset({PLANNER}))
    queues.request_plan(None)
    for _ in range(MOST_IN_A_CHAIN):
        with queues.invocation(PLANNER, queues.plans.pop()):
            queues.send_body("{}")
        with queues.invocation(CHUNK_WORKER, queues.chunks.pop()):
            queues.request_plan(None)
    with pytest.raises(RecursiveInvocation), queues.invocation(PLANNER, queues.plans[0]):
        raise AssertionError("it was invoked")
    queues.request_plan(None)
    with queues.invocation(PLANNER, queues.plans[1]):
        pass


@pytest.mark.parametrize(("allowed", "letters"), [("Unset", 1), ("Allow", 0)])
def test_the_product_meets_the_end_of_a_chain_only_where_the_template_forbids_loops(
    db: Database, allowed: str, letters: int
) -> None:
    with Simulator(generate(5, {NAME: 30}), speed=5000) as simulator:
        queues = MemoryQueues(stopped=stopped(shape(RecursiveLoop=allowed)))
        stack = Stack(db, simulator, queues=queues)
        stack.add(NAME)
        (request,) = queues.plans
        assert isinstance(request, Traced)
        request.lineage = {PLANNER: MOST_IN_A_CHAIN, CHUNK_WORKER: MOST_IN_A_CHAIN}
        stack.run()
        assert (stack.state(NAME)["status"] == "completed") == (allowed == "Allow")
        assert queues.dead_letters_waiting() == letters
