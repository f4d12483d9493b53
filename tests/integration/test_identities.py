"""Node ids have two forms, legacy and next: an object is one row under either form."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from backfill.store import backfills, pull_requests, repositories
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, Validation, generate
from local.simulator.node_ids import other_form
from tests.integration.rows import REPOSITORY, Row, backfill_of, comment, details, listed
from tests.integration.test_chunk_races import PATIENCE_SECONDS, Loser

Tables = dict[str, list[Row]]
# One account of each, in both forms.
CAT, CAT_NEXT = "MDQ6VXNlcjU4MzIzMQ==", "U_kgDOAAjmPw"
DOG, DOG_NEXT = "MDQ6VXNlcjk5", "U_kgBj"
LEGACY = {
    "octocat": CAT,
    "dog": DOG,
    "pull request": "MDExOlB1bGxSZXF1ZXN0MTAwMQ==",
    "comment": "MDEyOklzc3VlQ29tbWVudDkwMDE=",
    "review": "MDE3OlB1bGxSZXF1ZXN0UmV2aWV3NTAwMQ==",
    "review comment": "MDI0OlB1bGxSZXF1ZXN0UmV2aWV3Q29tbWVudDYwMDE=",
    "label": "MDU6TGFiZWw3MDAx",
}
NEXT = {
    "octocat": CAT_NEXT,
    "dog": DOG_NEXT,
    "pull request": "PR_kwDOAAABzgPp",
    "comment": "IC_kwDOAAABziMp",
    "review": "PRR_kwDOAAABzhOJ",
    "review comment": "PRRC_kwDOAAABzhdx",
    "label": "LA_kwDOAAABzhtZ",
}
FORMS = pytest.mark.parametrize(
    ("first", "second"), [(LEGACY, NEXT), (NEXT, LEGACY)], ids=["legacy to next", "next to legacy"]
)


def tracked(db: Database) -> str:
    """A tracked repository without pull requests; its uuid."""
    repository_id = repositories.upsert(db, REPOSITORY).id
    backfills.add(db, repository_id, total_prs=1, chunk_size=None, metadata={})
    return repository_id


def person(node_id: str, github_id: int | None = 583231, login: str = "octocat", kind: str = "User") -> Row:
    return {"node_id": node_id, "type": kind, "github_id": github_id, "login": login, "avatar_url": "a", "url": "u"}


def whole(ids: dict[str, str], updated_at: str = "2024-01-01T00:00:00Z") -> Tables:
    """Pull request 1 and one of everything that hangs on it, under these node ids."""
    cat, dog = ids["octocat"], ids["dog"]
    tables = details(1, updated_at=updated_at)
    (row,), (commit,) = tables["pull_requests"], tables["commits"]
    said = {**comment(1, ids["comment"]), "author_id": cat}
    on_diff = {"review_id": ids["review"], "in_reply_to_id": None, "path": "a.py", "position": 1, "line": 1}
    on_diff |= {"original_line": 1, "diff_hunk": "@@", "commit_oid": None, "original_commit_oid": None}
    on_diff |= {"outdated": False, "kind": "review_comment", "github_id": 6001, "node_id": ids["review comment"]}
    review = {
        name: said[name] for name in ("body", "author_id", "author_association", "url", "created_at", "updated_at")
    }
    return {
        **tables,
        "contributors": [person(cat), person(dog, 99, "dog")],
        "labels": [{"node_id": ids["label"], "name": "bug", "color": "red"}],
        "pull_requests": [{**row, "node_id": ids["pull request"], "author_id": cat, "merged_by_id": dog}],
        "comments": [said, {**said, **on_diff}],
        "reviews": [
            {
                **review,
                "node_id": ids["review"],
                "pull_request_number": 1,
                "github_id": 5001,
                "state": "APPROVED",
                "commit_oid": None,
                "submitted_at": None,
            }
        ],
        "commits": [{**commit, "author_id": cat}],
        "pull_request_labels": [{"pull_request_number": 1, "label_id": ids["label"]}],
        "pull_request_assignees": [{"pull_request_number": 1, "contributor_id": dog}],
        "pull_request_review_requests": [{"pull_request_number": 1, "contributor_id": cat}],
    }


def both(first: Tables, second: Tables) -> Tables:
    """One batch with every object that has a node id twice, once in each form."""
    return {name: rows if name in ("commits", "files") else [*rows, *second[name]] for name, rows in first.items()}


def counts(db: Database) -> dict[str, int]:
    tables = ("contributors", "labels", "pull_requests", "reviews", "comments", "commits", "files")
    links = ("pull_request_labels", "pull_request_assignees", "pull_request_review_requests")
    return {name: len(db.rows(f"SELECT 1 FROM {name}")) for name in (*tables, *links)}


ONCE = {
    **{"contributors": 2, "labels": 1, "pull_requests": 1, "reviews": 1, "comments": 2, "commits": 1, "files": 1},
    **{"pull_request_labels": 1, "pull_request_assignees": 1, "pull_request_review_requests": 1},
}


def keep_rows(db: Database) -> None:
    """Nobody deletes a row any more: to delete one and insert it again is not to update it."""
    db.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'deleted from %', TG_TABLE_NAME; END $$"
    )
    for name in ONCE:
        db.execute(f"CREATE TRIGGER keep BEFORE DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION keep()")


def who(db: Database) -> list[str]:
    """The logins that everything which names a person leads to: a row that names nobody is missing here."""
    named = (
        "SELECT author_id AS id FROM pull_requests UNION ALL SELECT merged_by_id FROM pull_requests"
        " UNION ALL SELECT author_id FROM reviews UNION ALL SELECT author_id FROM comments"
        " UNION ALL SELECT author_id FROM commits UNION ALL SELECT contributor_id FROM pull_request_assignees"
        " UNION ALL SELECT contributor_id FROM pull_request_review_requests"
    )
    return [
        row["login"]
        for row in db.rows(f"SELECT login FROM ({named}) AS n JOIN contributors ON node_id = id ORDER BY 1")
    ]


@FORMS
def test_an_object_that_arrives_under_its_other_node_id_is_the_row_that_exists(
    db: Database, first: dict[str, str], second: dict[str, str]
) -> None:
    repository_id = tracked(db)
    listing = whole(first)
    assert pull_requests.store_listed(db, repository_id, listing["contributors"], listing["pull_requests"]) == {}
    pull_requests.store_details(db, repository_id, whole(first))
    assert counts(db) == ONCE
    people = who(db)
    keep_rows(db)
    for ids in (second, first, second):
        again = whole(ids, "2024-02-01T00:00:00Z")
        again["comments"][0]["body"] = f"said by {ids['octocat']}"
        assert pull_requests.store_listed(db, repository_id, again["contributors"], again["pull_requests"]) == {}
        assert pull_requests.store_details(db, repository_id, again) == [1]
        assert counts(db) == ONCE
        assert who(db) == people == ["dog"] * 2 + ["octocat"] * 6
        (row,) = db.rows("SELECT node_id, body FROM comments WHERE kind = 'issue_comment'")
        assert row == {"node_id": ids["comment"], "body": f"said by {ids['octocat']}"}
        assert [row["node_id"] for row in db.rows("SELECT node_id FROM pull_requests")] == [ids["pull request"]]
        review = "SELECT r.node_id FROM reviews AS r JOIN comments AS c ON c.review_id = r.node_id"
        assert [row["node_id"] for row in db.rows(review)] == [ids["review"]]
        forms = "SELECT node_id, other_node_id FROM contributors UNION ALL SELECT node_id, other_node_id FROM labels"
        assert {(row["node_id"], row["other_node_id"]) for row in db.rows(forms)} == {
            (first[name], second[name]) for name in ("octocat", "dog", "label")
        }


@FORMS
def test_one_batch_with_every_object_in_both_forms_stores_each_once(
    db: Database, first: dict[str, str], second: dict[str, str]
) -> None:
    repository_id = tracked(db)
    batch = both(whole(first), whole(second))
    assert pull_requests.store_listed(db, repository_id, batch["contributors"], batch["pull_requests"]) == {}
    for _ in range(2):
        assert pull_requests.store_details(db, repository_id, batch) == [1]
        assert counts(db) == ONCE
        assert who(db) == ["dog"] * 2 + ["octocat"] * 6
        review = "SELECT 1 FROM reviews AS r JOIN comments AS c ON c.review_id = r.node_id"
        assert len(db.rows(review)) == 1


def test_rows_that_an_earlier_version_stored_twice_become_one_again(db: Database) -> None:
    repository_id = tracked(db)
    legacy = whole(LEGACY)
    assert pull_requests.store_listed(db, repository_id, legacy["contributors"], legacy["pull_requests"]) == {}
    pull_requests.store_details(db, repository_id, legacy)
    columns = "repository_id, pull_request_number, github_id, state, url, created_at, updated_at"
    db.execute(f"INSERT INTO reviews (node_id, {columns}) SELECT '{NEXT['review']}', {columns} FROM reviews")
    db.execute(
        f"INSERT INTO contributors (node_id, type, github_id, login) VALUES ('{CAT_NEXT}', 'User', 583231, 'octocat')"
    )
    db.execute(f"UPDATE comments SET author_id = '{CAT_NEXT}'")
    assert pull_requests.store_details(db, repository_id, whole(NEXT)) == [1]
    assert [row["node_id"] for row in db.rows("SELECT node_id FROM reviews")] == [NEXT["review"]]
    assert {row["author_id"] for row in db.rows("SELECT author_id FROM comments")} == {CAT}


def test_an_account_without_a_number_is_known_by_its_node_id_alone(db: Database) -> None:
    """A type of actor without databaseId, and a ghost: nothing tells that two node ids name one of them."""
    repository_id = tracked(db)
    for node_id in ("EUA_1", "EUA_2", "EUA_1"):
        row = listed(1, author_id=node_id)
        assert pull_requests.store_listed(db, repository_id, [person(node_id, None, node_id)], [row]) == {}
        assert db.rows("SELECT author_id FROM pull_requests") == [{"author_id": node_id}]
    assert pull_requests.store_listed(db, repository_id, [], [listed(1, author_id=None)]) == {}
    assert db.rows("SELECT author_id FROM pull_requests") == [{"author_id": None}]
    assert len(db.rows("SELECT 1 FROM contributors")) == 2


def test_a_number_that_github_leaves_out_once_is_not_forgotten(db: Database) -> None:
    repository_id = tracked(db)
    for node_id, github_id in ((CAT, 583231), (CAT, None), (CAT_NEXT, 583231), (CAT_NEXT, None), (CAT, 583231)):
        tables = details(1)
        tables["contributors"] = [person(node_id, github_id)]
        for rows in ("pull_requests", "comments", "commits"):
            tables[rows][0].update(author_id=node_id)
        tables["comments"][0].update(
            node_id=LEGACY["comment"] if node_id == CAT else NEXT["comment"], github_id=github_id and 9001
        )
        assert pull_requests.store_listed(db, repository_id, tables["contributors"], tables["pull_requests"]) == {}
        assert pull_requests.store_details(db, repository_id, tables) == [1]
        assert db.rows("SELECT node_id, github_id FROM contributors") == [{"node_id": CAT, "github_id": 583231}]
        assert [row["github_id"] for row in db.rows("SELECT github_id FROM comments")] == [9001]


def test_a_number_that_becomes_known_later_leads_the_other_form_to_the_row(db: Database) -> None:
    repository_id = tracked(db)
    for node_id, github_id in ((CAT, None), (CAT, 583231), (CAT_NEXT, 583231)):
        row = listed(1, author_id=node_id)
        assert pull_requests.store_listed(db, repository_id, [person(node_id, github_id)], [row]) == {}
    assert db.rows("SELECT node_id, other_node_id FROM contributors") == [{"node_id": CAT, "other_node_id": CAT_NEXT}]


def test_a_login_that_another_account_has_now_does_not_identify(db: Database) -> None:
    """Somebody is renamed, and somebody else takes the login, both met under new node ids."""
    repository_id = tracked(db)
    people = [person(CAT), person(DOG, 99, "dog")]
    rows = [listed(1, author_id=CAT), listed(2, author_id=DOG)]
    assert pull_requests.store_listed(db, repository_id, people, rows) == {}
    people = [person(CAT_NEXT, 583231, "tiger"), person(DOG_NEXT, 99, "octocat")]
    rows = [listed(1, author_id=CAT_NEXT), listed(2, author_id=DOG_NEXT)]
    assert pull_requests.store_listed(db, repository_id, people, rows) == {}
    authors = "SELECT number, login FROM pull_requests JOIN contributors AS c ON c.node_id = author_id ORDER BY 1"
    assert [row["login"] for row in db.rows(authors)] == ["tiger", "octocat"]
    assert len(db.rows("SELECT 1 FROM contributors")) == 2


def test_one_number_of_two_types_or_under_two_ids_of_one_form_is_two_accounts(db: Database) -> None:
    repository_id = tracked(db)
    people = [
        person("U_1", 7, "a"),
        person("U_2", 7, "b"),
        person("MDQ6VGVhbTc=", 7, "team", "Team"),
        person("BOT_7", 7, "bot", "Bot"),
    ]
    rows = [listed(number, author_id=each["node_id"]) for number, each in enumerate(people, 1)]
    for _ in range(2):
        assert pull_requests.store_listed(db, repository_id, people, rows) == {}
        found = db.rows(
            "SELECT number, login FROM pull_requests JOIN contributors AS c ON c.node_id = author_id ORDER BY 1"
        )
        assert [row["login"] for row in found] == ["a", "b", "team", "bot"]


def test_an_account_that_changes_its_type_stays_one_row(db: Database) -> None:
    repository_id = tracked(db)
    taken = [person("U_9", 583231, "other", "Bot")]
    for each in (person("U_1"), person("U_1", None, kind="Bot"), person("U_1", kind="Bot"), person("U_1")):
        rows = [listed(1, author_id="U_1"), listed(2, author_id="U_9")]
        assert pull_requests.store_listed(db, repository_id, [each, *taken], rows) == {}
        assert len(db.rows("SELECT 1 FROM contributors")) == 2
    assert db.rows("SELECT type FROM contributors WHERE node_id = 'U_1'") == [{"type": "User"}]


def test_one_number_in_two_repositories_or_of_two_kinds_is_two_objects(db: Database) -> None:
    here = tracked(db)
    there = repositories.upsert(db, {**REPOSITORY, "node_id": "R_2", "github_id": 2, "name": "other"}).id
    for repository_id, ids in ((here, LEGACY), (there, {**NEXT, "octocat": CAT, "dog": DOG})):
        tables = whole(ids)
        tables["comments"][1]["github_id"] = tables["comments"][0]["github_id"]
        assert pull_requests.store_listed(db, repository_id, tables["contributors"], tables["pull_requests"]) == {}
        assert pull_requests.store_details(db, repository_id, tables) == [1]
    assert {name: counts(db)[name] for name in ("pull_requests", "reviews", "comments", "labels")} == {
        **{"pull_requests": 2, "reviews": 2, "comments": 4, "labels": 2}
    }


def test_comments_with_one_number_and_ids_of_one_form_are_all_kept(db: Database) -> None:
    repository_id = backfill_of(db, 1)["repository_id"]
    for ids in (["IC_a", "IC_b"], ["MDEa", "MDEb"], ["IC_a", "IC_c", "IC_d"]):
        tables = {**details(1), "comments": [comment(1, node_id) for node_id in ids]}
        assert pull_requests.store_details(db, repository_id, tables) == [1]
        assert [row["node_id"] for row in db.rows("SELECT node_id FROM comments ORDER BY 1")] == ids


def test_a_label_under_its_other_node_id_keeps_its_row_when_it_is_renamed_afterwards(db: Database) -> None:
    repository_id = backfill_of(db, 1)["repository_id"]
    for node_id, name in ((LEGACY["label"], "Bug"), (NEXT["label"], "bug"), (NEXT["label"], "defect")):
        tables = details(1)
        tables["labels"] = [{"node_id": node_id, "name": name, "color": "red"}]
        tables["pull_request_labels"] = [{"pull_request_number": 1, "label_id": node_id}]
        assert pull_requests.store_details(db, repository_id, tables) == [1]
        assert db.rows("SELECT node_id, name FROM labels") == [{"node_id": LEGACY["label"], "name": name}]
        assert len(db.rows("SELECT 1 FROM pull_request_labels")) == 1


@pytest.mark.parametrize("table", ["contributors", "labels"])
def test_two_writers_that_meet_one_object_under_two_forms_store_it_once(
    connect: Callable[[], Database], table: str
) -> None:
    one, two, observer = connect(), connect(), connect()
    repository_id = tracked(one)
    found: list[Any] = []

    def tables(number: int, ids: dict[str, str]) -> Tables:
        made = {**details(number), "pull_request_labels": [{"pull_request_number": number, "label_id": ids["label"]}]}
        made["labels"] = [{"node_id": ids["label"], "name": "bug", "color": "red"}]
        author = None
        if table == "contributors":
            made |= {"contributors": [person(ids["octocat"])], "labels": [], "pull_request_labels": []}
            author = ids["octocat"]
        else:
            made["contributors"] = []
        for name in ("pull_requests", "comments", "commits"):
            made[name] = [{**row, "author_id": author} for row in made[name]]
        return made

    def store(db: Database, number: int, ids: dict[str, str]) -> None:
        with db.transaction():
            found.append(pull_requests.store_details(db, repository_id, tables(number, ids)))

    for number in (1, 2):
        assert pull_requests.store_listed(one, repository_id, [], [listed(number, author_id=None)]) == {}
    with one.transaction():
        pull_requests.store_details(one, repository_id, tables(1, LEGACY))
        late = Loser(two, lambda db: store(db, 2, NEXT))
        late.is_seen_waiting_for(one, observer)
    late.result()
    assert found == [[2]]
    ids = (
        LEGACY["octocat" if table == "contributors" else "label"],
        NEXT["octocat" if table == "contributors" else "label"],
    )
    assert [tuple(row.values()) for row in observer.rows(f"SELECT node_id, other_node_id FROM {table}")] == [ids]


def test_writers_that_meet_new_accounts_under_two_forms_wait_in_one_order_and_do_not_deadlock(
    connect: Callable[[], Database],
) -> None:
    """Accounts 1, 2 and 3. By their node ids, the two writers would begin at opposite ends, and meet at 2."""
    first, one, two, observer = connect(), connect(), connect(), connect()
    repository_id = tracked(first)

    def store(db: Database, number: int, ids: dict[int, str]) -> None:
        rows = [listed(10 * number + each, author_id=node_id) for each, node_id in ids.items()]
        who = [person(node_id, each, str(each)) for each, node_id in ids.items()]
        assert pull_requests.store_listed(db, repository_id, who, rows) == {}

    class Undo(Exception):
        pass

    with pytest.raises(Undo), first.transaction():
        store(first, 1, {2: "MDQ62"})
        legacy = Loser(one, lambda db: store(db, 2, {1: "MDQ61", 2: "MDQ62", 3: "MDQ63"}))
        legacy.is_seen_waiting_for(first, observer)
        later = Loser(two, lambda db: store(db, 3, {1: "U_7", 2: "U_6", 3: "U_5"}))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND wait_event_type = 'Lock'"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not observer.rows(waiting, pid=later.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        raise Undo
    legacy.result()
    later.result()
    assert [
        tuple(row.values()) for row in observer.rows("SELECT node_id, other_node_id FROM contributors ORDER BY 1")
    ] == [
        ("MDQ61", "U_7"),
        ("MDQ62", "U_6"),
        ("MDQ63", "U_5"),
    ]


NAME = "octo/forms"


# With the second one, pull requests are asked for by their node ids.
@pytest.fixture(params=[None, Validation(aliases=12)], ids=["by number", "by node id"])
def stack(db: Database, request: pytest.FixtureRequest) -> Iterator[Stack]:
    with Simulator(generate(5, {NAME: 30}), speed=5000, validation=request.param) as simulator:
        yield Stack(db, simulator)


def people(stack: Stack) -> set[tuple[Any, ...]]:
    """Who is named where: by login, whatever the node ids are."""
    named = "JOIN contributors AS c ON c.node_id ="
    rows = stack.db.rows(
        f"SELECT 'author' AS role, number AS place, login FROM pull_requests {named} author_id"
        f" UNION SELECT 'merger', number, login FROM pull_requests {named} merged_by_id"
        f" UNION SELECT 'reviewer', r.github_id, login FROM reviews AS r {named} author_id"
        f" UNION SELECT 'speaker', m.github_id, login FROM comments AS m {named} author_id"
        f" UNION SELECT 'committer', pull_request_number, login FROM commits {named} author_id"
        f" UNION SELECT 'assignee', pull_request_number, login FROM pull_request_assignees {named} contributor_id"
        f" UNION SELECT 'asked', pull_request_number, login FROM pull_request_review_requests {named} contributor_id"
    )
    return {tuple(row.values()) for row in rows}


def change_everything(stack: Stack) -> None:
    """Each time a minute later: of two changes within a second GitHub's time shows one."""
    repository = stack.repository(NAME)
    newest = max(datetime.fromisoformat(each["updatedAt"]) for each in repository.pull_requests.values())
    later = (newest + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for number in list(repository.pull_requests):
        repository.change(number, updatedAt=later)


def refresh(stack: Stack) -> None:
    stack.db.execute("UPDATE progressive_backfill_state SET examined_at = now() - interval '2 days'")
    stack.heartbeat()
    stack.run()
    assert stack.state()["status"] == "completed"


def test_a_repository_whose_node_ids_all_change_their_form_has_the_same_rows_as_before(stack: Stack) -> None:
    stack.add(NAME)
    stack.run()
    stack.assert_equals_github()
    before, names = counts(stack.db), people(stack)
    assert min(before.values()) > 0
    keep_rows(stack.db)
    for form in (other_form, str):
        stack.simulator.shown_id = form
        change_everything(stack)
        refresh(stack)
        stack.assert_equals_github()
        assert counts(stack.db) == before
        assert people(stack) == names


def test_a_repository_whose_node_ids_have_any_form_at_any_time_is_stored_once(stack: Stack) -> None:
    """Within one answer, too."""
    rng = random.Random(1)
    stack.simulator.shown_id = lambda node_id: rng.choice((str, other_form))(node_id)
    stack.add(NAME)
    stack.run()
    for _ in range(2):
        change_everything(stack)
        refresh(stack)
    mixed, names = counts(stack.db), people(stack)
    stack.simulator.shown_id = str
    change_everything(stack)
    refresh(stack)
    stack.assert_equals_github()
    assert counts(stack.db) == mixed
    assert people(stack) == names
    assert len({each["id"] for each in accounts(stack)}) == mixed["contributors"]


def accounts(stack: Stack) -> list[dict[str, Any]]:
    """Everybody whom the simulator's pull requests name."""
    found = []
    for each in stack.repository(NAME).pull_requests.values():
        said = [*each["reviews"], *each["comments"], *(c for review in each["reviews"] for c in review["comments"])]
        found += [each["author"], each["mergedBy"], *each["assignees"], *each["reviewRequests"]]
        found += [one["author"] for one in said] + [one["commit"]["author"]["user"] for one in each["commits"]]
    return [each for each in found if each is not None]
