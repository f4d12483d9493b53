"""The main job in one process: a repository is added, listed, chunked, detailed and completed, on a real Postgres."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from backfill.errors import ContractViolation
from backfill.messages import PlanEvent, RecoveryEvent, chunk_message, plan_message
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate

NAME = "octo/medium"


@pytest.fixture
def stack(db: Database) -> Any:
    with Simulator(generate(7, {NAME: 250}), speed=2000) as simulator:
        yield Stack(db, simulator)


def test_a_repository_is_added_and_completes_without_another_command(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    outcomes = stack.run()
    state = stack.state()
    assert (state["status"], state["processed_prs"], state["total_prs"]) == ("completed", 250, 250)
    assert set(outcomes) == {"completed"}
    stack.assert_equals_github()
    assert stack.simulator.statistics()["detailed_again"] == 0


def test_duplicated_and_reordered_messages_change_nothing(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    outcomes = stack.run(rng=random.Random(3))
    assert "duplicate" in outcomes
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()
    assert stack.simulator.statistics()["detailed_again"] == 0


def test_a_second_run_changes_nothing_but_timestamps_of_runs(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    stack.run()
    tables = ("pull_requests", "reviews", "comments", "commits", "files", "backfill_chunks")
    before = {t: stack.db.rows(f"SELECT xmin::text AS version FROM {t} ORDER BY 1") for t in tables}
    stack.console.act({"action": "add", "repository": NAME})
    stack.run()
    stack.planner.plan(PlanEvent())
    stack.run()
    assert {t: stack.db.rows(f"SELECT xmin::text AS version FROM {t} ORDER BY 1") for t in tables} == before


def test_new_changed_and_deleted_pull_requests_are_noticed(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    stack.run()
    (repository,) = stack.simulator.repositories.values()
    numbers = sorted(repository.pull_requests)
    changed = repository.pull_requests[numbers[0]]
    changed["title"], changed["updatedAt"] = "Another title", "2030-01-01T00:00:00Z"
    del repository.pull_requests[numbers[5]]
    stack.planner.plan(PlanEvent())
    stack.run()
    state = stack.state()
    assert (state["status"], state["processed_prs"], state["total_prs"]) == ("completed", 249, 249)
    stack.assert_equals_github()


def test_recovery_sends_messages_that_sqs_did_not_accept(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    stack.queues.refuse = 10_000
    stack.plan_once()
    assert (stack.state()["status"], stack.queues.chunks) == ("active", [])
    stack.queues.refuse = 0
    report = stack.recovery.recover(RecoveryEvent())
    assert report["sent"] == len(stack.db.rows("SELECT FROM backfill_chunks")) > 5
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def test_a_pause_by_sql_stops_and_a_resume_by_sql_goes_on(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    stack.planner.plan(plan_message(stack.queues.plans.pop(0)))
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    assert set(stack.run()) == {"paused"}
    assert stack.state()["processed_prs"] == 0
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0")
    stack.planner.plan(PlanEvent())
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def test_a_sync_request_reads_again_and_reports_numbers_of_issues(stack: Stack) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    stack.run()
    (repository,) = stack.simulator.repositories.values()
    number = max(repository.pull_requests)
    issue = next(n for n in range(1, 999) if n not in repository.pull_requests)
    before = stack.simulator.details[repository.node["id"], number]
    stack.queues.send_body(json.dumps({"schema_version": 1, "repository": NAME, "pr_numbers": [number, issue]}))
    assert stack.run() == ["accepted", "completed"]
    assert stack.simulator.details[repository.node["id"], number] == before + 1
    chunk = stack.db.one("SELECT error FROM backfill_chunks WHERE origin = 'message'")
    assert chunk == {"error": f"#{issue}: no pull request on GitHub"}


def test_a_message_for_an_unknown_repository_says_what_to_do(stack: Stack) -> None:
    body = json.dumps({"schema_version": 1, "repository": "octo/unknown", "pr_numbers": [1]})
    with pytest.raises(ContractViolation, match="backfill add octo/unknown"):
        stack.worker.handle(chunk_message(body), body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("no json", "body"),
        ("[]", "body"),
        ('{"schema_version": 2, "chunk_id": "x", "dispatch_id": "y"}', "schema_version"),
        ('{"schema_version": 1, "repository": "octo/hello", "pr_numbers": [0]}', "pr_numbers.0"),
        ('{"schema_version": 1, "repository": "octo/hello", "pr_numbers": []}', "pr_numbers"),
        ('{"schema_version": 1}', "event"),
    ],
)
def test_a_malformed_message_names_the_field_and_the_rule(body: str, field: str) -> None:
    with pytest.raises(ContractViolation) as violation:
        chunk_message(body)
    assert violation.value.field == field
    assert violation.value.rule


def test_an_unreachable_github_pauses_after_three_errors_and_loses_nothing(
    stack: Stack, connect: Callable[[], Database]
) -> None:
    stack.console.act({"action": "add", "repository": NAME})
    stack.planner.plan(plan_message(stack.queues.plans.pop(0)))
    stack.simulator.__exit__(None)
    while stack.queues.chunks:
        body = stack.queues.chunks.pop(0)
        stack.worker.handle(chunk_message(body), body)
        stack.db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending'")
        # The outage lasts: what happens within a minute is one error.
        stack.db.execute(
            "UPDATE progressive_backfill_state SET outage_counted_at = outage_counted_at - interval '61 seconds'"
        )
    state = stack.state()
    assert (state["status"], state["pause_reason"]) == ("paused", "consecutive_errors")
    assert state["paused_until"] is not None
    assert stack.db.rows("SELECT id FROM backfill_chunks WHERE status NOT IN ('pending')") == []
