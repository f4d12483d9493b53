"""Organisations: one command tracks all their repositories, and new ones join at the next heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backfill import following
from backfill.console import Console
from backfill.errors import ContractViolation, DatabaseUnavailable
from backfill.github.errors import Forbidden, RepositoryUnavailable
from backfill.planner import organisations as planner_step
from backfill.store import backfills, organisations
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Repository, Simulator, generate

NAMES = [f"octo/r{index:03d}" for index in range(12)]
# A secondary limit, as GitHub sends it.
LIMITED = {
    "status": 403,
    "body": {"message": "You have exceeded a secondary rate limit."},
    "headers": {"retry-after": "60"},
}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(5, dict.fromkeys([*NAMES, "other/elsewhere"], 3)), speed=5000) as running:
        running.repository_named("octo/r001").set(isFork=True)
        running.repository_named("octo/r002").set(isArchived=True)
        yield running


@pytest.fixture
def stack(db: Database, simulator: Simulator) -> Stack:
    return Stack(db, simulator)


def follow(stack: Stack, login: str = "octo", **fields: Any) -> dict[str, Any]:
    return stack.console.act({"action": "add", "organisation": login, **fields})


def status(stack: Stack, login: str = "octo") -> dict[str, Any]:
    return stack.console.act({"action": "status", "organisation": login})


def tracked(stack: Stack) -> list[str]:
    rows = stack.db.rows(
        "SELECT r.owner || '/' || r.name AS name FROM progressive_backfill_state AS s"
        " JOIN repositories AS r ON r.id = s.repository_id ORDER BY 1"
    )
    return [row["name"] for row in rows]


def created(name: str, size: int = 2) -> Repository:
    """A repository that somebody creates after the others."""
    (new,) = generate(6, {name: size})
    new.set(createdAt="2026-01-01T00:00:00Z")
    return new


def listing_points(simulator: Simulator) -> int:
    served = simulator.statistics()
    return int(served.get("points of ListRepositoriesOfLogin", 0) + served.get("points of ListRepositoriesOfOwner", 0))


def test_one_command_tracks_all_repositories_and_they_complete(stack: Stack, simulator: Simulator) -> None:
    answer = follow(stack, "OCTO", priority="high", chunk_size=7)
    assert (answer["organisation"], answer["is_user"], answer["created"]) == ("octo", False, True)
    assert (answer["total_repositories"], answer["hidden_repositories"], answer["joined"]) == (12, 0, 12)
    assert answer["is_listed"]
    assert tracked(stack) == NAMES
    stack.run()
    stack.assert_equals_github()
    assert (status(stack)["completed"], status(stack)["processed_prs"]) == (12, 36)
    rows = stack.db.rows(
        "SELECT DISTINCT chunk_size, metadata ->> 'priority' AS priority FROM progressive_backfill_state"
    )
    assert rows == [{"chunk_size": 7, "priority": "high"}]


def test_a_new_repository_joins_at_the_next_heartbeat_and_a_removed_one_stays_away(
    stack: Stack, simulator: Simulator
) -> None:
    follow(stack)
    stack.run()
    stack.console.act({"action": "remove", "repository": NAMES[4], "delete_data": True})
    simulator.create(created("octo/new"), created("other/new"))
    stack.heartbeat()
    stack.run()
    assert tracked(stack) == sorted([*NAMES[:4], *NAMES[5:], "octo/new"])
    assert (status(stack)["tracked"], status(stack)["removed"]) == (12, 1)
    stack.add(NAMES[4])
    assert status(stack)["removed"] == 1, "it is tracked by its own name now"
    assert stack.state("octo/new")["status"] == "completed"


def test_deleted_transferred_and_archived_repositories_are_reported_and_stay_tracked(
    stack: Stack, simulator: Simulator
) -> None:
    follow(stack)
    stack.run()
    simulator.delete(NAMES[3])
    simulator.repository_named(NAMES[5]).rename("other/moved")
    simulator.repository_named("other/moved").set(
        owner={"__typename": "Organization", "login": "other", "id": "O_other"}
    )
    simulator.repository_named(NAMES[6]).set(isArchived=True)
    stack.heartbeat()
    now = status(stack)
    assert (now["gone_names"], now["archived_names"]) == ([NAMES[3], NAMES[5]], [NAMES[2], NAMES[6]])
    assert now["tracked"] == 12
    simulator.repository_named("other/moved").rename(NAMES[5])
    simulator.repository_named(NAMES[5]).set(owner={"__typename": "Organization", "login": "octo", "id": "O_octo"})
    stack.heartbeat()
    assert status(stack)["gone_names"] == [NAMES[3]]


def test_the_rule_decides_what_joins_and_a_second_add_changes_only_what_it_names(stack: Stack) -> None:
    rule = {"include": ["R00*", "r01?"], "exclude": ["*3"], "forks": False, "archived": False}
    answer = follow(stack, rule=rule)
    assert (answer["forks_left_out"], answer["archived_left_out"], answer["names_left_out"]) == (1, 1, 1)
    assert tracked(stack) == [NAMES[0], *NAMES[4:]]
    again = follow(stack, rule={"forks": True}, priority="low")
    assert (again["created"], again["joined"], again["rule"]) == (False, 1, {**rule, "forks": True})
    assert tracked(stack) == [*NAMES[:2], *NAMES[4:]]
    rows = stack.db.rows("SELECT DISTINCT metadata ->> 'priority' AS priority FROM progressive_backfill_state")
    assert rows == [{"priority": "low"}], "of what has joined before, too"


def test_a_repository_that_is_archived_later_stays_tracked_under_a_rule_without_archived_ones(
    stack: Stack, simulator: Simulator
) -> None:
    follow(stack, rule={"archived": False})
    simulator.repository_named(NAMES[7]).set(isArchived=True)
    stack.heartbeat()
    assert NAMES[7] in tracked(stack)
    assert status(stack)["archived_names"] == [NAMES[7]]


def test_a_thousand_repositories_are_added_for_eleven_points_at_most(db: Database) -> None:
    with Simulator(generate(5, {f"octo/r{index}": 0 for index in range(1000)}), speed=5000, window=36e6) as simulator:
        stack = Stack(db, simulator)
        answer = follow(stack)
        assert (answer["joined"], answer["is_listed"]) == (1000, True)
        served = simulator.statistics()
        assert listing_points(simulator) == 10
        assert served["points"] <= 11, "and whose the token is"
        assert db.rows("SELECT remaining FROM github_budget") == [{"remaining": 5000 - served["points"]}], "booked"
        assert len(stack.queues.plans.messages()) == 1, "one message for all, not one each"


@pytest.mark.parametrize("pages_before", [0, 1, 2])
def test_a_limit_in_mid_listing_loses_nothing_and_the_listing_goes_on_from_there(
    stack: Stack, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, pages_before: int
) -> None:
    monkeypatch.setattr("backfill.github.organisations.PAGE", 5)
    stack.github.repository("octo", "r000")  # asks once whose the token is
    simulator.script(*[{}] * pages_before, LIMITED)
    answer = follow(stack)
    assert "secondary rate limit" in answer["waits"]
    assert len(tracked(stack)) == 5 * pages_before
    assert (answer["joined"], answer["is_listed"]) == (5 * pages_before, False)
    assert status(stack)["gone"] == 0
    before = listing_points(simulator)
    stack.db.execute("UPDATE github_budget SET blocked_until = NULL")
    stack.run()
    assert listing_points(simulator) - before == 3 - pages_before, "no page is read twice"
    assert (status(stack)["is_listed"], status(stack)["reason"], status(stack)["completed"]) == (True, None, 12)
    stack.assert_equals_github()


def test_a_page_is_stored_whole_or_not_at_all(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backfill.github.organisations.PAGE", 5)
    real, calls = organisations.store, []

    def broken(*words: Any) -> None:
        calls.append(words)
        real(*words)
        if len(calls) == 2:
            raise DatabaseUnavailable("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(organisations, "store", broken)
        with pytest.raises(DatabaseUnavailable):
            follow(stack)
    assert len(tracked(stack)) == 5
    assert len(stack.db.rows("SELECT FROM organisation_repositories")) == 5
    assert len(stack.db.rows("SELECT FROM repositories")) == 5
    stack.heartbeat()
    assert status(stack)["tracked"] == 12


def test_of_two_runs_that_list_at_once_one_stores_each_page(
    stack: Stack, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill.github.organisations.PAGE", 5)
    other = Stack(connect(), stack.simulator)
    nested: list[bool] = []
    real = stack.github.owned

    def meanwhile(*words: Any, **fields: Any) -> Any:
        reply = real(*words, **fields)
        if not nested:
            nested.append(True)
            (row,) = organisations.followed(other.db)
            turns = iter([True, True, False])
            following.list_organisation(other.db, other.github, row, lambda: next(turns))
        return reply

    monkeypatch.setattr(stack.github, "owned", meanwhile)
    answer = follow(stack)
    assert (answer["tracked"], answer["is_listed"]) == (10, False), "the page of the slower run moves no cursor back"
    stack.run()
    assert (status(stack)["completed"], status(stack)["is_listed"]) == (12, True)
    assert listing_points(stack.simulator) == 3 + 1, "a page was read twice, and stored once"


@pytest.mark.parametrize("login", ["nobody", "hidden"])
def test_an_organisation_that_github_does_not_show_is_an_error_and_is_not_followed(
    stack: Stack, simulator: Simulator, login: str
) -> None:
    simulator.owners.add("hidden")
    simulator.owners.hide("hidden")
    with pytest.raises(RepositoryUnavailable, match=f"GitHub shows no organisation or user {login} to this token"):
        follow(stack, login)
    assert organisations.followed(stack.db) == []
    with pytest.raises(ContractViolation, match=f"{login} is not followed; run: backfill add --org {login}"):
        status(stack, login)


def test_an_organisation_that_hides_itself_later_keeps_its_reason_and_its_backfills_and_comes_back(
    stack: Stack, simulator: Simulator
) -> None:
    follow(stack)
    stack.run()
    simulator.owners.hide("octo")
    before, began = listing_points(simulator), backfills.now(stack.db)
    stack.heartbeat()
    stack.run()
    assert planner_step.follow(stack.planner, began).is_done, "another run of the same round"
    assert listing_points(simulator) - before == 1, "asked once a round"
    assert "GitHub shows no organisation or user octo" in status(stack)["reason"]
    assert status(stack)["gone"] == 0 and len(tracked(stack)) == 12
    simulator.owners.hidden.clear()
    simulator.create(created("octo/new"))
    stack.heartbeat()
    assert status(stack)["reason"] is None and status(stack)["tracked"] == 13


def test_single_sign_on_of_the_whole_organisation_is_told(stack: Stack, simulator: Simulator) -> None:
    stack.github.repository("octo", "r000")
    error = {
        "type": "FORBIDDEN",
        "path": ["repositoryOwner"],
        "message": "Resource protected by organization SAML enforcement.",
    }
    simulator.script({"status": 200, "body": {"data": {"repositoryOwner": None}, "errors": [error]}})
    with pytest.raises(Forbidden, match="SAML"):
        follow(stack)
    assert organisations.followed(stack.db) == []


def test_a_repository_that_a_token_cannot_see_is_counted_and_joins_when_it_can(
    stack: Stack, simulator: Simulator
) -> None:
    for name in NAMES[:5]:
        simulator.repository_named(name).withheld = True
    simulator.repository_named(NAMES[11]).hidden = True
    answer = follow(stack)
    assert (answer["total_repositories"], answer["hidden_repositories"], answer["joined"]) == (11, 5, 6)
    for name in NAMES[:5]:
        simulator.repository_named(name).withheld = False
    stack.heartbeat()
    assert (status(stack)["hidden_repositories"], status(stack)["tracked"]) == (0, 11)


def test_a_user_is_followed_as_an_organisation_is(stack: Stack, simulator: Simulator) -> None:
    simulator.owners.add("other", is_user=True)
    answer = follow(stack, "other")
    assert (answer["is_user"], answer["joined"]) == (True, 1)


def test_an_empty_organisation_is_followed(stack: Stack, simulator: Simulator) -> None:
    simulator.owners.add("empty")
    assert follow(stack, "empty")["total_repositories"] == 0
    simulator.create(created("empty/first"))
    stack.heartbeat()
    assert status(stack, "empty")["tracked"] == 1


def test_a_renamed_organisation_is_followed_under_its_new_name(stack: Stack, simulator: Simulator) -> None:
    follow(stack)
    stack.run()
    simulator.owners.rename("octo", "octopus")
    simulator.create(created("octopus/new"))
    simulator.repositories["R_octopus/new"].set(
        owner={"__typename": "Organization", "login": "octopus", "id": "O_octo"}
    )
    stack.heartbeat()
    stack.run()
    now = status(stack, "octopus")
    assert (now["tracked"], now["gone"]) == (13, 0)
    assert tracked(stack)[0] == "octopus/new"
    with pytest.raises(ContractViolation):
        status(stack, "octo")


def test_an_organisation_that_is_added_under_its_new_name_before_the_heartbeat_knows_of_it_has_one_row(
    stack: Stack, simulator: Simulator
) -> None:
    follow(stack, rule={"forks": False})
    stack.console.act({"action": "remove", "repository": NAMES[4]})
    simulator.owners.rename("octo", "octopus")
    answer = follow(stack, "octopus", rule={"archived": False})
    assert (answer["tracked"], answer["removed"], answer["joined"]) == (11, 1, 1), "the fork joins by the rule of today"
    assert [each.login for each in organisations.followed(stack.db)] == ["octopus"]


def test_node_ids_of_the_other_form_are_the_same_repositories(stack: Stack, simulator: Simulator) -> None:
    from local.simulator.node_ids import other_form

    follow(stack)
    stack.run()
    simulator.shown_id = other_form
    stack.heartbeat()
    assert (status(stack)["tracked"], status(stack)["gone"]) == (12, 0)
    assert len(tracked(stack)) == 12


def test_a_removed_organisation_is_not_followed_any_more_and_its_backfills_go_on(
    stack: Stack, simulator: Simulator
) -> None:
    follow(stack)
    stack.console.act({"action": "remove", "organisation": "OCTO"})
    simulator.create(created("octo/new"))
    stack.heartbeat()
    stack.run()
    assert len(tracked(stack)) == 12
    assert organisations.followed(stack.db) == []
    with pytest.raises(ContractViolation, match="octo is not followed"):
        stack.console.act({"action": "remove", "organisation": "octo"})


def test_a_dry_run_says_what_would_join_and_writes_nothing(stack: Stack, simulator: Simulator) -> None:
    stack.add(NAMES[0])
    stack.run()
    simulator.repository_named(NAMES[9]).withheld = True
    dry = Console(stack.db, stack.forecaster.github, stack.queues)
    before = content(stack.db)
    event = {"action": "add", "organisation": "octo", "dry_run": True, "rule": {"forks": False, "exclude": ["*r003"]}}
    answer = dry.act(event)
    assert content(stack.db) == before
    assert stack.queues.plans.messages() == []
    assert answer["fates"] == {"joins": 8, "tracked": 1, "removed": 0, "fork": 1, "archived": 0, "name": 1}
    assert (answer["total_repositories"], answer["looked_at"], answer["hidden_repositories"]) == (12, 11, 1)
    assert (answer["pull_requests"], answer["points"]) == (24, 9), "a page each, and 5.5 points per 100 pull requests"
    with pytest.raises(RepositoryUnavailable):
        dry.act({**event, "organisation": "nobody"})


def content(db: Database) -> dict[str, Any]:
    tables = db.rows("SELECT relname AS name FROM pg_stat_user_tables ORDER BY 1")
    return {each["name"]: db.rows(f"SELECT to_jsonb(t) AS row FROM {each['name']} AS t ORDER BY 1") for each in tables}


@pytest.mark.parametrize("failure", ["too large", "a refused cursor"])
def test_a_page_that_is_too_large_is_divided_in_two_and_a_refused_cursor_begins_again(
    stack: Stack, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    monkeypatch.setattr("backfill.github.organisations.PAGE", 5)
    stack.github.repository("octo", "r000")
    cursor = {"type": "INVALID_CURSOR_ARGUMENTS", "message": "`x` does not appear to be a valid cursor."}
    large = {"message": "Something went wrong while executing your query. This may be the result of a timeout."}
    status_code, error = (502, large) if failure == "too large" else (200, cursor)
    simulator.script({}, {"status": status_code, "body": {"data": None, "errors": [error]}})
    assert follow(stack)["joined"] == 12
    assert (status(stack)["tracked"], status(stack)["gone"]) == (12, 0)


@pytest.mark.parametrize(
    "event",
    [
        {"organisation": "octo", "repository": "octo/r001"},
        {"organisation": "octo/r001"},
        {"organisation": "octo", "rule": {"include": []}},
        {"organisation": "octo", "rule": {"fork": False}},
        {"repository": "octo/r001", "rule": {"forks": False}},
        {"repository": "octo/r001", "dry_run": True},
    ],
)
def test_events_that_break_the_contract_are_refused(stack: Stack, event: dict[str, Any]) -> None:
    with pytest.raises(ContractViolation):
        stack.console.act({"action": "add", **event})


def test_a_rule_that_is_not_whole_is_refused_by_postgres(stack: Stack) -> None:
    follow(stack)
    for rule in ("{}", '{"include": "*", "exclude": [], "forks": true, "archived": true}', "[]"):
        with pytest.raises(Exception, match="rule_is_whole"):
            stack.db.execute("UPDATE tracked_organisations SET rule = CAST(:rule AS jsonb)", rule=rule)
