"""Timelines: events with actor and time, and whether threads are resolved. On or off for a backfill, or for the stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backfill.errors import ContractViolation
from backfill.messages import PlanEvent
from backfill.store import timelines
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate
from local.simulator.node_ids import other_form
from tests.integration.demanding import Demanding, is_detail, labelled, reviews

NAME, SIZE = "octo/history", 40


@pytest.fixture
def asked() -> list[str]:
    """The detail queries that are answered."""
    return []


@pytest.fixture
def stack(db: Database, asked: list[str]) -> Iterator[Stack]:
    with Demanding(generate(8, {NAME: SIZE}), speed=2000) as simulator:

        def note(query: str) -> None:
            if is_detail(query):
                asked.append(query)

        simulator.before = note  # type: ignore[attr-defined]
        yield Stack(db, simulator)


@pytest.fixture
def repository(stack: Stack) -> Any:
    return stack.repository(NAME)


def with_default(stack: Stack, timeline: bool) -> None:
    """Deploy the stack with another value of the parameter Timeline."""
    stack.planner = replace(stack.planner, timeline=timeline)
    stack.forecaster = replace(stack.forecaster, timeline=timeline)


def count(db: Database, table: str) -> int:
    return int(db.only(f"SELECT count(*) AS n FROM {table}")["n"])


def have_timeline(db: Database) -> int:
    """Pull requests whose stored timeline is as new as their details."""
    return int(db.only("SELECT count(*) AS n FROM pull_requests WHERE timeline_updated_at = detail_updated_at")["n"])


def numbers_read(asked: list[str]) -> int:
    return sum(query.count("pullRequest(number:") for query in asked)


def completed(stack: Stack) -> None:
    state = stack.state()
    assert (state["status"], state["processed_prs"], state["error_count"]) == ("completed", SIZE, 0), state
    stack.assert_equals_github()


def test_events_and_threads_are_stored_as_github_has_them(stack: Stack, repository: Any) -> None:
    stack.add(NAME, timeline=True)
    stack.run()
    completed(stack)
    assert have_timeline(stack.db) == SIZE
    events = [each for node in repository.pull_requests.values() for each in node["timelineItems"]]
    assert count(stack.db, "timeline_events") == len(events) > 2 * SIZE
    kinds = {row["kind"] for row in stack.db.rows("SELECT DISTINCT kind FROM timeline_events")}
    assert {"review_requested", "ready_for_review", "head_ref_force_pushed", "labeled", "assigned", "merged"} <= kinds
    pushed = stack.db.only("SELECT * FROM timeline_events WHERE kind = 'head_ref_force_pushed' LIMIT 1")
    assert len(pushed["before_oid"]) == len(pushed["after_oid"]) == 40
    requested = "SELECT * FROM timeline_events WHERE kind = 'review_requested' AND subject IS NOT NULL LIMIT 1"
    assert stack.db.only(requested)["subject_id"] is not None
    threads = [each for node in repository.pull_requests.values() for each in node["reviewThreads"]]
    resolved = stack.db.only("SELECT count(*) FILTER (WHERE is_resolved) AS n, count(*) AS total FROM review_threads")
    assert resolved == {"n": sum(each["isResolved"] for each in threads), "total": len(threads)}
    assert 0 < resolved["n"] < resolved["total"]


def test_without_the_timeline_nothing_of_it_is_asked_or_stored(stack: Stack, asked: list[str]) -> None:
    stack.add(NAME)
    stack.run()
    completed(stack)
    assert asked and not [query for query in asked if "timelineItems" in query or "isResolved" in query]
    assert (count(stack.db, "timeline_events"), count(stack.db, "review_threads"), have_timeline(stack.db)) == (0, 0, 0)


def test_a_long_timeline_is_followed_to_its_end(stack: Stack, repository: Any) -> None:
    first, second, *_ = sorted(repository.pull_requests)
    repository.change(first, timelineItems=labelled(repository, first, 250))
    repository.change(second, timelineItems=[], **reviews(repository, second, [3] * 120, 110))
    stack.add(NAME, timeline=True)
    stack.run()
    completed(stack)
    for number, table, expected in ((first, "timeline_events", 250), (second, "timeline_events", 0)):
        found = stack.db.only(f"SELECT count(*) AS n FROM {table} WHERE pull_request_number = :n", n=number)
        assert found["n"] == expected
    by_one = "SELECT count(*) AS n FROM review_threads WHERE pull_request_number = :n AND resolved_by_id IS NOT NULL"
    assert stack.db.only(by_one, n=second)["n"] == 110


def test_turned_on_for_a_completed_repository_its_pull_requests_are_read_again(stack: Stack, asked: list[str]) -> None:
    stack.add(NAME)
    stack.run()
    asked.clear()
    answer = stack.add(NAME, timeline=True)
    assert answer["changed"] == {"timeline": {"from": "default", "to": "on"}}
    stack.plan_once()
    # What was stored stays until it is read, and the progress shows that it is.
    state = stack.state()
    assert (state["status"], state["processed_prs"]) == ("active", 0)
    assert count(stack.db, "reviews") > 0
    stack.run()
    completed(stack)
    assert (have_timeline(stack.db), numbers_read(asked)) == (SIZE, SIZE)
    asked.clear()
    stack.add(NAME, timeline=True)
    stack.heartbeat()
    stack.run()
    assert asked == []


def test_turned_off_it_stays_as_it_was_and_turned_on_only_what_changed_is_read(
    stack: Stack, repository: Any, asked: list[str]
) -> None:
    stack.add(NAME, timeline=True)
    stack.run()
    kept = count(stack.db, "timeline_events")
    stack.add(NAME, timeline=False)
    stack.run()
    changed, *_ = sorted(repository.pull_requests)
    stored = len(repository.pull_requests[changed]["timelineItems"])
    repository.change(changed, title="Changed", timelineItems=labelled(repository, changed, stored + 5))
    asked.clear()
    stack.heartbeat()
    stack.run()
    assert numbers_read(asked) == 1 and not any("timelineItems" in query for query in asked)
    assert (count(stack.db, "timeline_events"), have_timeline(stack.db)) == (kept, SIZE - 1)
    older = "SELECT number FROM pull_requests WHERE timeline_updated_at < detail_updated_at"
    assert stack.db.rows(older) == [{"number": changed}]
    asked.clear()
    stack.add(NAME, timeline=True)
    stack.run()
    assert numbers_read(asked) == 1
    assert (count(stack.db, "timeline_events"), have_timeline(stack.db)) == (kept + 5, SIZE)
    completed(stack)


def test_the_stacks_default_holds_where_a_backfill_says_nothing(stack: Stack, asked: list[str]) -> None:
    stack.add(NAME)
    stack.run()
    with_default(stack, True)
    points = stack.simulator.statistics()["points"]
    stack.heartbeat()
    assert stack.state()["status"] == "active"
    stack.run()
    completed(stack)
    assert have_timeline(stack.db) == SIZE
    # The heartbeat that turned it on asked GitHub nothing about the repository but whether it changed.
    assert stack.simulator.statistics()["points"] - points < 0.15 * SIZE
    with_default(stack, False)
    asked.clear()
    stack.heartbeat()
    stack.run()
    assert (asked, stack.state()["reads_timeline"], have_timeline(stack.db)) == ([], False, SIZE)


def test_a_backfills_own_setting_outranks_the_stacks(stack: Stack) -> None:
    with_default(stack, True)
    stack.add(NAME, timeline=False)
    stack.run()
    stack.heartbeat()
    completed(stack)
    assert have_timeline(stack.db) == 0


def test_a_worker_that_claimed_before_the_timeline_was_turned_on_leaves_none_without(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(NAME)
    stack.plan_once()
    turned: list[Any] = []
    details = type(stack.github).details

    def turn_on_meanwhile(*given: Any, **named: Any) -> Any:
        found = details(*given, **named)
        if not turned:
            turned.append(stack.add(NAME, timeline=True))
            stack.plan_once()
        return found

    monkeypatch.setattr(type(stack.github), "details", turn_on_meanwhile)
    assert stack.work_once() == "completed"
    assert turned and stack.state()["reads_timeline"]
    # Nothing of that chunk counts as read: its timelines are missing.
    assert stack.state()["processed_prs"] == have_timeline(stack.db) == 0
    stack.run()
    completed(stack)
    assert have_timeline(stack.db) == SIZE


def test_a_run_without_time_marks_a_part_and_the_next_one_the_rest(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(NAME)
    stack.run()
    monkeypatch.setattr(timelines, "MARKED_AT_ONCE", 9)
    stack.add(NAME, timeline=True)
    left, mark_some = [600.0], timelines.mark_some

    def mark_until_the_time_is_over(*given: Any) -> Any:
        left[0] = 1.0
        return mark_some(*given)

    monkeypatch.setattr(timelines, "mark_some", mark_until_the_time_is_over)
    whole = stack.planner
    stack.planner = replace(whole, seconds_left=lambda: left[0])
    stack.plan_once()
    state = stack.state()
    assert (state["timeline_to_mark"], state["status"]) == (True, "active")
    assert state["processed_prs"] == SIZE - 9
    stack.planner = whole
    stack.run()
    completed(stack)
    assert (have_timeline(stack.db), stack.state()["timeline_to_mark"]) == (SIZE, False)


def test_the_forecast_knows_what_timelines_cost(db: Database) -> None:
    name = "octo/many"
    with Simulator(generate(8, {name: 300}), speed=2000) as simulator:
        stack = Stack(db, simulator)

        def foreseen(timeline: bool) -> int:
            with_default(stack, timeline)
            request = PlanEvent(repository=name, dry_run=True)
            return int(stack.forecaster.forecast(request).as_json()["total"]["points"])

        without, with_timeline = foreseen(False), foreseen(True)
        before = simulator.statistics()
        stack.add(name)
        stack.run()
        after = simulator.statistics()
    spent = sum(
        after[f"points of {each}"] - before.get(f"points of {each}", 0)
        for each in ("ListPullRequests", "PullRequestDetails", "ExamineRepositories")
    )
    assert without < with_timeline
    assert abs(spent - with_timeline) <= 2, (without, with_timeline, spent)


def test_a_node_id_of_the_other_form_names_the_same_people(stack: Stack, repository: Any, asked: list[str]) -> None:
    stack.add(NAME, timeline=True)
    stack.run()
    people = count(stack.db, "contributors")
    stack.simulator.shown_id = other_form
    for number in repository.pull_requests:
        repository.change(number, title=f"Again {number}")
    asked.clear()
    stack.add(NAME)
    stack.run()
    assert numbers_read(asked) == SIZE
    assert count(stack.db, "contributors") == people
    assert have_timeline(stack.db) == SIZE
    completed(stack)


def test_the_setting_is_refused_where_it_is_neither_on_nor_off(stack: Stack) -> None:
    with pytest.raises(ContractViolation):
        stack.add(NAME, timeline="sometimes")
    stack.add(NAME)
    with pytest.raises(Exception, match="timeline must be on or off"):
        stack.db.execute('UPDATE progressive_backfill_state SET metadata = metadata || \'{"timeline": "yes"}\'')
