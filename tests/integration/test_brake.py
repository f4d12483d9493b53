"""The brake: the messages of a run that moved nothing are delayed, and every allowed timeout leaves time to work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backfill import brake
from backfill.error_codes import ErrorCode
from backfill.messages import PlanEvent
from backfill.model import Dispatch, Spent
from backfill.outcomes import Deferred
from backfill.planner.means import SHORTEST_TIMEOUT_SECONDS, Margins
from backfill.store import backfills, chunks, conclusions, dispatches
from backfill.store.connection import Database
from local.in_process import Stack
from local.memory_queue import MemoryQueues
from local.simulator import Simulator, generate
from local.simulator.server import Answer
from local.simulator.viewers import Viewer

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
NAMES = [f"octo/r{index}" for index in range(5)]


def allowed_timeouts() -> list[int]:
    """WorkerTimeout's values in the template."""
    found = re.search(r"WorkerTimeout:\n(?: {4}.*\n)*? {4}AllowedValues: (.*)", TEMPLATE.read_text(encoding="utf-8"))
    assert found is not None
    return [int(each) for each in re.findall(r"\d+", found[1])]


class Delays(MemoryQueues):
    """Every plan request with its delay."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[tuple[str | None, float]] = []

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        super().request_plan(repository_id, delay_seconds)
        self.delays.append((repository_id, delay_seconds))


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(3, dict.fromkeys(NAMES, 4)), speed=5000) as running:
        yield running


@pytest.fixture
def delayed(db: Database, simulator: Simulator) -> Callable[[Callable[[], float]], tuple[Stack, Delays]]:
    """A stack whose plan requests are noted with their delays."""

    def make(seconds_left: Callable[[], float]) -> tuple[Stack, Delays]:
        queues = Delays()
        stack = Stack(db, simulator, seconds_left, queues=queues)
        return stack, queues

    return make


def test_the_delay_grows_to_a_quarter_of_an_hour() -> None:
    delays = [brake.delay_seconds(runs) for runs in range(20)]
    assert delays[:6] == [0, 1, 2, 4, 8, 16]
    assert delays == sorted(delays)
    assert delays[-1] == 900


def test_the_shortest_timeout_is_the_templates() -> None:
    assert min(allowed_timeouts()) == SHORTEST_TIMEOUT_SECONDS


@pytest.mark.parametrize("timeout", allowed_timeouts())
def test_every_allowed_timeout_leaves_time_for_everything_that_a_planner_does(
    db: Database, simulator: Simulator, timeout: int
) -> None:
    margins = Margins.of(timeout)
    assert margins.page <= margins.check < timeout - 5
    assert margins.page >= 20, "a page may wait ten seconds for its turn, and GitHub may take ten"
    stack = Stack(db, simulator, lambda: timeout - 0.5)
    for name in NAMES:
        stack.add(name)
    stack.run(most=60)
    for name in NAMES:
        stack.repository(name).open_pull_requests(1)
    stack.heartbeat()
    stack.run(most=60)
    assert {row["status"] for row in db.rows("SELECT status FROM progressive_backfill_state")} == {"completed"}
    stack.assert_equals_github()


def test_a_round_that_moves_nothing_sends_itself_on_more_and_more_slowly(
    delayed: Callable[[Callable[[], float]], tuple[Stack, Delays]],
) -> None:
    left = [600.0]
    stack, queues = delayed(lambda: left[0])
    stack.add(NAMES[0])
    stack.run()
    left[0] = 5.0
    queues.delays.clear()
    stack.heartbeat()
    for _ in range(12):
        stack.plan_once()
    waits = [delay for _, delay in queues.delays]
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 900
    left[0] = 600.0
    stack.run()
    stack.heartbeat()
    assert queues.plans == []


def test_a_backfill_that_nothing_moves_asks_for_planning_more_and_more_slowly(
    delayed: Callable[[Callable[[], float]], tuple[Stack, Delays]],
) -> None:
    left = [600.0]
    stack, queues = delayed(lambda: left[0])
    stack.add(NAMES[0])
    left[0] = 5.0
    for _ in range(12):
        stack.plan_once()
    own = [delay for repository, delay in queues.delays[1:] if repository]
    assert own[:4] == [1, 2, 4, 8]
    assert own[-1] == 900
    left[0] = 600.0
    stack.run()
    assert stack.state()["status"] == "completed"
    assert stack.state()["idle_runs"] <= 1


def test_a_heartbeat_sends_no_second_message_while_one_goes_on_with_the_round(
    delayed: Callable[[Callable[[], float]], tuple[Stack, Delays]],
) -> None:
    stack, queues = delayed(lambda: 5.0)
    stack.add(NAMES[0])
    queues.plans.clear()
    for _ in range(3):
        stack.heartbeat()
    assert queues.plans == ['{"schema_version": 1}']


def test_a_round_checks_every_completed_repository_once(
    db: Database, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten runs of one round cost ten times the points."""
    monkeypatch.setattr("backfill.planner.run.MOST_BACKFILLS", 1)
    stack = Stack(db, simulator)
    for name in NAMES:
        stack.add(name)
    stack.run()
    for name in NAMES[1:]:
        # They stay active, and every run of the round plans one of them.
        db.execute(
            "UPDATE progressive_backfill_state SET status = 'active', listing_completed_at = NULL FROM repositories AS r"
            " WHERE r.id = repository_id AND r.owner || '/' || r.name = :name",
            name=name,
        )
    asked: list[str] = []
    check_for_changes = stack.github.check_for_changes

    def counted(node_ids: list[str]) -> object:
        asked.extend(node_ids)
        return check_for_changes(node_ids)

    monkeypatch.setattr(stack.github, "check_for_changes", counted)
    stack.heartbeat()
    runs = 1
    while '{"schema_version": 1}' in stack.queues.plans:
        stack.queues.plans[:] = ['{"schema_version": 1}']
        stack.plan_once()
        runs += 1
    assert runs >= 4
    assert max(asked.count(node_id) for node_id in asked) == 1
    assert stack.repository(NAMES[0]).node["id"] in asked


@pytest.mark.parametrize("place", range(5))
def test_one_repository_that_spoils_the_check_costs_that_one(
    db: Database, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    stack = Stack(db, simulator)
    for name in NAMES:
        stack.add(name)
    stack.run()
    bad = stack.repository(NAMES[place]).node["id"]
    answer = simulator.answer

    def spoiled(body: dict[str, object], *viewer: Viewer) -> Answer:
        variables = body.get("variables")
        if isinstance(variables, dict) and bad in (variables.get("ids") or []):
            return Answer(502, {}, b"<html>")
        return answer(body, *viewer)

    monkeypatch.setattr(simulator, "answer", spoiled)
    for name in NAMES:
        stack.repository(name).open_pull_requests(1)
    before = backfills.now(db)
    stack.heartbeat()
    stack.run()
    rows = db.rows(
        "SELECT r.node_id, s.listed_prs, s.last_error, s.asked_at, s.examined_at FROM progressive_backfill_state AS s"
        " JOIN repositories AS r ON r.id = s.repository_id"
    )
    for row in rows:
        assert row["asked_at"] >= before
        if row["node_id"] == bad:
            assert row["last_error"] and row["listed_prs"] == 4 and row["examined_at"] < before
        else:
            assert (row["last_error"], row["listed_prs"]) == (None, 5)


def test_a_chunk_that_is_only_ever_deferred_waits_longer_each_time(db: Database, simulator: Simulator) -> None:
    stack = Stack(db, simulator)
    stack.add(NAMES[0])
    stack.plan_once()
    waits = []
    for _ in range(12):
        (row,) = db.rows("SELECT id, dispatch_id FROM backfill_chunks")
        db.execute("UPDATE backfill_chunks SET available_at = now()")
        chunk = chunks.claim(db, Dispatch(row["id"], row["dispatch_id"]), 60)
        assert chunk is not None
        conclusions.conclude(db, chunk, Deferred(backfills.now(db), ErrorCode.DEFERRED, "x"), Spent())
        (sent,) = dispatches.to_send(db, limit=1)
        waits.append(int(sent.wait_seconds))
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 900


def test_a_direct_request_for_what_is_not_tracked_is_refused_and_a_message_is_not(
    db: Database, simulator: Simulator
) -> None:
    stack = Stack(db, simulator)
    stack.queues.request_plan("00000000-0000-0000-0000-000000000000")
    assert stack.plan_once()["backfills"] == []
    with pytest.raises(Exception, match="has no backfill"):
        stack.planner.plan(PlanEvent(repository_id="00000000-0000-0000-0000-000000000000"))


def test_a_loop_without_delay_breaks_the_bound_of_messages(
    db: Database, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound that every run of the product in one process has to keep (Stack.run) notices what it is for."""
    stack = Stack(db, simulator, lambda: 5.0)
    stack.add(NAMES[0])
    for _ in range(20):
        stack.plan_once()
    stack.assert_brake()
    assert stack.moved.waits == stack.moved.messages == 20
    monkeypatch.setattr(brake, "delay_seconds", lambda _: 0.0)
    for _ in range(20):
        stack.plan_once()
    with pytest.raises(AssertionError, match="messages"):
        stack.assert_brake()


def test_ten_requests_for_one_waiting_pull_request_send_its_chunk_once(db: Database, simulator: Simulator) -> None:
    stack = Stack(db, simulator, lambda: 600.0)
    stack.add(NAMES[0], chunk_size=5)
    stack.plan_once()
    stack.console.act({"action": "pause", "repository": NAMES[0]})
    stack.queues.chunks.clear()
    number = min(stack.repository(NAMES[0]).pull_requests)
    for _ in range(10):
        stack.console.act({"action": "sync", "repository": NAMES[0], "pr_numbers": [number]})
    asked, sent = list(stack.queues.chunks), 0
    stack.queues.chunks.clear()
    for body in asked:
        stack.queues.chunks.insert(0, body)
        assert stack.work_once() == "accepted"
        sent += len(stack.queues.chunks)
        stack.queues.chunks.clear()
    assert sent == 1
    row = db.one("UPDATE backfill_chunks SET sent_at = now() - interval '2 minutes' RETURNING id")
    assert row is not None
    stack.queues.chunks.insert(0, asked[0])
    assert stack.work_once() == "accepted"
    assert len(stack.queues.chunks) == 1, "the message may be lost: the next request sends another"
