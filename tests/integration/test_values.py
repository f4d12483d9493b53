"""Values, names and identities that Postgres or GitHub change, refuse or give twice."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from pg8000.exceptions import DatabaseError

from backfill.store import backfills, children, pull_requests, repositories
from backfill.store.connection import Database, RowsRefused
from local.postgres import Postgres
from tests.integration.rows import details, listed

NODE = {
    "github_id": 77,
    "owner": "octo",
    "name": "alpha",
    "url": "u",
    "is_private": False,
    "is_fork": False,
    "is_archived": False,
    "default_branch": "main",
    "github_created_at": None,
}


def repository(node_id: str, **changed: Any) -> dict[str, Any]:
    return {**NODE, "node_id": node_id, **changed}


def paused(db: Database) -> dict[str, Any]:
    """A backfill that the system has paused, with an end."""
    stored = repositories.upsert(db, repository("R_1"))
    db.execute("INSERT INTO progressive_backfill_state (repository_id) VALUES (CAST(:id AS uuid))", id=stored.id)
    (state,) = db.rows("SELECT * FROM progressive_backfill_state")
    assert backfills.pause(db, state["id"], "consecutive_errors", minutes=60)
    return state


def found(db: Database, owner: str, name: str) -> str:
    """The id of the repository with this name."""
    repository = repositories.find(db, owner, name)
    assert repository is not None
    return repository.id


def test_a_node_id_of_another_form_names_the_same_repository(db: Database) -> None:
    old = repositories.upsert(db, repository("MDEwOlJlcG9zaXRvcnk3Nw=="))
    new = repositories.upsert(db, repository("R_kgBN"))
    assert (new.id, new.node_id) == (old.id, "R_kgBN")
    assert len(db.rows("SELECT 1 FROM repositories")) == 1


def test_a_name_belongs_to_the_repository_that_github_gave_it_to_last(db: Database) -> None:
    first = repositories.upsert(db, repository("R_1"))
    second = repositories.upsert(db, repository("R_2", github_id=78))
    repositories.note_unavailable(db, [first.id])
    assert found(db, "octo", "alpha") == second.id
    back = repositories.upsert(db, repository("R_1"))
    assert found(db, "Octo", "Alpha") == back.id == first.id


def test_a_name_is_looked_for_among_earlier_ones_only_if_nobody_has_it(db: Database) -> None:
    first = repositories.upsert(db, repository("R_1"))
    repositories.upsert(db, repository("R_1", name="beta"))
    assert found(db, "octo", "alpha") == first.id
    second = repositories.upsert(db, repository("R_2", github_id=78))
    assert found(db, "octo", "alpha") == second.id


def test_a_person_who_names_another_reason_pauses_without_an_end(db: Database) -> None:
    paused(db)
    db.execute("UPDATE progressive_backfill_state SET status = 'paused', pause_reason = 'maintenance'")
    (state,) = db.rows("SELECT status, pause_reason, paused_until FROM progressive_backfill_state")
    assert state == {"status": "paused", "pause_reason": "maintenance", "paused_until": None}


def test_a_truncated_table_counts_nothing(db: Database) -> None:
    paused(db)
    db.execute("UPDATE progressive_backfill_state SET total_prs = 8, listed_prs = 8, current_prs = 8")
    db.execute("TRUNCATE pull_requests CASCADE")
    (state,) = db.rows("SELECT listed_prs, current_prs, processed_prs FROM progressive_backfill_state")
    assert state == {"listed_prs": 0, "current_prs": 0, "processed_prs": 0}


@pytest.mark.parametrize("metadata", ["[]", "null", "5", '"high"'])
def test_metadata_is_an_object(db: Database, metadata: str) -> None:
    paused(db)
    with pytest.raises(DatabaseError, match="metadata_is_an_object"):
        db.execute("UPDATE progressive_backfill_state SET metadata = CAST(:metadata AS jsonb)", metadata=metadata)


def test_a_refused_row_is_not_told_in_the_error(db: Database) -> None:
    db.execute("CREATE TABLE t (a text CHECK (a <> 'secret text'))")
    with pytest.raises(RowsRefused) as refused:
        db.execute("INSERT INTO t VALUES (:a)", a="secret text")
    assert "secret" not in repr(refused.value)
    assert (refused.value.__cause__, refused.value.__suppress_context__) == (None, True)


@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "alone"])
def test_statements_run_at_read_committed_whatever_the_role_says(
    db: Database, postgres: Postgres, database_url: str, inside: bool
) -> None:
    postgres.run(f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET default_transaction_isolation = 'serializable'")
    db.close()
    if inside:
        with db.transaction():
            row = db.one("SHOW transaction_isolation")
    else:
        row = db.one("SHOW transaction_isolation")
    assert row == {"transaction_isolation": "read committed"}


def test_a_value_that_cannot_be_encoded_leaves_nothing_of_its_pipeline(db: Database) -> None:
    db.execute("CREATE TABLE t (a text)")
    with pytest.raises(UnicodeEncodeError):
        db.pipeline([("INSERT INTO t VALUES (:a)", {"a": "first"}), ("SELECT '\ud800'", {})])
    assert db.rows("SELECT a FROM t") == []


def test_an_error_text_with_nul_and_half_a_surrogate_pair_is_recorded(db: Database) -> None:
    state = paused(db)
    odd = "strange \x00 and \ud83d text"
    backfills.record_error(db, state["id"], odd, pause_minutes=1)
    pull_requests.record_failed(db, state["repository_id"], {1: ("unexplained", odd)})
    assert db.rows("SELECT last_error FROM progressive_backfill_state") == [{"last_error": "strange  and  text"}]


def test_files_with_one_position_are_both_kept() -> None:
    files = [
        {"pull_request_number": 1, "position": at, "path": path, "change_type": "ADDED", "additions": 0, "deletions": 0}
        for at, path in ((1, "b"), (0, "a"), (1, "c"), (1, "c"))
    ]
    assert [(row["position"], row["path"]) for row in children.in_order(files)] == [(0, "a"), (1, "b"), (2, "c")]


@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "alone"])
@pytest.mark.parametrize(
    "bad",
    [{"created_at": "0000-01-01T00:00:00Z"}, {"additions": 2**31}, {"state": "ODD"}, {"title": None}],
    ids=["date", "integer", "check", "null"],
)
def test_a_listing_page_is_stored_without_the_row_that_postgres_refuses(
    db: Database, bad: dict[str, Any], inside: bool
) -> None:
    repository_id = paused(db)["repository_id"]
    rows = [listed(number, **(bad if number == 3 else {})) for number in range(1, 6)]
    people = details(1, 2, 3, 4, 5)["contributors"]
    if inside:
        with db.transaction():
            refused = pull_requests.store_listed(db, repository_id, people, rows)
    else:
        refused = pull_requests.store_listed(db, repository_id, people, rows)
    assert list(refused) == [3]
    assert [row["number"] for row in db.rows("SELECT number FROM pull_requests ORDER BY 1")] == [1, 2, 4, 5]
    (gap,) = db.rows("SELECT reason, error_code, error FROM pull_request_gaps WHERE number = 3")
    assert (gap["reason"], gap["error_code"]) == ("row missing", "value_refused")
    assert gap["error"].startswith("Postgres: ")


@pytest.mark.parametrize(
    ("table", "bad"),
    [
        ("comments", {"created_at": "300000-01-01T00:00:00Z"}),
        ("commits", {"position": 2**40}),
        ("files", {"additions": 2**40}),
        ("contributors", {"github_id": 2**70}),
    ],
)
def test_of_a_chunk_only_the_pull_request_with_the_refused_value_fails(
    db: Database, table: str, bad: dict[str, Any]
) -> None:
    repository_id = paused(db)["repository_id"]
    numbers = [1, 2, 3, 4, 5, 6, 7]
    tables = {name: [dict(row) for row in rows] for name, rows in details(*numbers).items()}
    pull_requests.store_listed(db, repository_id, tables["contributors"], tables["pull_requests"])
    if table == "contributors":
        person = {**tables["contributors"][0], "node_id": "U_odd"}
        tables["contributors"].append({**person, **bad})
        next(row for row in tables["comments"] if row["pull_request_number"] == 5)["author_id"] = "U_odd"
    else:
        next(row for row in tables[table] if row["pull_request_number"] == 5).update(bad)
    with db.transaction():
        stored = pull_requests.store_divided(db, repository_id, tables)
    assert (sorted(stored.accepted), list(stored.refused)) == ([1, 2, 3, 4, 6, 7], [5])
    whole = db.rows("SELECT number FROM pull_requests WHERE detail_updated_at IS NOT NULL ORDER BY 1")
    assert [row["number"] for row in whole] == [1, 2, 3, 4, 6, 7]


def test_an_error_without_a_guilty_pull_request_is_raised(db: Database) -> None:
    repository_id = paused(db)["repository_id"]
    with pytest.raises(RowsRefused), db.transaction():
        pull_requests.store_listed(db, repository_id, [{**details(1)["contributors"][0], "github_id": 2**70}], [])
