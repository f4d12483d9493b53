"""The setting of measurements: a real Postgres, real pull requests where they are at hand, and their rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.records import Tables
from backfill.github.transport import Transport
from backfill.store import backfills, pull_requests, repositories
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.postgres import Postgres, scratch
from local.simulator import Repository, Simulator, generate, load
from local.stack import DATA

# Fast enough to keep GitHub's time out of the measurement.
SPEED = 5000.0


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with a migrated database; durability is off, so that the disk of this machine is not measured."""
    with tempfile.TemporaryDirectory() as folder:
        server = scratch(Path(folder))
        try:
            yield server
        finally:
            server.stop()


def pull_requests_at_hand() -> list[Repository]:
    """The real ones, or generated ones of the same sizes, the largest repository first."""
    found = load(DATA) if DATA.is_dir() else generate(1, {"octo/large": 1300, "octo/small": 500})
    return sorted(found, key=lambda each: -len(each.pull_requests))


def client(simulator: Simulator, db: Database) -> GitHub:
    """GitHub under the governor, as a worker has it, without its waits."""
    transport = Transport(simulator.url)
    credentials = Credentials(transport, lambda _: {"token": "ghp_benchmark"})
    return GitHub(transport, credentials, Governor(PostgresBudget(db), sleep=lambda _: None))


def listed(db: Database, github: GitHub, repository: Repository) -> str:
    """Track a repository and list all of it; its uuid."""
    node_id = repository.node["id"]
    page = github.list_pull_requests(node_id, None)
    row = repositories.upsert(db, page.repository)
    backfills.add(db, row.id, total_prs=page.total_prs, chunk_size=None, metadata={})
    while True:
        pull_requests.store_listed(db, row.id, page.contributors, page.pull_requests)
        if not page.has_next_page:
            return str(row.id)
        page = github.list_pull_requests(node_id, page.end_cursor)


def details(
    db: Database, github: GitHub, repository: Repository, repository_id: str, *, size: int, chunks: int
) -> list[Tables]:
    """The rows of ``chunks`` chunks of ``size`` pull requests, newest first, as the worker stores them."""
    numbers = sorted(repository.pull_requests, reverse=True)
    read = []
    for start in range(0, size * chunks, size):
        rows = pull_requests.by_numbers(db, repository_id, numbers[start : start + size])
        read.append(github.details(repository.node["id"], rows).tables)
    return read
