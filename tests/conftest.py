"""A real Postgres for every test that asks for one: a fresh database, cloned from a migrated template."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import pytest

from backfill.store.connection import Database
from local.postgres import Postgres, scratch

_numbers = itertools.count(1)
_TEMPORARY = "PYTEST_DEBUG_TEMPROOT"


def pytest_configure(config: pytest.Config) -> None:
    """A temporary folder of this run's own: pytest closes the common one to other users at every start, and with it
    the data of the Postgres of a run that goes on, which does not run as root."""
    if _TEMPORARY not in os.environ:
        os.environ[_TEMPORARY] = tempfile.mkdtemp(prefix="backfill-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(_TEMPORARY)))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = scratch(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield postgres.url(name)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[[], Database]]:
    """A maker of connections of their own, for tests of races."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(Database(lambda: database_url))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def db(connect: Callable[[], Database]) -> Database:
    return connect()
