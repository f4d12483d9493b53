"""The client reads every pull request whole: compared field by field with the simulator's data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backfill.errors import Deferred
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.packing import cut
from backfill.github.reading import ChunkDetails
from backfill.github.transport import Transport
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.simulator import Repository, Simulator, generate, load

REAL = Path(__file__).parents[3] / "shared" / "data" / "github"


@pytest.fixture(scope="module")
def repositories() -> list[Repository]:
    """Real pull requests where they are at hand, else generated ones."""
    return load(REAL) if REAL.is_dir() else generate(1, {"octo/large": 600, "octo/small": 100})


@pytest.fixture
def simulator(repositories: list[Repository]) -> Iterator[Simulator]:
    with Simulator(repositories, speed=2000) as running:
        yield running


def client(simulator: Simulator, db: Database) -> GitHub:
    transport = Transport(simulator.url)
    credentials = Credentials(transport, lambda _: {"token": "ghp_test"})
    return GitHub(transport, credentials, Governor(PostgresBudget(db), sleep=lambda _: None))


def patiently(github: GitHub, node_id: str, rows: list[dict[str, Any]]) -> ChunkDetails:
    """As a worker does: what is deferred goes on later."""
    while True:
        try:
            return github.details(node_id, rows)
        except Deferred as limit:
            time.sleep(limit.seconds)


def everything(
    github: GitHub, node_id: str, chunk_size: int
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """The whole listing and all details in chunks, newest first."""
    listed: list[dict[str, Any]] = []
    cursor, more = None, True
    while more:
        page = github.list_pull_requests(node_id, cursor)
        listed += page.pull_requests
        cursor, more = page.end_cursor, page.has_next_page
    by_number = {row["number"]: row for row in listed}
    tables: dict[str, list[dict[str, Any]]] = {}
    for chunk in cut(listed[::-1], chunk_size, len(listed)):
        read = patiently(github, node_id, [by_number[number] for number in chunk])
        assert (read.failed, read.gone) == ({}, [])
        for table, rows in read.tables.items():
            tables.setdefault(table, []).extend(rows)
    return listed, tables


def test_every_field_of_every_pull_request_is_read(simulator: Simulator, db: Database) -> None:
    github = client(simulator, db)
    github.check_for_changes(list(simulator.repositories))  # also asks once whose token it is, which costs a point
    for repository in simulator.repositories.values():
        served, before = simulator.statistics(), github.spent
        _, tables = everything(github, repository.node["id"], 25)
        now, spent = simulator.statistics(), github.spent - before
        assert spent.points == now["points"] - served["points"]
        assert spent.requests == now["requests"] - served["requests"]
        _compare(repository, tables)


def _compare(repository: Repository, tables: dict[str, list[dict[str, Any]]]) -> None:
    held = repository.pull_requests
    rows = {row["number"]: row for row in tables["pull_requests"]}
    assert rows.keys() == held.keys()
    for number, node in held.items():
        row = rows[number]
        assert (row["title"], row["body"], row["updated_at"]) == (node["title"], node["body"], node["updatedAt"])
        assert row["author_id"] == (node["author"]["id"] if node["author"] else None)
    reviews = {row["node_id"]: row for row in tables["reviews"]}
    assert reviews.keys() == {each["id"] for node in held.values() for each in node["reviews"]}
    comments = {row["node_id"]: row for row in tables["comments"]}
    expected = {each["id"]: each for node in held.values() for each in node["comments"]}
    expected |= {
        each["id"]: each for node in held.values() for review in node["reviews"] for each in review["comments"]
    }
    assert comments.keys() == expected.keys()
    assert len(tables["comments"]) == len(comments)
    for node_id, each in expected.items():
        row = comments[node_id]
        assert row["body"] == each["body"].replace("\x00", "")
        assert row["github_id"] == int(each["fullDatabaseId"])
        assert row.get("path") == each.get("path")
        assert row.get("review_id") == (each.get("pullRequestReview") or {}).get("id")
    commits = {(row["pull_request_number"], row["oid"]) for row in tables["commits"]}
    assert commits == {(n, each["commit"]["oid"]) for n, node in held.items() for each in node["commits"]}
    files = {(row["pull_request_number"], row["path"]) for row in tables["files"]}
    assert files == {(n, each["path"]) for n, node in held.items() for each in node["files"]}


def test_a_poisonous_pull_request_fails_alone(simulator: Simulator, db: Database) -> None:
    github = client(simulator, db)
    node_id = next(iter(simulator.repositories))
    listed = github.list_pull_requests(node_id, None).pull_requests[:10]
    poisonous = listed[4]["number"]
    simulator.poison[poisonous] = "<html>502</html>"
    read = github.details(node_id, listed)
    assert list(read.failed) == [poisonous] and read.failed[poisonous][0] == "too_large"
    assert len(read.tables["pull_requests"]) == 9


def test_a_limit_defers_and_blocks_every_worker(simulator: Simulator, connect: Callable[[], Database]) -> None:
    one, other = client(simulator, connect()), client(simulator, connect())
    node_id = next(iter(simulator.repositories))
    one.list_pull_requests(node_id, None)
    other.list_pull_requests(node_id, None)
    served = simulator.statistics()["requests"]
    body = {"message": "You have exceeded a secondary rate limit."}
    simulator.script({"status": 429, "body": body, "headers": {"retry-after": "90"}})
    with pytest.raises(Deferred) as first:
        one.list_pull_requests(node_id, None)
    with pytest.raises(Deferred) as second:
        other.list_pull_requests(node_id, None)
    assert "secondary" in str(second.value)
    assert abs((first.value.until - second.value.until).total_seconds()) < 15
    assert simulator.statistics()["requests"] == served + 1
