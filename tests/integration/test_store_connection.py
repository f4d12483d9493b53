"""The connection: one round trip per statement or pipeline, counted on the wire; errors leave it usable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pg8000.exceptions import DatabaseError

from backfill.store import pull_requests
from backfill.store.connection import Database
from local.wire import Wire
from tests.integration.rows import backfill_of, details


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    with Wire(database_url) as running:
        yield running


@pytest.fixture
def remote(wire: Wire) -> Iterator[Database]:
    database = Database(lambda: wire.url)
    database.one("SELECT 1 AS one")
    yield database
    database.close()


def test_a_statement_with_parameters_takes_one_round_trip(wire: Wire, remote: Database) -> None:
    before = wire.waits()
    assert remote.rows("SELECT CAST(:a AS integer) + CAST(:b AS integer) AS c", a=1, b=2) == [{"c": 3}]
    assert wire.waits() - before == 1


def test_a_chunk_is_stored_in_fewer_round_trips_than_tables(wire: Wire, remote: Database) -> None:
    repository_id = backfill_of(remote, 1, 2)["repository_id"]
    before = wire.waits()
    assert pull_requests.store_details(remote, repository_id, details(1, 2)) == [1, 2]
    assert wire.waits() - before == 2


def test_statements_of_a_pipeline_see_each_other_and_keep_their_rows_apart(db: Database) -> None:
    made, counted, nothing = db.pipeline(
        [
            (
                "INSERT INTO contributors (node_id, type, login) VALUES (:id, 'User', :id) RETURNING node_id",
                {"id": "U_1"},
            ),
            ("SELECT count(*) AS people, :note AS note FROM contributors", {"note": ":not a parameter"}),
            ("DELETE FROM contributors WHERE node_id = :id", {"id": "U_2"}),
        ]
    )
    assert (made, counted, nothing) == ([{"node_id": "U_1"}], [{"people": 1, "note": ":not a parameter"}], [])


def test_an_error_in_a_pipeline_is_raised_and_undoes_all_of_it(db: Database) -> None:
    person = "INSERT INTO contributors (node_id, type, login) VALUES (:id, 'User', 'x')"
    with pytest.raises(DatabaseError, match="23505"):
        db.pipeline([(person, {"id": "U_1"}), (person, {"id": "U_1"}), (person, {"id": "U_3"})])
    assert db.rows("SELECT node_id FROM contributors") == []


def test_an_error_in_a_transaction_rolls_back_and_leaves_the_connection_usable(db: Database) -> None:
    with pytest.raises(DatabaseError, match="22012"), db.transaction():
        db.execute("INSERT INTO contributors (node_id, type, login) VALUES (:id, 'User', 'x')", id="U_1")
        db.one("SELECT 1 / CAST(:zero AS integer) AS never", zero=0)
    assert db.one("SELECT count(*) AS people FROM contributors") == {"people": 0}
