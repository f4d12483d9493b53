"""Lambda stops a loop of functions after 16 rounds unless the template allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from backfill.github.listing import ListingPage
from backfill.store.connection import Database
from local.in_process import CHUNK_WORKER, PLANNER, Stack
from local.invocations import MOST_IN_A_CHAIN, RecursiveInvocation, header
from local.memory_queue import MemoryQueues
from local.simulator import Simulator, generate
from local.template import deployment, shape
from tests.adversarial.adversarial_harness import Deployed, GitHub

NAME = "octo/large"


def queues_of(**parameters: str) -> MemoryQueues:
    """Queues and functions as the template makes them with these parameters."""
    return MemoryQueues(settings=deployment(shape(**parameters)))


def never(event: dict[str, Any]) -> None:
    """A function that Lambda must not invoke."""
    raise AssertionError(event)


def test_the_seventeenth_invocation_in_a_chain_is_dropped() -> None:
    queues = queues_of(RecursiveLoop="Unset")
    functions = queues.functions
    queues.request_plan(None)
    for _ in range(MOST_IN_A_CHAIN):
        assert functions.deliver(PLANNER, lambda _: queues.send_body("{}"))
        assert functions.deliver(CHUNK_WORKER, lambda _: queues.request_plan(None))
    with pytest.raises(RecursiveInvocation):
        functions.deliver(PLANNER, never)
    queues.request_plan(None)
    assert functions.deliver(PLANNER, lambda _: None), "another chain goes on"


def test_a_dropped_message_is_a_dead_letter_after_all_its_receives() -> None:
    queues = queues_of(RecursiveLoop="Unset")
    queues.plans.put("{}", trace=header({PLANNER: MOST_IN_A_CHAIN}))
    for receive in range(5):
        assert len(queues.plans) == 1 and len(queues.dead) == 0
        queues.now = 720.0 * receive
        with pytest.raises(RecursiveInvocation):
            queues.functions.deliver(PLANNER, never)
    queues.now = 3599.0
    assert queues.functions.deliver(PLANNER, never) == [] and len(queues.plans) == 1
    queues.now = 3600.0
    assert queues.functions.deliver(PLANNER, never) == []
    assert ([letter.body for letter in queues.dead], queues.plans) == (["{}"], [])


@pytest.mark.parametrize(("allowed", "letters"), [("Unset", 1), ("Allow", 0)])
def test_the_product_meets_the_end_of_a_chain_only_where_the_template_forbids_loops(
    db: Database, allowed: str, letters: int
) -> None:
    with Simulator(generate(5, {NAME: 30}), speed=5000) as simulator:
        queues = queues_of(RecursiveLoop=allowed)
        stack = Stack(db, simulator, queues=queues)
        stack.add(NAME)
        (request,) = queues.plans.messages()
        request.trace = header({PLANNER: MOST_IN_A_CHAIN, CHUNK_WORKER: MOST_IN_A_CHAIN})
        stack.run()
        assert (stack.state(NAME)["status"] == "completed") == (allowed == "Allow")
        assert queues.dead_letters_waiting() == letters


@dataclass
class Watch:
    """The time of a planner's invocation, of which each listing request takes some. ``page_size`` is that of a page."""

    seconds_a_page: float
    page_size: int
    spent: float = 0.0

    def left(self) -> float:
        return 600.0 - self.spent

    def watch(self, stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
        list_page, plan = stack.github.list_pull_requests, stack.plan_body

        def listed(node_id: str, cursor: str | None, *, page_size: int) -> ListingPage:
            self.spent += self.seconds_a_page
            return list_page(node_id, cursor, page_size=min(page_size, self.page_size))

        def begun(body: str) -> str:
            self.spent = 0.0
            return plan(body)

        monkeypatch.setattr(stack.github, "list_pull_requests", listed)
        monkeypatch.setattr(stack, "plan_body", begun)


def lived(
    stack: Deployed, watch: Watch, monkeypatch: pytest.MonkeyPatch, messages: int = 1000
) -> tuple[str, int, int, int]:
    """Status, listed and detailed pull requests and dead letters, after hours in which no schedule came."""
    watch.watch(stack, monkeypatch)
    stack.add(NAME)
    outcomes = stack.live(3, most=messages, heartbeats=False, recovery=False)
    assert len(outcomes) < messages and not stack.queues.chunks and not stack.queues.plans
    state = stack.state()
    return state["status"], state["listed_prs"], state["processed_prs"], len(stack.queues.dead)


@pytest.mark.parametrize("recursive_loop", ["Unset", "Allow"])
def test_without_recursive_loop_allow_a_long_listing_stalls_with_a_dead_letter(
    db: Database, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, recursive_loop: str
) -> None:
    """Two pages a run, one run after the other: the seventeenth does not come, and no worker asks for one in its place."""
    with GitHub(generate(5, {NAME: 80}), speed=5000) as simulator:
        watch = Watch(seconds_a_page=5.0, page_size=2)
        settings = deployment(shape(RecursiveLoop=recursive_loop))
        stack = Deployed(db, simulator, connect(), watch.left, settings)
        status, listed, detailed, letters = lived(stack, watch, monkeypatch)
        if recursive_loop == "Allow":
            assert (status, listed, detailed, letters) == ("completed", 80, 80, 0)
        else:
            assert (status, listed, letters) == ("active", MOST_IN_A_CHAIN * 4, 1)
            assert stack.queues.functions.invoked[PLANNER] == MOST_IN_A_CHAIN


@pytest.mark.soak
@pytest.mark.parametrize("recursive_loop", ["Unset", "Allow"])
def test_25_000_pull_requests_need_no_heartbeat_where_loops_are_allowed(
    db: Database, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, recursive_loop: str
) -> None:
    """Eight pages a run, as at 1.25 seconds a page: 12,800 are listed when Lambda stops the chain."""
    with GitHub(generate(5, {NAME: 25_000}), speed=5000) as simulator:
        watch = Watch(seconds_a_page=1.25, page_size=100)
        settings = deployment(shape(RecursiveLoop=recursive_loop))
        stack = Deployed(db, simulator, connect(), watch.left, settings)
        # Nothing there waits for a time, and every row would be written once a message.
        del stack.times["pull_requests"]
        status, listed, detailed, letters = lived(stack, watch, monkeypatch, messages=10_000)
        if recursive_loop == "Allow":
            assert (status, listed, detailed, letters) == ("completed", 25_000, 25_000, 0)
        else:
            assert (status, listed, letters) == ("active", 12_800, 1)
            assert detailed < 1000
