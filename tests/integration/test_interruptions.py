"""Workers that are interrupted: by the end of their time, by Postgres, by recovery; and sync requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backfill import outbox, wiring
from backfill.chunk_worker.worker import Worker
from backfill.config import Settings
from backfill.errors import DatabaseUnavailable, NotSent, Retryable
from backfill.messages import chunk_message, plan_message
from backfill.model import Backfill, Dispatch, Spent
from backfill.outcomes import MAX_ATTEMPTS
from backfill.queues import DeadLetter
from backfill.store import backfills, chunks, conclusions, pull_requests, recoveries
from backfill.store.connection import Database
from functions.chunk_worker import app as worker_app
from functions.planner import app as planner_app
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.cutting_proxy import GIVES_BACK, Cut, CuttingProxy
from tests.integration.rows import BROKEN

NAME = "octo/interrupted"
Row = dict[str, Any]


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    """A repository that is listed and cut into chunks; nothing is read yet."""
    with Simulator(generate(3, {NAME: 40}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.console.act({"action": "add", "repository": NAME, "chunk_size": 10})
        stack.planner.plan(plan_message(stack.queues.plans.pop(0)))
        yield stack


def work(stack: Stack, worker: Worker | None = None) -> str:
    """One message, if it is due."""
    body = stack.queues.chunks.pop(0)
    return (worker or stack.worker).handle(chunk_message(body), body)


def make_due(db: Database) -> None:
    db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending'")


def status(db: Database) -> Row:
    row = db.one("SELECT status, consecutive_errors, error_count, processed_prs FROM progressive_backfill_state")
    assert row is not None
    return row


def first(db: Database) -> Row:
    row = db.one("SELECT * FROM backfill_chunks ORDER BY chunk_number LIMIT 1")
    assert row is not None
    return row


class Clock:
    """The function's time: ``left`` seconds until the first request is over, then ``later``."""

    def __init__(self, simulator: Simulator, left: float, later: float) -> None:
        self.simulator, self.left, self.later = simulator, left, later
        self.begun = simulator.statistics()["requests"]

    def __call__(self) -> float:
        return self.left if self.simulator.statistics()["requests"] == self.begun else self.later


# The end of the function's time


def test_a_worker_out_of_time_stores_nothing_and_splits_its_chunk(stack: Stack) -> None:
    stack.db.execute("UPDATE repositories SET detail_request_size = 2")
    before = first(stack.db)
    count = len(stack.db.rows("SELECT FROM backfill_chunks"))
    worker = replace(stack.worker, seconds_left=Clock(stack.simulator, 600, 12))
    assert work(stack, worker) == "split"
    assert stack.db.one("SELECT count(*) AS n FROM pull_requests WHERE detail_synced_at IS NOT NULL") == {"n": 0}
    kept = first(stack.db)
    rest = stack.db.one("SELECT * FROM backfill_chunks ORDER BY chunk_number DESC LIMIT 1")
    assert rest is not None
    assert (kept["id"], kept["status"], kept["attempts"], kept["error_code"]) == (
        before["id"],
        "pending",
        0,
        "out_of_time",
    )
    assert kept["pr_numbers"] + rest["pr_numbers"] == before["pr_numbers"]
    assert abs(len(kept["pr_numbers"]) - len(rest["pr_numbers"])) <= 1
    assert len(stack.db.rows("SELECT FROM backfill_chunks")) == count + 1
    assert kept["requests"] > 0, "what was spent in vain is booked"
    assert status(stack.db) == {"status": "active", "consecutive_errors": 0, "error_count": 0, "processed_prs": 0}
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def test_a_chunk_of_one_that_takes_too_long_fails_alone_and_its_backfill_goes_on(stack: Stack) -> None:
    number = first(stack.db)["pr_numbers"][0]
    stack.db.execute(
        "UPDATE backfill_chunks SET pr_numbers = ARRAY[CAST(:n AS integer)] WHERE chunk_number = 1", n=number
    )
    stack.db.execute("UPDATE repositories SET detail_request_size = 1")
    mine = first(stack.db)["id"]
    late = replace(stack.worker, seconds_left=lambda: 12.0)
    outcomes = []
    while (row := first(stack.db))["status"] == "pending":
        make_due(stack.db)
        outcomes.append(late._process(replace_dispatch(row)))
        assert status(stack.db)["status"] == "active"
    assert outcomes == ["retried"] * (MAX_ATTEMPTS - 1) + ["failed"]
    failed = chunks.get(stack.db, mine)
    assert failed is not None and "time" in str(failed.error)
    assert stack.db.one("SELECT number, error_code FROM pull_request_gaps WHERE reason = 'failed'") == {
        "number": number,
        "error_code": "attempts_spent",
    }
    stack.run()
    assert stack.state()["processed_prs"] == 39


def replace_dispatch(row: Row) -> Any:
    return chunk_message(json.dumps({"schema_version": 1, "chunk_id": row["id"], "dispatch_id": row["dispatch_id"]}))


def test_without_time_for_any_request_the_chunk_is_given_back_whole(stack: Stack) -> None:
    before = first(stack.db)
    assert work(stack, replace(stack.worker, seconds_left=lambda: 12.0)) == "retried"
    assert first(stack.db)["pr_numbers"] == before["pr_numbers"]
    assert status(stack.db)["error_count"] == 0


# Postgres


def test_a_connection_that_ended_while_the_container_slept_costs_no_message(stack: Stack, direct_url: str) -> None:
    other = Database(lambda: direct_url)
    terminate(other, stack.db)
    other.close()
    assert work(stack) == "completed"


def test_a_connection_cut_in_mid_transaction_gives_the_chunk_back_at_once(
    stack: Stack, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, stored = connect(), pull_requests.store_details

    def cut(db: Database, repository_id: str, tables: Any, also_locked: Any) -> list[int]:
        numbers = stored(db, repository_id, tables, also_locked)
        terminate(other, db)
        return numbers

    monkeypatch.setattr(pull_requests, "store_details", cut)
    assert work(stack) == "retried"
    monkeypatch.undo()
    row = first(stack.db)
    assert (row["status"], row["attempts"], row["error_code"]) == ("pending", 1, "database_unavailable")
    assert status(stack.db) == {"status": "active", "consecutive_errors": 0, "error_count": 0, "processed_prs": 0}
    make_due(stack.db)
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


@pytest.mark.parametrize(("place", "outcome"), [(Cut.before, "retried"), (Cut.after, "completed")])
def test_a_commit_with_unknown_result_is_settled_by_the_fence(
    stack: Stack, direct_url: str, place: Cut, outcome: str
) -> None:
    """Cut before COMMIT reaches Postgres nothing is stored; cut before its answer everything is, and only once."""
    size = len(first(stack.db)["pr_numbers"])
    with CuttingProxy(direct_url) as proxy:
        through = Database(lambda: proxy.url)
        proxy.cut(place)
        assert work(stack, replace(stack.worker, db=through)) == outcome
        through.close()
    assert proxy.cuts == [place]
    assert status(stack.db)["processed_prs"] == (0 if place is Cut.before else size)
    make_due(stack.db)
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    again = stack.simulator.statistics()["detailed_again"]
    assert again == (size if place is Cut.before else 0)


@pytest.mark.parametrize("place", Cut)
def test_a_chunk_given_back_with_an_unknown_commit_is_booked_once(
    stack: Stack, direct_url: str, monkeypatch: pytest.MonkeyPatch, place: Cut
) -> None:
    """GitHub has answered, then fails: what that cost stands in the chunk and in its backfill, and in each once."""
    before = stack.state()
    read = stack.github.details

    def details(*args: Any, **keywords: Any) -> Any:
        read(*args, **keywords)
        raise Retryable("GitHub is in a bad mood")

    monkeypatch.setattr(stack.github, "details", details)
    spent = stack.simulator.statistics()
    with CuttingProxy(direct_url, of=GIVES_BACK) as proxy:
        through = Database(lambda: proxy.url)
        proxy.cut(place)
        assert work(stack, replace(stack.worker, db=through)) == ("retried" if place is Cut.before else "given back")
        through.close()
    monkeypatch.undo()
    assert proxy.cuts == [place]
    chunk, after, now = first(stack.db), stack.state(), stack.simulator.statistics()
    assert (chunk["status"], chunk["attempts"]) == ("pending", 1)
    assert chunk["points"] == after["points_spent"] - before["points_spent"] == now["points"] - spent["points"] > 0
    assert chunk["requests"] == after["requests_made"] - before["requests_made"] == now["requests"] - spent["requests"]
    make_due(stack.db)
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def test_while_postgres_is_away_the_message_comes_back(stack: Stack) -> None:
    away = Database(lambda: "postgresql://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(DatabaseUnavailable):
        work(stack, replace(stack.worker, db=away))
    assert first(stack.db)["status"] == "pending"


# Recovery


@pytest.mark.parametrize("error", [Retryable("GitHub is in a bad mood"), None])
def test_a_worker_that_lost_its_claim_leaves_no_trace(
    stack: Stack, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, error: Retryable | None
) -> None:
    """Recovery takes the chunk back while it is being read; what then fails, or succeeds, is nobody's any more."""
    other, read = connect(), stack.github.details

    def details(*args: Any, **keywords: Any) -> Any:
        found = read(*args, **keywords)
        other.execute("UPDATE backfill_chunks SET started_at = now() - interval '1 hour' WHERE status = 'processing'")
        assert len(recoveries.requeue_expired(other, 30, 10)) == 1
        if error is not None:
            raise error
        return found

    monkeypatch.setattr(stack.github, "details", details)
    assert work(stack) == "stale"
    monkeypatch.undo()
    assert status(stack.db) == {"status": "active", "consecutive_errors": 0, "error_count": 0, "processed_prs": 0}
    row = first(stack.db)
    assert (row["status"], row["attempts"], row["error_code"]) == ("pending", 1, "stale")


# SQS


def test_a_message_that_cannot_become_a_dead_letter_comes_back(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(body: str, reason: str) -> None:
        raise ClientError({"Error": {"Code": "ServiceUnavailable"}}, "SendMessage")

    stack.queues.add_dead_letter = refuse  # type: ignore[method-assign,assignment]
    assert handled(stack, "no json", monkeypatch) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


def test_a_deferred_message_that_sqs_does_not_take_again_comes_back(stack: Stack) -> None:
    stack.db.execute("UPDATE backfill_chunks SET available_at = now() + interval '10 minutes'")
    stack.queues.refuse = 1
    with pytest.raises(NotSent, match="did not take"):
        work(stack)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("no json", "body: must be JSON"),
        ('{"schema_version": 7, "repository": "octo/hello", "pr_numbers": [1]}', "schema_version"),
        ('{"schema_version": 1, "repository": "octo/hello", "pr_numbers": [0]}', "pr_numbers.0"),
        ('{"schema_version": 1, "repository": "octo/hello", "pr_numbers": [4000000000]}', "pr_numbers.0"),
        (
            json.dumps({"schema_version": 1, "repository": "octo/hello", "pr_numbers": list(range(1, 502))}),
            "pr_numbers",
        ),
        ('{"schema_version": 1, "repository": "octo/unknown", "pr_numbers": [1]}', "run: backfill add octo/unknown"),
    ],
)
def test_a_message_that_can_never_succeed_is_a_dead_letter_with_its_reason_in_log_and_metric(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    body: str,
    reason: str,
) -> None:
    assert handled(stack, body, monkeypatch) == {"batchItemFailures": []}
    (letter,) = stack.queues.dead
    assert letter.body == body
    assert reason in str(letter.reason)
    (line,) = [each for each in caplog.records if each.message == "a chunk message breaks its contract"]
    assert reason.split(":")[0] in f"{line.__dict__['field']}: {line.__dict__['rule']}"
    assert metric(capsys, "InvalidMessages") == [1.0]


def test_a_plan_request_that_can_never_succeed_is_a_dead_letter_too(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wire(stack, monkeypatch)
    unknown = '{"schema_version": 1, "repository": "octo/nowhere"}'
    for body in ("[]", unknown):
        event = {"Records": [{"messageId": "m1", "body": body}]}
        assert planner_app.handler(event, Context()) == {"batchItemFailures": []}
    assert [letter.body for letter in stack.queues.dead] == ["[]", unknown]
    assert "is not tracked" in str(stack.queues.dead[1].reason)
    assert "InvalidMessages" in capsys.readouterr().out


# Sync requests


def test_a_sync_request_becomes_bounded_chunks_of_its_own(stack: Stack) -> None:
    stack.run()
    numbers = list(range(1, 501))
    stack.queues.send_body(json.dumps({"schema_version": 1, "repository": NAME, "pr_numbers": numbers}))
    assert work(stack) == "accepted"
    made = stack.db.rows("SELECT pr_numbers FROM backfill_chunks WHERE origin = 'message'")
    assert sorted(n for each in made for n in each["pr_numbers"]) == numbers
    assert max(len(each["pr_numbers"]) for each in made) <= 10
    assert len(stack.queues.chunks) == len(made)
    stack.run()
    assert stack.db.rows("SELECT FROM backfill_chunks WHERE status <> 'completed'") == []
    stack.assert_equals_github()


def test_duplicates_of_a_sync_request_are_harmless(stack: Stack) -> None:
    stack.run()
    number = max(next(iter(stack.simulator.repositories.values())).pull_requests)
    body = json.dumps({"schema_version": 1, "repository": NAME, "pr_numbers": [number]})
    for _ in range(3):
        stack.queues.send_body(body)
    assert [work(stack) for _ in range(3)] == ["accepted"] * 3
    assert stack.db.one("SELECT count(*) AS n FROM backfill_chunks WHERE origin = 'message'") == {"n": 1}
    stack.run()
    stack.queues.send_body(body)
    assert stack.run() == ["accepted", "completed"]
    stack.assert_equals_github()


def test_a_sync_request_waits_for_a_chunk_that_is_being_read(stack: Stack) -> None:
    row = first(stack.db)
    chunks.claim(stack.db, Dispatch(row["id"], row["dispatch_id"]), 150)
    body = json.dumps({"schema_version": 1, "repository": NAME, "pr_numbers": row["pr_numbers"][:1]})
    assert stack.worker.handle(chunk_message(body), body) == "busy"
    assert stack.queues.chunks[-1] == body


def test_a_sync_request_is_read_although_its_backfill_is_paused(stack: Stack) -> None:
    stack.run()
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    number = max(next(iter(stack.simulator.repositories.values())).pull_requests)
    stack.queues.send_body(json.dumps({"schema_version": 1, "repository": NAME, "pr_numbers": [number]}))
    assert stack.run() == ["accepted", "completed"]


def test_a_redriven_old_message_is_harmless(stack: Stack) -> None:
    old = stack.queues.chunks[0]
    stack.run()
    stack.queues.send_body(old)
    assert work(stack) == "duplicate"
    assert stack.simulator.statistics()["detailed_again"] == 0


def test_a_redrive_sends_every_letter_to_the_queue_that_it_is_for(stack: Stack) -> None:
    chunk = stack.queues.chunks.pop(0)
    plan = json.dumps({"schema_version": 1, "repository_id": first(stack.db)["repository_id"]})
    stack.queues.chunks.clear()
    stack.queues.plans.clear()
    stack.queues.dead += [DeadLetter("m1", chunk, "r"), DeadLetter("m2", plan, "r")]
    assert stack.console.act({"action": "redrive"})["redriven"] == 2
    assert (stack.queues.chunks, stack.queues.plans, stack.queues.dead) == ([chunk], [plan], [])


def test_planning_that_was_asked_for_while_a_planner_held_the_lease_is_asked_for_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request waits for the lease's end, however many find it taken; who ends the lease makes another, for now."""
    waiting = chunks.outstanding
    plan = json.dumps({"schema_version": 1, "repository_id": first(stack.db)["repository_id"]})
    stack.queues.plans.clear()

    def outstanding(db: Database, backfill_id: str) -> chunks.Outstanding:
        monkeypatch.undo()
        outbox.request_plan(db, stack.queues, Backfill.from_row(stack.state()))
        for _ in range(3):
            assert "skipped" in stack.planner.plan(plan_message(plan)).as_json()["backfills"][0]
        assert len(stack.queues.plans) == 1
        return waiting(db, backfill_id)

    monkeypatch.setattr(chunks, "outstanding", outstanding)
    stack.planner.plan(plan_message(plan))
    assert len(stack.queues.plans) == 2
    assert stack.db.one("SELECT planner_token FROM progressive_backfill_state") == {"planner_token": None}


def test_a_total_that_shrank_is_noticed_though_the_vanished_were_known_before(stack: Stack) -> None:
    """A sync request found that it is gone; the total of the completed backfill is GitHub's all the same."""
    stack.run()
    held = next(iter(stack.simulator.repositories.values())).pull_requests
    number = min(held)
    del held[number]
    stack.queues.send_body(json.dumps({"schema_version": 1, "repository": NAME, "pr_numbers": [number]}))
    stack.run()
    assert status(stack.db)["processed_prs"] == 39
    stack.db.execute("UPDATE progressive_backfill_state SET examined_at = now() - interval '1 day'")
    stack.planner.plan(plan_message('{"schema_version": 1}'))
    stack.run()
    assert stack.db.one("SELECT total_prs FROM progressive_backfill_state") == {"total_prs": 39}


# Pause and resume


def test_resume_retries_what_had_failed_when_asked_to(stack: Stack) -> None:
    row = first(stack.db)
    claimed = chunks.claim(stack.db, Dispatch(row["id"], row["dispatch_id"]), 150)
    assert claimed is not None
    conclusions.conclude(stack.db, claimed, BROKEN, Spent())
    stack.run()
    stack.console.act({"action": "pause", "repository": NAME})
    stack.db.execute("UPDATE progressive_backfill_state SET consecutive_errors = 2")
    assert stack.console.act({"action": "resume", "repository": NAME})["retried"] == 0
    stack.run()
    assert status(stack.db)["processed_prs"] == 40 - len(row["pr_numbers"])
    assert status(stack.db)["consecutive_errors"] == 0
    answer = stack.console.act({"action": "resume", "repository": NAME, "retry_failed": True})
    assert answer["retried"] == len(row["pr_numbers"])
    stack.run()
    assert (status(stack.db)["status"], status(stack.db)["processed_prs"]) == ("completed", 40)
    stack.assert_equals_github()


def test_a_pause_with_chunks_in_flight_lets_them_finish_and_sends_no_more(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = stack.github.details

    def details(*args: Any, **keywords: Any) -> Any:
        stack.db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
        return read(*args, **keywords)

    monkeypatch.setattr(stack.github, "details", details)
    size = len(first(stack.db)["pr_numbers"])
    assert work(stack) == "completed"
    monkeypatch.undo()
    assert set(stack.run()) == {"paused"}
    assert status(stack.db)["processed_prs"] == size
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0")
    stack.planner.plan(plan_message('{"schema_version": 1}'))
    stack.run()
    assert status(stack.db)["status"] == "completed"
    stack.assert_equals_github()


@pytest.mark.parametrize(
    "by", ["command", "UPDATE progressive_backfill_state SET status = 'paused' WHERE repository_id = CAST(:id AS uuid)"]
)
def test_a_persons_pause_takes_the_place_of_one_that_would_have_ended_by_itself(stack: Stack, by: str) -> None:
    backfill = stack.state()
    assert backfills.pause(stack.db, backfill["id"], "bad_credentials", minutes=60, error="401")
    assert [backfills.record_error(stack.db, backfill["id"], "boom", pause_minutes=60) for _ in range(4)] == [False] * 4
    assert (stack.state()["pause_reason"], stack.state()["paused_until"] is None) == ("bad_credentials", False)
    if by == "command":
        assert stack.console.act({"action": "pause", "repository": NAME})["paused"]
    else:
        stack.db.execute(by, id=backfill["repository_id"])
    assert (stack.state()["pause_reason"], stack.state()["paused_until"]) == ("manual", None)
    assert not stack.console.act({"action": "pause", "repository": NAME})["paused"]
    stack.db.execute("UPDATE progressive_backfill_state SET paused_until = paused_until - interval '1 day'")
    assert not backfills.pause(stack.db, backfill["id"], "consecutive_errors", minutes=60, error="again")
    assert stack.heartbeat()["resumed"] == 0
    assert set(stack.run()) == {"paused"}
    assert stack.console.act({"action": "resume", "repository": NAME})["resumed"]
    assert (stack.state()["pause_reason"], stack.state()["consecutive_errors"]) == (None, 0)
    stack.run()
    assert status(stack.db)["status"] == "completed"


# Tools


class Context:
    """What Lambda hands to a handler."""

    function_name, memory_limit_in_mb, aws_request_id = "f", 512, "r1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:f"

    def get_remaining_time_in_millis(self) -> int:
        return 120_000


def wire(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "database", lambda: stack.db)
    monkeypatch.setattr(wiring, "github", lambda: stack.github)
    monkeypatch.setattr(wiring, "queues", lambda: stack.queues)
    # The planner asks for its share of checks; nothing connects to these.
    queues = dict.fromkeys(("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "http://127.0.0.1:9")
    settings = Settings.from_environment({"DATABASE_URL": "postgresql://none", "GITHUB_TOKEN": "none", **queues})
    monkeypatch.setattr(wiring, "settings", lambda: settings)


def handled(stack: Stack, body: str, monkeypatch: pytest.MonkeyPatch) -> Row:
    """What the worker function answers to SQS."""
    wire(stack, monkeypatch)
    answer: Row = worker_app.handler({"Records": [{"messageId": "m1", "body": body}]}, Context())
    return answer


def metric(capsys: pytest.CaptureFixture[str], name: str) -> Any:
    emf = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    return emf[-1][name]


def terminate(other: Database, victim: Database) -> None:
    """End a connection from outside, and wait until it is gone."""
    pid = victim.one("SELECT pg_backend_pid() AS pid") or {}
    assert other.one("SELECT pg_terminate_backend(:pid, 10000) AS gone", pid=pid["pid"]) == {"gone": True}
