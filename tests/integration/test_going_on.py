"""Work continues when its process dies in the middle: nothing waits for the schedules, and no request is wasted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backfill import outbox
from backfill.chunk_worker.worker import Worker
from backfill.errors import DatabaseUnavailable, Deferred, NotSent, Retryable
from backfill.github.client import GitHub
from backfill.messages import PlanEvent, chunk_message, plan_message
from backfill.model import Chunk, Spent
from backfill.outcomes import MAX_ATTEMPTS, Outcome
from backfill.planner.failures import AGAIN_SECONDS
from backfill.queues import LONGEST_DELAY_SECONDS
from backfill.store import backfills, conclusions, leases
from backfill.store.connection import Database
from backfill.store.leases import PLAN_REQUEST_SENDING_SECONDS
from local.in_process import Stack
from local.light import light
from local.simulator import Simulator, generate
from tests.integration.stepped import Broker, Killed, Message, SteppedQueues

NAME = "octo/going-on"
PULL_REQUESTS = 60
# A planner's lease outlasts its function's time, which is 600 seconds here.
LEASE_SECONDS = 630
Row = dict[str, Any]


@dataclass
class Run:
    """A stack whose messages have delays, and come back when they are not acknowledged."""

    stack: Stack
    broker: Broker

    def __post_init__(self) -> None:
        queues = SteppedQueues(self.broker, None)
        self.planner = replace(self.stack.planner, queues=queues)
        self.worker = replace(self.stack.worker, queues=queues)
        self.console = replace(self.stack.console, queues=queues)

    def plan(self) -> Row:
        """The oldest plan request that is visible."""
        return dict(self._handle(self.broker.plans, lambda body: self.planner.plan(plan_message(body)).as_json()))

    def work(self, worker: Worker | None = None) -> str:
        """The oldest chunk message that is visible."""
        return str(
            self._handle(self.broker.chunks, lambda body: (worker or self.worker).handle(chunk_message(body), body))
        )

    def _handle(self, queue: list[Message], work: Any) -> Any:
        message = self.broker.visible(queue)[0]
        assert self.broker.receive(queue, message)
        done = work(message.body)
        self.broker.acknowledge(queue, message)
        return done

    def to_the_end(self) -> None:
        """Until nothing is on its way any more, however far that is."""
        while waiting := [*self.broker.plans, *self.broker.chunks]:
            self.age(max(0.0, min(each.visible_at for each in waiting) - self.broker.now))
            while self.broker.visible(self.broker.plans):
                self.plan()
            if self.broker.visible(self.broker.chunks):
                self.work()

    def age(self, seconds: float) -> None:
        """Time passes for the queues and for the database."""
        self.broker.now += seconds
        self.stack.db.execute(
            "UPDATE progressive_backfill_state SET plan_requested_at = plan_requested_at - make_interval(secs => :s),"
            " planner_lease_expires_at = planner_lease_expires_at - make_interval(secs => :s)",
            s=seconds,
        )
        self.stack.db.execute(
            "UPDATE backfill_chunks SET available_at = available_at - make_interval(secs => :s),"
            " lease_expires_at = lease_expires_at - make_interval(secs => :s)",
            s=seconds,
        )

    def read_all_but(self, left: int) -> None:
        """Work until so many chunks are left in the queue."""
        while len(self.broker.chunks) > left:
            self.work()

    def lose_plan_requests(self) -> None:
        """None is on its way any more, and the last one was so long ago that it does not count."""
        self.broker.plans.clear()
        self.age(leases.PLAN_REQUEST_LOST_SECONDS + 1)

    def assert_is_over(self) -> None:
        self.to_the_end()
        assert self.stack.state()["status"] == "completed"
        self.stack.assert_equals_github()
        assert self.stack.simulator.statistics()["detailed_again"] == 0


@pytest.fixture
def run(db: Database) -> Iterator[Run]:
    """A repository that is listed and cut into chunks; nothing is read yet, and no planning is on its way."""
    with Simulator(generate(3, {NAME: PULL_REQUESTS}), speed=2000) as simulator:
        run = Run(Stack(db, simulator), Broker())
        run.console.act({"action": "add", "repository": NAME, "chunk_size": 10})
        run.plan()
        assert (len(run.broker.plans), len(run.broker.chunks)) == (0, 6)
        yield run


# Workers


def test_a_worker_that_ends_between_completing_and_asking_is_followed_by_its_own_message(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.read_all_but(1)
    run.lose_plan_requests()
    monkeypatch.setattr(Worker, "_request_planning_if_low", killed)
    with pytest.raises(Killed):
        run.work()
    monkeypatch.undo()
    assert run.stack.state()["processed_prs"] == PULL_REQUESTS
    assert run.broker.plans == []
    run.assert_is_over()


def test_a_worker_that_ends_between_reserving_and_sending_does_not_keep_others_from_asking(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.read_all_but(2)
    run.lose_plan_requests()
    monkeypatch.setattr(SteppedQueues, "request_plan", killed)
    with pytest.raises(Killed):
        run.work()
    monkeypatch.undo()
    run.age(PLAN_REQUEST_SENDING_SECONDS + 1)
    assert run.work() == "completed"
    assert len(run.broker.plans) == 1
    run.assert_is_over()


def test_a_planner_that_comes_before_its_request_is_noted_leaves_none_on_its_way(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note of what was answered already would keep everybody from asking, for minutes."""
    send = SteppedQueues.request_plan

    def quick(queues: SteppedQueues, repository_id: str | None, delay_seconds: float = 0) -> None:
        send(queues, repository_id, delay_seconds)
        monkeypatch.undo()
        run.plan()

    monkeypatch.setattr(SteppedQueues, "request_plan", quick)
    assert run.work() == "completed"
    assert (run.stack.state()["plan_requested_at"], run.broker.plans) == (None, [])
    assert run.work() == "completed"
    assert len(run.broker.plans) == 1
    run.assert_is_over()


@pytest.mark.parametrize("error", [ClientError({"Error": {"Code": "ServiceUnavailable"}}, "SendMessage"), "database"])
def test_an_error_after_a_completion_neither_fails_the_chunk_nor_loses_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    error = DatabaseUnavailable("the test cut the connection") if error == "database" else error
    run.read_all_but(1)
    run.lose_plan_requests()

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(outbox, "request_plan", refuse)
    with pytest.raises(type(error)):
        run.work()
    monkeypatch.undo()
    row = run.stack.db.one("SELECT status, attempts FROM backfill_chunks ORDER BY completed_at DESC LIMIT 1")
    assert row == {"status": "completed", "attempts": 1}
    assert run.stack.state()["error_count"] == 0
    run.assert_is_over()


def test_a_failed_chunk_whose_worker_lost_postgres_after_the_commit_is_not_called_stale(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its points are booked once, and its message comes back to ask for planning."""
    run.read_all_but(1)
    run.stack.db.execute("UPDATE backfill_chunks SET attempts = :n WHERE status = 'pending'", n=MAX_ATTEMPTS - 1)
    monkeypatch.setattr(run.stack.github, "details", failing(Retryable("GitHub is in a bad mood")))
    conclude = conclusions.conclude

    def committed(db: Database, chunk: Chunk, outcome: Outcome, spent: Spent) -> None:
        conclude(db, chunk, outcome, spent)
        db._connection.run("COMMIT")  # type: ignore[union-attr]
        raise DatabaseUnavailable("the test cut the connection")

    monkeypatch.setattr(conclusions, "conclude", committed)
    assert run.work() == "failed"
    monkeypatch.undo()
    assert run.stack.db.one("SELECT error_code FROM backfill_chunks WHERE status = 'failed'") == {
        "error_code": "attempts_spent"
    }
    run.to_the_end()
    assert run.stack.state()["status"] == "completed"


def test_a_released_chunk_that_sqs_does_not_take_is_sent_when_its_message_comes_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.read_all_but(1)
    run.lose_plan_requests()
    monkeypatch.setattr(run.stack.github, "details", failing(Retryable("GitHub is in a bad mood")))
    monkeypatch.setattr(SteppedQueues, "send_chunks", lambda *_: [])
    with pytest.raises(NotSent, match="SQS did not take"):
        run.work()
    monkeypatch.undo()
    run.assert_is_over()


# Planners


def test_a_request_that_finds_a_dead_planners_lease_is_answered_after_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planner that the schedule started has no message that would come back when it dies."""
    run.read_all_but(1)
    run.lose_plan_requests()
    die_in_planning(run, monkeypatch)
    assert run.work() == "completed"
    (request,) = run.broker.plans
    assert LEASE_SECONDS <= request.visible_at - run.broker.now <= LEASE_SECONDS + 2
    run.assert_is_over()


def test_a_request_that_was_on_its_way_when_a_planner_died_is_answered_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.read_all_but(1)
    assert len(run.broker.plans) == 1
    die_in_planning(run, monkeypatch)
    assert "skipped" in run.plan()["backfills"][0]
    (request,) = run.broker.plans
    assert request.visible_at > run.broker.now
    run.assert_is_over()


def test_a_planner_whose_lease_was_taken_over_asks_again_and_counts_no_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took it over may have died since, and both had the same message."""
    run.read_all_but(0)

    def taken_over(github: GitHub, node_ids: list[str]) -> Any:
        run.stack.db.execute(
            "UPDATE progressive_backfill_state SET planner_token = gen_random_uuid(),"
            " planner_lease_expires_at = now() + interval '90 seconds'"
        )
        return check_for_changes(github, node_ids)

    check_for_changes = GitHub.check_for_changes
    with monkeypatch.context() as patch:
        patch.setattr(GitHub, "check_for_changes", taken_over)
        assert "another planner" in run.plan()["backfills"][0]["skipped"]
    assert (run.stack.state()["consecutive_errors"], run.stack.state()["error_count"]) == (0, 0)
    (request,) = run.broker.plans
    assert request.visible_at - run.broker.now >= 89
    run.assert_is_over()


def test_a_lease_that_is_longer_than_sqs_can_delay_is_outlived_in_two_steps(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.read_all_but(1)
    die_in_planning(run, monkeypatch, LONGEST_DELAY_SECONDS)
    assert "skipped" in run.plan()["backfills"][0]
    run.age(LONGEST_DELAY_SECONDS)
    assert "skipped" in run.plan()["backfills"][0]
    run.assert_is_over()


def test_planners_that_find_the_lease_taken_make_one_request_of_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"schema_version": 1, "repository_id": run.stack.state()["repository_id"]})
    die_in_planning(run, monkeypatch)
    for _ in range(10):
        run.broker.put(run.broker.plans, body)
        assert "skipped" in run.plan()["backfills"][0]
    assert len(run.broker.plans) == 1


def test_a_planner_asks_again_when_sqs_took_only_some_of_its_chunks(db: Database) -> None:
    with Simulator(generate(3, {NAME: PULL_REQUESTS}), speed=2000) as simulator:
        run = Run(Stack(db, simulator), Broker())
        run.console.act({"action": "add", "repository": NAME, "chunk_size": 10})
        stack = Stack(db, simulator)
        stack.queues.refuse = 6
        run.broker.plans.clear()
        stack.heartbeat()
        assert (stack.queues.chunks, len(stack.queues.plans)) == ([], 1)
        reserved = db.one(
            "SELECT EXTRACT(epoch FROM plan_requested_at - now()) AS seconds FROM progressive_backfill_state"
        )
        assert reserved is not None and AGAIN_SECONDS - 10 < reserved["seconds"] <= AGAIN_SECONDS
        stack.run()
        assert stack.state()["status"] == "completed"


def test_a_planner_without_time_to_cut_leaves_it_to_another(db: Database) -> None:
    """It finds the listing ended by one that died before it had cut anything."""
    with Simulator(generate(3, {NAME: PULL_REQUESTS}), speed=2000) as simulator:
        run = Run(Stack(db, simulator), Broker())
        run.console.act({"action": "add", "repository": NAME, "chunk_size": 10})
        run.plan()
        db.execute("DELETE FROM backfill_chunks")
        run.broker.chunks.clear()
        replace(run.planner, seconds_left=lambda: 5.0).plan(PlanEvent(repository_id=run.stack.state()["repository_id"]))
        assert len(run.broker.plans) == 1
        run.assert_is_over()


def test_an_undisturbed_backfill_asks_for_no_more_planning_than_there_is(db: Database) -> None:
    """Each request makes the planner list, cut or complete, but for the last chunks, whose workers all see few chunks."""
    with Simulator(light(400, NAME), speed=2000) as simulator:
        run = Run(Stack(db, simulator), Broker())
        run.console.act({"action": "add", "repository": NAME, "chunk_size": 10})
        reports = []
        while run.broker.plans or run.broker.chunks:
            if run.broker.visible(run.broker.plans):
                reports += run.plan()["backfills"]
            else:
                run.work()
        assert run.stack.state()["status"] == "completed"
        worth = [bool(each["pages"] or each["chunks"] or each.get("completed")) for each in reports]
        last = run.stack.state()["max_chunks"]
        assert len(worth) > last and all(worth[:-last]) and worth[-1]


def test_vanished_pull_requests_are_found_although_the_planner_died_after_its_listing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed, and then not counted any more: the listing has not ended before it is known what became of it."""
    run.to_the_end()
    held = next(iter(run.stack.simulator.repositories.values())).pull_requests
    gone = sorted(held)[7]
    del held[gone]
    monkeypatch.setattr(run.stack.github, "list_numbers", killed)
    run.stack.db.execute("UPDATE progressive_backfill_state SET examined_at = now() - interval '1 day'")
    with pytest.raises(Killed):
        run.planner.plan(PlanEvent())
    monkeypatch.undo()
    run.age(LEASE_SECONDS + 1)
    run.planner.plan(PlanEvent())
    run.to_the_end()
    assert run.stack.db.rows("SELECT number FROM pull_requests WHERE gone_at IS NOT NULL") == [{"number": gone}]
    assert (run.stack.state()["status"], run.stack.state()["total_prs"]) == ("completed", PULL_REQUESTS - 1)


# What it costs


@pytest.mark.parametrize("name", ["list_pull_requests", "list_updated", "check_for_changes"])
def test_the_cost_of_a_planning_without_result_is_booked(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run.to_the_end()
    repository = next(iter(run.stack.simulator.repositories.values()))
    repository.change(min(repository.pull_requests), title="Changed", updatedAt="2030-01-01T00:00:00Z")
    run.stack.db.execute(
        "UPDATE progressive_backfill_state SET status = 'active', listing_completed_at = NULL, listing_started_at = NULL"
        if name == "list_pull_requests"
        else "UPDATE progressive_backfill_state SET examined_at = now() - interval '1 day'"
    )
    before, served = run.stack.state(), run.stack.simulator.statistics()
    ask = getattr(run.stack.github, name)

    def in_vain(*arguments: Any, **options: Any) -> None:
        ask(*arguments, **options)
        raise Deferred(backfills.now(run.stack.db), 600, "what was answered is of no use")

    monkeypatch.setattr(run.stack.github, name, in_vain)
    run.planner.plan(PlanEvent(repository_id=before["repository_id"]))
    now, serves = run.stack.state(), run.stack.simulator.statistics()
    assert now["points_spent"] - before["points_spent"] == serves["points"] - served["points"] > 0
    assert now["requests_made"] - before["requests_made"] == serves["requests"] - served["requests"] > 0


# Tools


def killed(*_: Any, **__: Any) -> None:
    """The process ends here."""
    raise Killed


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def die_in_planning(run: Run, monkeypatch: pytest.MonkeyPatch, seconds: float = 600) -> None:
    """A planner that the schedule started, and that had so many seconds, dies while it holds the lease."""
    monkeypatch.setattr(leases, "end", killed)
    with pytest.raises(Killed):
        replace(run.planner, seconds_left=lambda: seconds).plan(PlanEvent())
    monkeypatch.undo()
