"""The planner: turns and shares, checks of completed repositories, and changes on GitHub meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from backfill.errors import ContractViolation, Deferred
from backfill.github.finding import RepositoryState
from backfill.messages import PlanEvent
from backfill.overview import Condition, Kind, overview
from backfill.store import backfills, chunks
from backfill.store.connection import Database
from local.in_process import Stack
from local.light import lightened
from local.simulator import PASSING, Simulator, generate, price

ONE = "octo/one"
StackOf = Callable[..., Stack]


@pytest.fixture
def stack_of(db: Database) -> Iterator[StackOf]:
    """A stack whose simulator holds repositories of these sizes."""
    opened: list[Simulator] = []

    def make(sizes: dict[str, int], **options: Any) -> Stack:
        simulator = Simulator(lightened(generate(5, sizes)), speed=5000)
        simulator.__enter__()
        opened.append(simulator)
        return Stack(db, simulator, **options)

    yield make
    for simulator in opened:
        simulator.__exit__(None)


def take_turns(stack: Stack, until: Callable[[], bool]) -> None:
    """Plan requests and chunks are handled at once, as by a planner and a worker beside each other."""
    for _ in range(2000):
        if until():
            return
        if stack.queues.plans:
            stack.plan_once()
        if stack.queues.chunks:
            stack.work_once()
    raise AssertionError("it does not come to that")


# Turns and shares


def test_shares_follow_the_priorities_and_nobody_starves(stack_of: StackOf) -> None:
    names = {"octo/high": "high", "octo/normal": "normal", "octo/low": "low"}
    stack = stack_of({"octo/high": 240, "octo/normal": 160, "octo/low": 80})
    for name, level in names.items():
        stack.add(name, priority=level, chunk_size=5)
    # Chunks come in batches of the mark: with small ones few pull requests are enough to see the shares.
    stack.db.execute("UPDATE progressive_backfill_state SET max_chunks = 4")
    take_turns(stack, lambda: stack.state("octo/high")["processed_prs"] >= 200)
    high, normal, low = (stack.state(name)["processed_prs"] for name in names)
    assert 1.6 <= high / normal <= 2.5
    assert 1.6 <= normal / low <= 2.5


def test_a_worker_asks_at_three_quarters_of_the_mark_and_every_planning_fills_it(stack_of: StackOf) -> None:
    """Chunks that run out while the planner is busy elsewhere would be a share lost."""
    stack = stack_of({ONE: 300})
    stack.add(ONE, chunk_size=10)
    while stack.queues.plans:
        stack.plan_once()

    def outstanding() -> int:
        return int(chunks.outstanding(stack.db, stack.state(ONE)["id"]).planned)

    stack.work_once()
    assert (outstanding(), len(stack.queues.plans)) == (9, 0)
    stack.planner.plan(PlanEvent(repository=ONE))
    assert outstanding() == 10
    for asked in (0, 0, 1):
        stack.work_once()
        assert len(stack.queues.plans) == asked
    stack.plan_once()
    assert outstanding() == 10


def test_a_new_priority_counts_from_the_next_planning(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 300})
    stack.add(ONE, chunk_size=10)
    stack.plan_once()
    stack.db.execute("""UPDATE progressive_backfill_state SET metadata = jsonb_set(metadata, '{priority}', '"high"')""")
    for _ in range(6):
        stack.work_once()
    stack.plan_once()
    sizes = stack.db.rows("SELECT cardinality(pr_numbers) AS size FROM backfill_chunks ORDER BY chunk_number")
    assert {row["size"] for row in sizes[:9]} == {10}
    assert sizes[-1]["size"] == 20


def test_a_small_repository_does_not_wait_behind_a_giant(stack_of: StackOf) -> None:
    """The giant is added first, is listed in turns, and its chunks wait first."""
    clock = iter(float(tick) for tick in range(10**6, 0, -4))
    stack = stack_of({"octo/giant": 1000, "octo/small": 30}, seconds_left=lambda: next(clock))
    stack.add("octo/giant")
    stack.plan_once()
    giant = stack.state("octo/giant")
    assert giant["listing_completed_at"] is None
    assert 100 <= giant["listed_prs"] <= 500
    stack.add("octo/small")
    take_turns(stack, lambda: bool(stack.state("octo/small")["status"] == "completed"))
    assert stack.state("octo/small")["processed_prs"] == 30
    assert stack.state("octo/giant")["processed_prs"] < 400


def test_a_round_that_cannot_reach_everybody_goes_on_with_the_longest_unplanned(stack_of: StackOf) -> None:
    names = [f"octo/r{index}" for index in range(6)]
    left = [1000.0]

    def seconds_left() -> float:
        left[0] -= 1
        return left[0]

    stack = stack_of(dict.fromkeys(names, 3), seconds_left=seconds_left)
    for name in names:
        stack.add(name)
    stack.queues.plans.clear()
    left[0] = 40.0
    report = stack.heartbeat()
    assert 0 < len(report["backfills"]) < 6
    assert stack.queues.plans[-1] == '{"schema_version": 1}'
    while stack.queues.plans:
        left[0] = 40.0
        stack.plan_once()
    left[0] = 10**6
    stack.run()
    assert {stack.state(name)["status"] for name in names} == {"completed"}


def test_a_backfill_resumed_by_sql_is_planned_with_the_next_planning_of_any_other(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 60, "octo/other": 5})
    stack.add(ONE)
    stack.plan_once()
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    assert set(stack.run()) == {"paused"}
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0")
    assert stack.run() == []
    stack.add("octo/other")
    stack.run()
    assert stack.state(ONE)["status"] == "completed"


# Completed repositories


def test_a_change_during_a_refresh_is_not_lost(stack_of: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """UPDATED_AT paging does not show what moves from a later page to the front: the next check for changes must."""
    stack = stack_of({ONE: 130})
    stack.add(ONE)
    stack.run()
    repository = stack.repository(ONE)
    numbers = sorted(repository.pull_requests)
    for number in numbers:
        repository.change(number, updatedAt="2031-01-01T00:00:00Z")
    repository.change(numbers[60], updatedAt="2030-12-31T00:00:00Z")
    pages = []
    list_updated = stack.github.list_updated

    def touching(node_id: str, cursor: str | None, **options: int) -> Any:
        page = list_updated(node_id, cursor, **options)
        pages.append(page)
        if len(pages) == 1:
            repository.change(numbers[60], title="Touched during the refresh", updatedAt="2031-01-02T00:00:00Z")
        return page

    monkeypatch.setattr(stack.github, "list_updated", touching)
    stack.heartbeat()
    stack.run()
    assert len(pages) >= 2
    assert all(row["number"] != numbers[60] for page in pages[:3] for row in page.pull_requests)
    stack.heartbeat()
    stack.run()
    stack.assert_equals_github()


def test_a_change_within_the_second_of_the_watermark_is_not_lost(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 20})
    stack.add(ONE)
    stack.run()
    repository = stack.repository(ONE)
    first, second = sorted(repository.pull_requests)[:2]
    repository.change(first, title="First")
    moment = repository.pull_requests[first]["updatedAt"]
    stack.heartbeat()
    stack.run()
    repository.change(second, title="In the same second", updatedAt=moment)
    stack.heartbeat()
    stack.run()
    stack.assert_equals_github()


def change_all(stack: Stack) -> int:
    """Every pull request of a completed repository changes; how many there are."""
    stack.add(ONE)
    stack.run()
    repository = stack.repository(ONE)
    latest = max(each["updatedAt"] for each in repository.pull_requests.values())
    later = max("2026-06-01T00:00:00Z", latest[:-3] + "59Z")
    for number in sorted(repository.pull_requests):
        repository.change(number, title=f"Another title of {number}", updatedAt=later)
    return len(repository.pull_requests)


def scanned(stack: Stack, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], object]) -> list[str | None]:
    """The cursors after which pages of changes are read, as they come. ``before`` each, with how many there were."""
    cursors: list[str | None] = []
    list_updated = stack.github.list_updated

    def listing(node_id: str, cursor: str | None, **options: int) -> Any:
        before(len(cursors))
        page = list_updated(node_id, cursor, **options)
        cursors.append(cursor)
        return page

    monkeypatch.setattr(stack.github, "list_updated", listing)
    return cursors


@pytest.mark.parametrize("by", ["by a limit of GitHub's", "by the end of its time"])
def test_an_interrupted_refresh_continues_with_the_next_page(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A repository that was paused for long has more changes than one run of the planner can read."""
    left = [1e9]
    stack = stack_of({ONE: 450}, seconds_left=lambda: left[0])
    change_all(stack)
    limits = iter([False, True, False, True, True, False, False, False, True, False])

    def interrupt(_: int) -> None:
        left[0] -= 6.0
        if by == "by a limit of GitHub's" and next(limits):
            raise Deferred(backfills.now(stack.db), 1.0, "GitHub's time is taken")

    cursors = scanned(stack, monkeypatch, interrupt)
    first = stack.heartbeat()
    assert 1 <= len(cursors) <= 4
    assert (stack.state()["status"], first["reopened"]) == ("active", 1)
    assert len(stack.queues.plans) == 1, "it goes on before its chunks are read"
    (shown,) = overview(stack.db, stack.queues).backfills
    assert shown.condition == Condition("listing", Kind.WORKING, "what has changed, newest first")
    stack.run()
    assert (stack.state()["status"], stack.state()["scan_until"]) == ("completed", None)
    assert len(cursors) == len(set(cursors)) >= 5
    stack.assert_equals_github()
    stack.heartbeat()
    assert len(cursors) == len(set(cursors)), "nothing has changed since"


def test_a_refresh_whose_cursor_github_refuses_begins_again(stack_of: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of({ONE: 250})
    change_all(stack)

    refused: list[int] = []

    def forget(pages: int) -> None:
        if pages == 2 and not refused:
            refused.append(pages)
            stack.simulator.script(next(each for each in PASSING if each.name == "bad cursor"))

    cursors = scanned(stack, monkeypatch, forget)
    stack.heartbeat()
    stack.run()
    assert cursors[0] is None and cursors[2] is None
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def test_completed_repositories_that_a_run_has_no_time_for_are_the_next_ones_first(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"octo/r{index}" for index in range(4)]
    left = [1e9]
    stack = stack_of(dict.fromkeys(names, 3), seconds_left=lambda: left[0])
    for name in names:
        stack.add(name)
    stack.run()
    for name in names:
        repository = stack.repository(name)
        repository.change(min(repository.pull_requests), title="Changed")
    left[0] = 60.0
    scanned(stack, monkeypatch, lambda _: left.__setitem__(0, left[0] - 15))
    report = stack.heartbeat()
    assert 1 <= report["reopened"] < len(names)
    assert stack.queues.plans[-1] == '{"schema_version": 1}'
    left[0] = 1e9
    stack.run()
    stack.assert_equals_github()


def test_a_page_that_is_too_much_for_github_is_divided_by_two_and_grows_again(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds are enough for 33 pull requests of this repository, and then for 100 again."""
    monkeypatch.setattr(price, "LISTED_SECONDS", 0.3)
    stack = stack_of({ONE: 200})
    stack.add(ONE)
    stack.plan_once()
    state = stack.state()
    assert (state["listed_prs"], state["error_count"]) == (200, 0)
    assert 25 <= state["listing_page_size"] <= 40
    assert state["points_spent"] == stack.simulator.statistics()["points"] - 2, (
        "all but finding it, and whose the token is"
    )
    monkeypatch.undo()
    stack.run()
    stack.repository(ONE).open_pull_requests(100)
    change_all(stack)
    stack.heartbeat()
    stack.run()
    assert stack.state()["listing_page_size"] > 40
    stack.assert_equals_github()


def test_a_pull_request_that_cannot_even_be_listed_pauses_its_backfill_with_the_reason(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price, "LISTED_SECONDS", 11.0)
    stack = stack_of({ONE: 3})
    stack.add(ONE)
    stack.run()
    state = stack.state()
    assert (state["status"], state["pause_reason"], state["listing_page_size"]) == ("paused", "consecutive_errors", 1)
    assert "502" in state["last_error"] and state["paused_until"] is not None


def test_vanished_pull_requests_are_asked_for_in_parts_and_each_part_is_kept(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_of({ONE: 260})
    stack.add(ONE)
    stack.run()
    repository = stack.repository(ONE)
    repository.delete(*sorted(repository.pull_requests)[:230])
    asked: list[int] = []
    list_numbers = stack.github.list_numbers

    def limited(node_id: str, numbers: Any) -> Any:
        if len(asked) == 100:
            asked.append(0)
            raise Deferred(backfills.now(stack.db), 1.0, "GitHub's time is taken")
        asked.extend(numbers)
        return list_numbers(node_id, numbers)

    monkeypatch.setattr(stack.github, "list_numbers", limited)
    stack.heartbeat()
    assert stack.db.one("SELECT count(*) AS n FROM pull_requests WHERE gone_at IS NOT NULL") == {"n": 100}
    stack.run()
    assert len(asked) == len(set(asked)) == 231
    assert (stack.state()["status"], stack.state()["total_prs"]) == ("completed", 30)
    stack.assert_equals_github()


def test_a_count_that_no_listing_explains_does_not_list_without_end(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub counts pull requests that it does not show, of suspended users."""
    stack = stack_of({ONE: 40})
    for name in ("list_pull_requests", "list_updated"):
        ask = getattr(stack.github, name)

        def counting(*arguments: Any, ask: Any = ask, **options: int) -> Any:
            page = ask(*arguments, **options)
            return replace(page, total_prs=page.total_prs + 1)

        monkeypatch.setattr(stack.github, name, counting)
    check_for_changes = stack.github.check_for_changes

    def examining(ids: Any) -> Any:
        return {
            key: state._replace(total_prs=state.total_prs + 1)
            for key, state in check_for_changes(ids).items()
            if isinstance(state, RepositoryState)
        }

    monkeypatch.setattr(stack.github, "check_for_changes", examining)
    stack.add(ONE)
    stack.run()
    state = stack.state()
    assert (state["status"], state["processed_prs"], state["total_prs"], state["unlisted_prs"]) == (
        "completed",
        40,
        41,
        1,
    )
    served = stack.simulator.statistics()["requests"]
    assert stack.heartbeat()["reopened"] == 0
    assert stack.simulator.statistics()["requests"] == served + 1


def test_one_vanishes_after_the_other_and_each_is_noticed(stack_of: StackOf) -> None:
    """The same difference between count and listing as the last time is not the same pull request."""
    stack = stack_of({ONE: 12})
    stack.add(ONE)
    stack.run()
    repository = stack.repository(ONE)
    for left in (11, 10, 9):
        repository.delete(sorted(repository.pull_requests)[3])
        assert stack.heartbeat()["reopened"] == 1
        stack.run()
        state = stack.state()
        assert (state["status"], state["listed_prs"], state["total_prs"], state["unlisted_prs"]) == (
            "completed",
            left,
            left,
            0,
        )
        stack.assert_equals_github()


def test_one_vanishes_while_the_listing_looks_for_another_and_both_are_noticed(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing walks past the second before it vanishes, and is interrupted before it finds the first."""
    stack = stack_of({ONE: 250})
    stack.add(ONE)
    stack.run()
    repository, list_pull_requests, pages = stack.repository(ONE), stack.github.list_pull_requests, [0]
    early, late = sorted(repository.pull_requests)[3], sorted(repository.pull_requests)[-3]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        pages[0] += 1
        if pages[0] == 3:
            raise KeyboardInterrupt
        return list_pull_requests(*arguments, **options)

    repository.delete(late)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stack.github, "list_pull_requests", interrupted)
        stack.heartbeat()
        stack.run()
    repository.delete(early)
    stack.db.execute("UPDATE progressive_backfill_state SET planner_token = NULL, planner_lease_expires_at = NULL")
    for _ in range(2):
        stack.heartbeat()
        stack.run()
    state = stack.state()
    assert (state["status"], state["listed_prs"], state["total_prs"], state["unlisted_prs"]) == (
        "completed",
        248,
        248,
        0,
    )
    stack.assert_equals_github()


def test_an_explained_count_does_not_explain_the_next_difference(
    stack_of: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub counts one less than it shows, for a while."""
    stack = stack_of({ONE: 12})
    stack.add(ONE)
    stack.run()
    check_for_changes, list_pull_requests = stack.github.check_for_changes, stack.github.list_pull_requests
    with monkeypatch.context() as patch:

        def examining(ids: Any) -> Any:
            return {
                key: state._replace(total_prs=state.total_prs - 1)
                for key, state in check_for_changes(ids).items()
                if isinstance(state, RepositoryState)
            }

        def counting(node_id: str, cursor: str | None, **options: int) -> Any:
            page = list_pull_requests(node_id, cursor, **options)
            return replace(page, total_prs=page.total_prs - 1)

        patch.setattr(stack.github, "check_for_changes", examining)
        patch.setattr(stack.github, "list_pull_requests", counting)
        stack.heartbeat()
        stack.run()
        assert stack.state()["unlisted_prs"] == -1
        assert stack.heartbeat()["reopened"] == 0
    # It rested for years, so its next check is due in hours. They pass.
    due = "UPDATE progressive_backfill_state SET next_check_at = now()"
    stack.db.execute(due)
    stack.heartbeat()
    stack.run()
    assert (stack.state()["unlisted_prs"], stack.state()["total_prs"]) == (0, 12)
    repository = stack.repository(ONE)
    repository.delete(min(repository.pull_requests))
    stack.db.execute(due)
    stack.heartbeat()
    stack.run()
    stack.assert_equals_github()


def test_resuming_what_is_not_paused_changes_nothing(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 5})
    stack.add(ONE)
    stack.run()
    answer = stack.console.act({"action": "resume", "repository": ONE})
    assert (answer["resumed"], answer["status"], stack.queues.plans) == (False, "completed", [])


def test_planning_by_name_finds_what_is_new_in_a_completed_one(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 10})
    stack.add(ONE)
    stack.run()
    stack.repository(ONE).open_pull_requests(3)
    stack.planner.plan(PlanEvent(repository=ONE))
    stack.run()
    assert stack.state()["processed_prs"] == 13
    stack.assert_equals_github()
    with pytest.raises(ContractViolation, match="backfill add octo/none"):
        stack.planner.plan(PlanEvent(repository="octo/none"))


# What happens to repositories


def test_progress_is_true_at_every_moment_whatever_happens(stack_of: StackOf) -> None:
    """Pull requests are opened, changed and deleted, the repository is renamed and transferred, in the middle of it all."""
    stack = stack_of({ONE: 240})
    repository = stack.repository(ONE)
    numbers = sorted(repository.pull_requests)
    stack.add(ONE, chunk_size=12)
    happenings: dict[int, Callable[[], object]] = {
        3: lambda: repository.rename("octo/renamed"),
        5: lambda: [repository.change(number, title="Changed") for number in (*numbers[:5], *numbers[-5:])],
        8: lambda: repository.delete(*numbers[100:105]),
        12: lambda: repository.open_pull_requests(4),
        15: lambda: repository.rename("elsewhere/moved"),
    }
    steps: list[dict[str, Any]] = []

    def truth() -> None:
        if happen := happenings.get(len(steps)):
            happen()
        (row,) = stack.db.rows(
            "SELECT s.processed_prs, s.total_prs, s.listed_prs, s.current_prs,"
            " (SELECT count(*) FROM pull_requests WHERE gone_at IS NULL) AS listed,"
            " (SELECT count(*) FROM pull_requests WHERE gone_at IS NULL AND detail_updated_at >= updated_at) AS current,"
            " (SELECT count(*) FROM pull_request_gaps) AS gaps FROM progressive_backfill_state AS s"
        )
        assert (row["listed_prs"], row["current_prs"]) == (row["listed"], row["current"])
        assert row["processed_prs"] == min(row["current"], row["total_prs"]) <= row["total_prs"]
        assert row["gaps"] == row["listed"] - row["current"]
        steps.append(row)

    stack.run(between=truth)
    assert len(steps) > 20
    stack.heartbeat()
    stack.run(between=truth)
    state = stack.state("elsewhere/moved")
    assert (state["status"], state["processed_prs"], state["total_prs"]) == ("completed", 239, 239)
    stack.assert_equals_github()
    names = stack.db.one("SELECT previous_names[1] AS first FROM repositories")
    assert names == {"first": ONE}
    assert stack.console.act({"action": "status", "repository": ONE})["backfills"][0]["repository"] == "elsewhere/moved"


def minutes_pass(stack: Stack) -> None:
    """Since GitHub said NOT_FOUND; and what waits for a second look is due."""
    stack.db.execute("UPDATE repositories SET unavailable_since = unavailable_since - interval '6 minutes'")
    stack.db.execute(
        "UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending' AND available_at > now()"
    )


@pytest.mark.parametrize("listed", [False, True])
def test_a_repository_made_private_or_deleted_waits_and_goes_on_when_it_is_back(
    stack_of: StackOf, listed: bool
) -> None:
    stack = stack_of({ONE: 60})
    stack.add(ONE)
    if listed:
        stack.plan_once()
        stack.work_once()
    stack.repository(ONE).hidden = True
    hidden = next(iter(stack.simulator.repositories.values()))
    for _ in range(12):
        if stack.queues.plans:
            stack.plan_once()
        elif stack.queues.chunks:
            stack.work_once()
        minutes_pass(stack)
    state = stack.state()
    assert (state["status"], state["pause_reason"]) == ("paused", "repository_unavailable")
    assert state["paused_until"] is not None
    progress = stack.progress(ONE)
    assert (progress["estimated_finish"], progress["waiting_until"]) == (None, None)
    assert progress["processed_prs"] <= progress["total_prs"] == 60
    hidden.hidden = False
    stack.db.execute("UPDATE progressive_backfill_state SET paused_until = now()")
    stack.db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending'")
    stack.heartbeat()
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.assert_equals_github()


def test_a_completed_repository_that_vanishes_is_paused_at_the_second_look(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 5, "octo/other": 5})
    for name in (ONE, "octo/other"):
        stack.add(name)
    stack.run()
    stack.repository(ONE).hidden = True
    stack.heartbeat()
    assert stack.state(ONE)["status"] == "completed"
    stack.heartbeat()
    assert stack.state(ONE)["status"] == "completed", "two replies of one moment are one hiccup"
    minutes_pass(stack)
    stack.heartbeat()
    assert stack.state(ONE)["pause_reason"] == "repository_unavailable"
    assert stack.state("octo/other")["status"] == "completed"


def test_the_finish_is_unknown_while_nothing_may_move(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 200})
    stack.add(ONE)
    stack.plan_once()
    for _ in range(4):
        stack.work_once()
    working = stack.progress(ONE)
    assert working["prs_per_hour"] > 0
    assert working["estimated_finish"] is not None
    stack.db.execute("UPDATE backfill_chunks SET available_at = now() + interval '20 minutes' WHERE status = 'pending'")
    waiting = stack.progress(ONE)
    assert waiting["estimated_finish"] is None
    assert waiting["waiting_until"] is not None
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    paused = stack.progress(ONE)
    assert (paused["estimated_finish"], paused["waiting_until"]) == (None, None)
    stack.db.execute(
        "UPDATE pull_requests SET detail_synced_at = now() - interval '2 hours' WHERE detail_synced_at IS NOT NULL"
    )
    stack.db.execute("UPDATE progressive_backfill_state SET status = 'active'")
    stack.db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending'")
    assert (stack.progress(ONE)["prs_per_hour"], stack.progress(ONE)["estimated_finish"]) == (0, None)


def test_the_rate_is_that_of_the_last_hour(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 100})
    stack.add(ONE)
    stack.run()
    stack.db.execute("UPDATE progressive_backfill_state SET activated_at = now() - interval '5 hours'")
    stack.db.execute("UPDATE pull_requests SET detail_synced_at = now() - interval '2 hours' WHERE number % 2 = 0")
    odd = sum(number % 2 for number in stack.repository(ONE).pull_requests)
    assert stack.progress(ONE)["prs_per_hour"] == odd


def test_a_limit_defers_the_planning_of_all(stack_of: StackOf) -> None:
    stack = stack_of({ONE: 5, "octo/other": 5})
    for name in (ONE, "octo/other"):
        stack.add(name)
    stack.queues.plans.clear()
    stack.db.execute("UPDATE github_budget SET blocked_until = now() + interval '1 hour', block_reason = 'secondary'")
    report = stack.heartbeat()
    assert len(report["backfills"]) == 1
    assert "deferred_until" in report["backfills"][0]
    deferred = report["backfills"][0]["repository"]
    assert stack.progress(deferred)["waiting_until"] is not None
    assert len(stack.queues.plans) == 2
