"""Repositories are added by name and removed: names without an answer from GitHub yet, and removal at any moment."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from backfill.errors import ContractViolation, Deferred
from backfill.github.errors import Unreachable
from backfill.planner.names import resolve
from backfill.store import backfills, names, removals
from backfill.store.connection import Database
from backfill.widget.contract import View
from backfill.widget.page import show
from cli.main import app
from cli.stack import DeployedStack
from local.in_process import Stack
from local.simulator import Simulator, generate

NAMES = [f"octo/r{index:02d}" for index in range(25)]
ONE = NAMES[0]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(3, dict.fromkeys(NAMES, 8)), speed=5000) as running:
        yield running


@pytest.fixture
def stack(db: Database, simulator: Simulator) -> Stack:
    return Stack(db, simulator)


@pytest.fixture
def command(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(
        DeployedStack, "invoke", lambda _, function, event: json.loads(json.dumps(stack.console.act(event)))
    )
    return lambda *words: CliRunner().invoke(app, list(words))


def requests(simulator: Simulator) -> int:
    return int(simulator.statistics().get("requests", 0))


# Names


def test_names_are_resolved_in_one_request_and_told_in_their_order(
    stack: Stack, simulator: Simulator, command: Callable[..., Any]
) -> None:
    stack.github.repository("octo", "r24")  # also asks once whose the token is
    before = requests(simulator)
    order = [NAMES[7], NAMES[3], "octo/unknown", NAMES[20], *NAMES[8:20]]
    done = command("add", *order)
    assert done.exit_code == 1
    assert requests(simulator) - before == 1
    told = [line for line in done.output.splitlines() if "octo/" in line]
    assert [line.removeprefix("error: ").split()[0].rstrip(":") for line in told] == order
    assert "GitHub shows no repository octo/unknown to this token" in done.output


@pytest.mark.parametrize("limit", [True, False], ids=["a limit", "an outage"])
def test_names_are_accepted_while_github_cannot_answer_and_asked_for_by_the_planner(
    stack: Stack, simulator: Simulator, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, limit: bool
) -> None:
    def refused(_: Any) -> Any:
        if limit:
            raise Deferred(backfills.now(stack.db), 7.0, "server time")
        raise Unreachable("GitHub is away")

    with monkeypatch.context() as patch:
        patch.setattr(stack.github, "find", refused)
        done = command("add", *NAMES, "--priority", "high", "--chunk-size", "3")
        assert done.exit_code == 0
        assert done.output.count("is accepted; the planner will ask GitHub again") == 25
        assert ("server time" if limit else "GitHub is away") in done.output
    assert f"{NAMES[3]} is not a backfill yet, asked again at" in command("status").output
    stack.db.execute("UPDATE requested_names SET ask_at = now()")
    before = requests(simulator)
    stack.plan_once()
    assert requests(simulator) - before == 1 + 1 + 25, "all names, whose the token is, and a page of each"
    assert names.requested(stack.db) == []
    stack.run()
    rows = stack.db.rows(
        "SELECT status, chunk_size, metadata ->> 'priority' AS priority FROM progressive_backfill_state"
    )
    assert [tuple(row.values()) for row in rows] == [("completed", 3, "high")] * 25
    stack.assert_equals_github()


def test_a_name_that_github_does_not_know_is_visible_and_in_the_end_not_asked_for(
    stack: Stack, simulator: Simulator, command: Callable[..., Any]
) -> None:
    names.accept(stack.db, names.Wanted("octo", "nowhere", None, {}), "server time", 0)
    names.accept(stack.db, names.Wanted("octo", "r01", None, {}), "server time", 0)
    stack.heartbeat()
    (left,) = names.requested(stack.db)
    assert (left.repository, left.is_refused, left.given_up_at) == ("octo/nowhere", True, None)
    assert "GitHub shows no repository octo/nowhere" in command("status").output
    assert stack.state("octo/r01") is not None
    before = requests(simulator)
    resolve(stack.planner)
    assert requests(simulator) == before, "not before its time"
    stack.db.execute("UPDATE requested_names SET ask_at = now(), requested_at = now() - interval '25 hours'")
    resolve(stack.planner)
    assert requests(simulator) == before + 1
    stack.db.execute("UPDATE requested_names SET ask_at = now()")
    resolve(stack.planner)
    assert requests(simulator) == before + 1, "given up"
    assert "not asked for any more" in command("status").output
    assert command("remove", "octo/nowhere").exit_code == 0
    assert names.requested(stack.db) == []


# Removal


@pytest.mark.parametrize("delete_data", [False, True])
def test_a_removal_with_messages_on_their_way_leaves_no_dead_letter(stack: Stack, delete_data: bool) -> None:
    stack.add(ONE, chunk_size=2)
    stack.plan_once()
    stack.work_once()
    stack.console.act({"action": "sync", "repository": ONE, "pr_numbers": [1, 2]})
    stack.queues.request_plan(stack.state()["repository_id"])
    answer = stack.console.act({"action": "remove", "repository": ONE, "delete_data": delete_data})
    assert (answer["removed"], answer["done"]) == (True, True)
    bodies = [*stack.queues.plans, '{"schema_version": 1, "repository": "octo/r00"}']
    stack.queues.plans[:] = bodies
    stack.run()
    assert stack.queues.dead == []
    assert stack.db.rows("SELECT FROM progressive_backfill_state") == []
    rows = stack.db.rows("SELECT FROM pull_requests")
    assert len(rows) == (0 if delete_data else 8)
    assert len(stack.db.rows("SELECT FROM repositories")) == (0 if delete_data else 1)
    with pytest.raises(ContractViolation, match="not tracked"):
        stack.console.act({"action": "remove", "repository": ONE})


def test_kept_data_is_deleted_later_or_taken_up_again(stack: Stack) -> None:
    stack.add(ONE)
    stack.run()
    stack.console.act({"action": "remove", "repository": ONE})
    stack.add(ONE)
    stack.run()
    assert stack.state()["status"] == "completed"
    assert stack.simulator.statistics()["detailed_again"] == 0
    stack.assert_equals_github()
    stack.console.act({"action": "remove", "repository": ONE})
    stack.console.act({"action": "remove", "repository": ONE, "delete_data": True})
    assert stack.db.rows("SELECT FROM repositories") == stack.db.rows("SELECT FROM files") == []


@pytest.mark.parametrize("delete_data", [False, True])
def test_a_removal_waits_for_a_worker_that_stores_and_stops_one_that_reads(
    stack: Stack, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, delete_data: bool
) -> None:
    stack.add(ONE, chunk_size=4)
    stack.plan_once()
    console = Stack(connect(), stack.simulator).console
    event = {"action": "remove", "repository": ONE, "delete_data": delete_data}
    details, threads = stack.github.details, list[threading.Thread]()

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        read = details(*arguments, **options)
        thread = threading.Thread(target=console.act, args=(event,))
        thread.start()
        threads.append(thread)
        if len(stack.queues.chunks) == 2:
            # The first of two, which is in flight: it stores after the removal.
            thread.join(30)
        return read

    monkeypatch.setattr(stack.github, "details", meanwhile)
    assert stack.work_once() == "stale"
    threads[0].join(30)
    monkeypatch.undo()
    stack.run()
    assert stack.queues.dead == []
    assert stack.db.rows("SELECT FROM backfill_chunks") == []


def test_a_check_that_was_under_way_brings_nothing_back(
    stack: Stack, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(ONE)
    stack.run()
    console = Stack(connect(), stack.simulator).console
    check_for_changes = stack.github.check_for_changes

    def meanwhile(node_ids: Any) -> Any:
        answer = check_for_changes(node_ids)
        console.act({"action": "remove", "repository": ONE, "delete_data": True})
        return answer

    monkeypatch.setattr(stack.github, "check_for_changes", meanwhile)
    stack.heartbeat()
    assert stack.db.rows("SELECT FROM repositories") == []


def test_much_data_is_deleted_in_several_answers(
    stack: Stack, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.console.DELETING_SECONDS", 0.0)
    monkeypatch.setattr("backfill.store.removals.BATCH", 3)
    stack.add(ONE)
    stack.run()
    done = command("remove", ONE, "--delete-data")
    assert (done.exit_code, "its data is deleted" in done.output) == (0, True)
    assert stack.db.rows("SELECT FROM repositories") == stack.db.rows("SELECT FROM pull_requests") == []


def test_a_repository_that_is_added_again_while_its_data_is_deleted_stays(stack: Stack) -> None:
    """The second answer of a removal comes after another person's ``backfill add``."""
    stack.add(ONE)
    stack.run()
    stored = stack.db.rows("SELECT count(*) FROM pull_requests")
    assert removals.delete_data(stack.db, str(stack.state(ONE)["repository_id"]), 10.0)
    assert stack.db.rows("SELECT count(*) FROM pull_requests") == stored
    assert stack.state(ONE)["status"] == "completed"


def test_an_interrupted_deletion_leaves_no_gap_for_the_backfill_that_is_added_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub loses a pull request meanwhile: nothing would ever bring its row back."""
    monkeypatch.setattr("backfill.store.removals.BATCH", 3)
    stack.add(ONE)
    stack.run()
    repository_id = str(stack.state(ONE)["repository_id"])
    removals.remove_backfill(stack.db, repository_id)
    assert not removals.delete_data(stack.db, repository_id, -1.0)
    left = {row["number"] for row in stack.db.rows("SELECT number FROM pull_requests")}
    held = stack.repository(ONE)
    assert left and left < set(held.pull_requests)
    held.delete(min(set(held.pull_requests) - left))
    stack.add(ONE)
    stack.run()
    stack.assert_equals_github()


def test_rows_listed_before_the_clock_was_put_back_do_not_count_as_listed(stack: Stack) -> None:
    stack.add(ONE)
    stack.run()
    repository_id = str(stack.state(ONE)["repository_id"])
    removals.remove_backfill(stack.db, repository_id)
    stack.db.execute("UPDATE pull_requests SET listed_at = listed_at + interval '6 hours'")
    held = stack.repository(ONE)
    held.delete(min(held.pull_requests))
    stack.add(ONE)
    stack.run()
    stack.assert_equals_github()


def test_the_page_tells_of_names_and_fits_into_an_answer(stack: Stack) -> None:
    stack.db.execute(
        "INSERT INTO repositories (node_id, github_id, owner, name, url, is_private, is_fork, is_archived)"
        " SELECT 'R_' || n, n, 'octo', 'r' || n, 'u', false, false, false FROM generate_series(1, 300) AS n"
    )
    stack.db.execute("INSERT INTO progressive_backfill_state (repository_id) SELECT id FROM repositories")
    stack.db.execute(
        "INSERT INTO backfill_chunks (backfill_state_id, repository_id, chunk_number, pr_numbers, available_at, error, error_code)"
        " SELECT id, repository_id, 1, '{1}', now() + interval '1 hour', repeat('<', 2000), 'x' FROM progressive_backfill_state"
    )
    stack.db.execute("UPDATE progressive_backfill_state SET last_error = repeat('<', 2000), last_error_at = now()")
    for name in ("nowhere", "other"):
        names.accept(stack.db, names.Wanted("octo", name, None, {}), "server time", 60)
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:s-widget"
    html = show(stack.db, stack.queues, View(rows=200), arn)
    assert "octo/nowhere is not a backfill yet: server time (1 more: backfill status)" in html
    assert len(json.dumps(html)) < 6_291_556
