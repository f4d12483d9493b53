"""Which completed repositories a heartbeat checks for changes: by their activity, within a share of GitHub's points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from backfill.messages import PlanEvent
from backfill.store import backfills, completed, leases, repositories
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.integration.rows import REPOSITORY

COUNT = 250


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    """Completed backfills whose repositories rested for years. All checks are due, r000's first."""
    with Simulator(generate(5, {f"octo/r{index:03d}": 1 for index in range(COUNT)}), speed=5000) as simulator:
        for index, each in enumerate(simulator.repositories.values()):
            (pull_request,) = each.pull_requests.values()
            ids = {"node_id": each.node["id"], "github_id": each.node["databaseId"]}
            repository = repositories.upsert(db, {**REPOSITORY, **ids, "owner": "octo", "name": each.node["name"]})
            backfills.add(db, repository.id, total_prs=1, chunk_size=None, metadata={})
            db.execute(
                "UPDATE progressive_backfill_state SET status = 'completed', listed_prs = 1, current_prs = 1,"
                " listing_started_at = now(), listing_completed_at = now(), updates_watermark = CAST(:at AS timestamptz),"
                " next_check_at = now() - interval '1 hour' + make_interval(secs => CAST(:index AS float8))"
                " WHERE repository_id = CAST(:id AS uuid)",
                at=pull_request["updatedAt"],
                index=index,
                id=repository.id,
            )
        yield Stack(db, simulator)


@pytest.fixture
def asked(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The repositories that GitHub is asked about, as they come."""
    found: list[str] = []
    check_for_changes = stack.github.check_for_changes

    def counted(node_ids: list[str]) -> object:
        found.extend(node_ids)
        return check_for_changes(node_ids)

    monkeypatch.setattr(stack.github, "check_for_changes", counted)
    return found


def change(stack: Stack, name: str) -> str:
    """A pull request changes; the node id of its repository."""
    repository = stack.repository(name)
    repository.change(next(iter(repository.pull_requests)), title="Changed")
    return str(repository.node["id"])


def test_a_hundred_cost_a_point_and_those_that_rested_are_asked_about_hours_later(
    stack: Stack, asked: list[str]
) -> None:
    before = stack.simulator.statistics()
    report = stack.heartbeat()
    after = stack.simulator.statistics()
    assert (report["reopened"], stack.queues.plans, stack.queues.chunks) == (0, [], [])
    assert {key: after[key] - before.get(key, 0) for key in ("requests", "points")} == {
        # One more request asks whose the token is.
        "requests": 3 + 1,
        "points": 3 + 1,
    }
    assert completed.waiting(stack.db) == completed.Waiting(0, 0.0, 3)
    assert sorted(asked) == sorted(each.node["id"] for each in stack.simulator.repositories.values())
    changed = change(stack, "octo/r249")
    asked.clear()
    stack.heartbeat()
    assert asked == []
    stack.db.execute("UPDATE progressive_backfill_state SET next_check_at = next_check_at - interval '8 hours'")
    assert stack.heartbeat()["reopened"] == 1
    stack.run()
    # It is active again: from now on each heartbeat checks it, and no other.
    for _ in range(2):
        asked.clear()
        stack.heartbeat()
        assert set(asked) == {changed}


def test_a_person_who_plans_one_repository_has_it_checked_at_once(stack: Stack, asked: list[str]) -> None:
    stack.heartbeat()
    changed = change(stack, "octo/r100")
    asked.clear()
    stack.console.act({"action": "plan", "repository": "octo/r100"})
    stack.run()
    assert set(asked) == {changed}
    assert stack.db.rows("SELECT FROM pull_requests WHERE title = 'Changed'") != []


def test_the_oldest_due_are_checked_first_where_the_share_does_not_suffice(stack: Stack, asked: list[str]) -> None:
    """Two points an hour are two hundred repositories."""
    stack.github.token_facts()
    share = 2.5 / 5000
    planner = replace(stack.planner, check_share=share)
    forecast = replace(stack.forecaster, check_share=share).forecast(PlanEvent()).as_json()
    assert forecast["completed_to_examine"] == {"repositories": 200, "points": 2}
    for _ in range(2):
        planner.plan(PlanEvent())
    assert len(asked) == 200 and asked[0] == stack.repository("octo/r000").node["id"]
    assert stack.repository("octo/r200").node["id"] not in asked
    assert stack.queues.plans == [], "nothing goes on with the round before the next hour"
    waiting = stack.console.act({"action": "status"})["checks"]
    assert (waiting["due"], waiting["points"]) == (50, 2) and waiting["late_seconds"] > 3000
    stack.db.execute("UPDATE github_hours SET hour = hour - interval '1 hour'")
    planner.plan(PlanEvent())
    assert len(asked) == len(set(asked)) == COUNT


def test_one_that_github_does_not_answer_for_goes_behind_the_others(stack: Stack) -> None:
    now = backfills.now(stack.db)
    (first,) = completed.to_check(stack.db, 1, now)
    completed.note_unchecked(stack.db, first.id, "no answer")
    assert first.id not in {each.id for each in completed.to_check(stack.db, COUNT, now)}
    assert completed.to_check(stack.db, COUNT, backfills.now(stack.db))[-1].id == first.id


def test_a_change_that_another_run_was_to_read_and_did_not_is_read_once_its_lease_has_ended(stack: Stack) -> None:
    stack.heartbeat()
    change(stack, "octo/r100")
    found = stack.db.only(
        "SELECT s.id FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = repository_id WHERE name = 'r100'"
    )
    assert leases.take(stack.db, found["id"], 900) is not None
    stack.db.execute("UPDATE progressive_backfill_state SET next_check_at = next_check_at - interval '8 hours'")
    assert stack.heartbeat()["reopened"] == 0
    stack.db.execute("UPDATE progressive_backfill_state SET planner_token = NULL, planner_lease_expires_at = NULL")
    assert stack.heartbeat()["reopened"] == 1
