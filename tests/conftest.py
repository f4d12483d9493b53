"""A real Postgres for every test that asks for one: an empty database with the migrated schema."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

from backfill.store.connection import Database
from local.postgres import NEWEST, Postgres, scratch
from local.servers import PgBouncer, installed_postgres, oldest_postgres
from tests.databases import Databases

_TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
# Workers of -n that are interrupted have servers to stop; after this they are killed, and the servers stay.
STOP_SECONDS = 60
# Files that share one deployed stack (tests/e2e/conftest.py): one worker runs them all.
ONE_STACK = (
    "tests/e2e/test_deployed.py",
    "tests/e2e/test_five_repositories.py",
    "tests/e2e/test_incident.py",
    "tests/e2e/test_one_app.py",
    "tests/e2e/test_permissions.py",
    "tests/e2e/test_wheel.py",
)
# The longest files, in the order in which workers begin them. Without it the last worker runs one of them alone.
LONGEST = (
    *ONE_STACK,
    "tests/e2e/test_upgrades.py",
    "tests/integration/test_chunk_life.py",
    "tests/e2e/test_faults.py",
    # A worker whose file has a test or two takes the next file as well: short ones for the two above.
    "tests/unit/test_edges.py",
    "tests/unit/test_gate.py",
    "tests/e2e/test_packaged.py",
    "tests/docs/test_contributor_walk.py",
    "tests/integration/test_small_budget.py",
    "tests/e2e/test_delete.py",
    "tests/integration/test_forecasting.py",
    "tests/reported/test_every_place.py",
    "tests/reported/test_reported.py",
    "tests/integration/test_learned_size.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The same tests on other servers: `pytest tests/integration --postgres 15`, `--oldest-postgres` or `--pgbouncer`."""
    parser.addoption(
        "--postgres",
        type=int,
        default=int(os.environ.get("POSTGRES", NEWEST)),
        help="use this version of PostgreSQL; the variable POSTGRES says the same",
    )
    parser.addoption("--oldest-postgres", action="store_true", help="use the oldest PostgreSQL that the product takes")
    parser.addoption("--pgbouncer", action="store_true", help="reach Postgres through PgBouncer in transaction mode")


def pytest_configure(config: pytest.Config) -> None:
    """A temporary folder of this run's own: pytest closes the common one to other users at every start, and with it
    the data of the Postgres of a run that goes on, which does not run as root."""
    if _TEMPORARY not in os.environ:
        os.environ[_TEMPORARY] = tempfile.mkdtemp(prefix="backfill-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(_TEMPORARY)))
    # A busy machine is not a failure.
    settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy machine")
    NodeManager.EXIT_TIMEOUT = STOP_SECONDS
    signal.signal(signal.SIGTERM, lambda *_: _interrupted(config))


def scope_of(nodeid: str) -> str:
    """Tests of one scope run on one worker: those of a file, and those of the files that share a stack."""
    file = nodeid.partition("::")[0]
    return "one stack" if file in ONE_STACK else file


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Workers take scopes in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    """The scheduler of `-n`."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def pytest_collection_finish() -> None:
    """What collection made stays. The garbage collector would look at it again and again: a tenth of all computing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _interrupted(config: pytest.Config) -> None:
    """SIGTERM ends a run as Ctrl-C does, which the terminal sends to all its processes: servers are stopped.

    Once: a worker may get it from the controller, and from the process that ends the whole group.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    if config.pluginmanager.hasplugin("dsession"):  # the controller of -n
        for worker in psutil.Process().children():
            worker.terminate()
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def postgres_version(request: pytest.FixtureRequest) -> int:
    """The PostgreSQL of this run."""
    oldest = request.config.getoption("--oldest-postgres")
    return oldest_postgres() if oldest else installed_postgres(request.config.getoption("--postgres"))


@pytest.fixture(scope="session")
def postgres(postgres_version: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = scratch(tmp_path_factory.mktemp("postgres"), postgres_version)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def newest_postgres(
    postgres_version: int, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Postgres]:
    """The newest PostgreSQL, whatever this run uses: for tests of the planner's choice, which each version makes anew."""
    if postgres_version == NEWEST:
        yield request.getfixturevalue("postgres")
        return
    server = scratch(tmp_path_factory.mktemp("newest-postgres"), NEWEST)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pooled(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Callable[[str], str]]:
    """A database's URL as the tests of this run reach it."""
    if not request.config.getoption("--pgbouncer"):
        yield lambda url: url
        return
    pooler = PgBouncer(postgres.url("postgres"))
    yield pooler.url
    pooler.stop()


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Databases:
    return Databases(postgres)


@pytest.fixture
def database_url(postgres: Postgres, databases: Databases, pooled: Callable[[str], str]) -> Iterator[str]:
    name = databases.lend()
    yield pooled(postgres.url(name))
    databases.take_back(name)


@pytest.fixture
def direct_url(postgres: Postgres, database_url: str) -> str:
    """The same database with no pooler between, for tests that are about the connection itself."""
    return postgres.url(urlsplit(database_url).path[1:])


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
