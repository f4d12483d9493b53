"""Storing a chunk: the product, psycopg with COPY and the same merges, and executemany; at 0 and 2 ms of network.

Every way stores the same chunks of 25 pull requests, with everything below them, each into a database of its own and
one transaction per chunk. The ways take turns chunk by chunk, so that a busy machine slows them alike.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pg8000.dbapi
import psycopg

from backfill.github.records import Tables
from backfill.store import children, pull_requests
from backfill.store.address import connection_options
from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from local.postgres import Postgres
from local.simulator import Simulator
from local.wire import Wire

PULL_REQUESTS, CHUNKS = 25, 16
ROUND_TRIPS = (0.0, 0.002)

_Store = Callable[[Tables], object]

# The product's own statements, their rows taken from a temporary table instead of a parameter.
_FROM_JSON = re.compile(r"jsonb_to_recordset\(CAST\(:rows AS jsonb\)\) AS i\(([^()]*)\)")
# People and labels by node id alone: the product also finds them under the other form of it.
_CONTRIBUTORS = """
    INSERT INTO contributors (node_id, type, github_id, login, avatar_url, url)
    SELECT node_id, type, github_id, login, avatar_url, url
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(
        node_id text, type text, github_id bigint, login text, avatar_url text, url text)
    ORDER BY node_id
    ON CONFLICT (node_id) DO UPDATE SET
        type = EXCLUDED.type, github_id = COALESCE(EXCLUDED.github_id, contributors.github_id), login = EXCLUDED.login,
        avatar_url = EXCLUDED.avatar_url, url = EXCLUDED.url
    WHERE (contributors.type, contributors.login, contributors.avatar_url, contributors.url)
        IS DISTINCT FROM (EXCLUDED.type, EXCLUDED.login, EXCLUDED.avatar_url, EXCLUDED.url)
"""
_LABELS = """
    INSERT INTO labels (node_id, repository_id, name, color)
    SELECT node_id, CAST(:repository_id AS uuid), name, color
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(node_id text, name text, color text)
    ORDER BY node_id
    ON CONFLICT (node_id) DO UPDATE SET name = EXCLUDED.name, color = EXCLUDED.color
    WHERE (labels.name, labels.color) IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.color)
"""
_STATEMENTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("contributors", _CONTRIBUTORS, ("node_id",)),
    ("labels", _LABELS, ("node_id",)),
    *((each.name, children.STATEMENTS[each.name], each.key) for each in children.CHILDREN),
    ("pull_requests", pull_requests._DETAILED, ("number",)),
)


def measure() -> list[Figure]:
    """Milliseconds per chunk and round trips of each way, and the ratios that have targets."""
    with ExitStack() as stack:
        server = stack.enter_context(setting.postgres())
        chunks, repository_id = _prepared(server, stack)
        figures = [Figure("storing", f"rows of a chunk of {PULL_REQUESTS}", _rows(chunks), "rows")]
        for seconds in ROUND_TRIPS:
            figures += _beside_each_other(server, chunks, repository_id, seconds)
    return figures


def _prepared(server: Postgres, stack: ExitStack) -> tuple[list[Tables], str]:
    """The chunks; the database ``listed`` holds their pull requests without detail."""
    server.run("CREATE DATABASE listed TEMPLATE migrated")
    simulator = stack.enter_context(Simulator(setting.pull_requests_at_hand(), speed=setting.SPEED))
    repository = setting.pull_requests_at_hand()[0]
    db = Database(lambda: server.url("listed"))
    github = setting.client(simulator, db)
    repository_id = setting.listed(db, github, repository)
    chunks = setting.details(db, github, repository, repository_id, size=PULL_REQUESTS, chunks=CHUNKS)
    db.close()
    return chunks, repository_id


def _rows(chunks: Sequence[Tables]) -> float:
    return sum(len(rows) for tables in chunks for rows in tables.values()) / len(chunks)


def _beside_each_other(
    server: Postgres, chunks: Sequence[Tables], repository_id: str, round_trip: float
) -> list[Figure]:
    ways = {"product": _product, "psycopg COPY and merge": _copy, "pg8000 executemany": _executemany}
    # executemany waits for every row: few chunks tell enough.
    chunks_of = {name: chunks[: 3 if way is _executemany else CHUNKS] for name, way in ways.items()}
    spent = dict.fromkeys(ways, 0.0)
    with ExitStack() as stack:
        wires, stores = {}, {}
        for number, (name, way) in enumerate(ways.items()):
            database = f"way_{number}_{round(round_trip * 1000)}"
            server.run(f"CREATE DATABASE {database} TEMPLATE listed")
            wires[name] = stack.enter_context(Wire(server.url(database), round_trip))
            stores[name] = stack.enter_context(way(wires[name].url, repository_id))
        # The first chunk warms caches and, in psycopg, prepares statements.
        for name in ways:
            stores[name](chunks[0])
        before = {name: wires[name].waits() for name in ways}
        for number in range(1, len(chunks)):
            for name in ways:
                for tables in chunks_of[name][number : number + 1]:
                    begin = time.perf_counter()
                    stores[name](tables)
                    spent[name] += time.perf_counter() - begin
        waits = {name: wires[name].waits() - before[name] for name in ways}
    network = f"at {round_trip * 1000:g} ms"
    figures = []
    for name in ways:
        count = len(chunks_of[name]) - 1
        spent[name] /= count
        figures.append(Figure("storing", f"{name}, {network}", spent[name] * 1000, "ms/chunk"))
        figures.append(Figure("storing", f"round trips, {name}, {network}", waits[name] / count, "per chunk"))
    ratio = spent["product"] / spent["psycopg COPY and merge"]
    target = 1.5 if round_trip == 0 else 1.0
    figures.append(Figure("storing", f"product / psycopg COPY and merge, {network}", ratio, "×", target))
    return figures


@contextmanager
def _product(url: str, repository_id: str) -> Iterator[_Store]:
    db = Database(lambda: url)

    def store(tables: Tables) -> None:
        with db.transaction():
            pull_requests.store_details(db, repository_id, tables)

    yield store
    db.close()


def _unique(tables: Tables, name: str, key: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """As the product does: one row per key, sorted, which costs every way the same."""
    found = {tuple(row[part] for part in key): row for row in tables.get(name, ())}
    return [found[each] for each in sorted(found)]


@contextmanager
def _copy(url: str, repository_id: str) -> Iterator[_Store]:
    """Temporary tables made once per connection, one COPY each, and then all merges, prepared, in one pipeline."""
    merges: dict[str, str] = {}
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        for name, statement, _ in _STATEMENTS:
            definition = ", ".join(_definitions(statement))
            connection.execute(f"CREATE TEMPORARY TABLE incoming_{name} ({definition}) ON COMMIT DELETE ROWS")
            merged = _FROM_JSON.sub(f"incoming_{name} AS i", statement)
            merges[name] = re.sub(r"(?<!:):(\w+)", r"%(\1)s", merged)
        accepted = """
            SELECT p.number FROM pull_requests AS p JOIN incoming_pull_requests AS i ON i.number = p.number
            WHERE p.repository_id = %(repository_id)s::uuid AND i.updated_at >= p.updated_at
              AND (p.detail_updated_at IS NULL OR i.updated_at >= p.detail_updated_at)
            ORDER BY p.number FOR UPDATE OF p"""

        def store(tables: Tables) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                for name, _, key in _STATEMENTS:
                    rows = _unique(tables, name, key)
                    if rows:
                        with cursor.copy(f"COPY incoming_{name} ({', '.join(_COLUMNS[name])}) FROM STDIN") as copy:
                            for row in rows:
                                copy.write_row([row.get(column) for column in _COLUMNS[name]])
                values: dict[str, Any] = {"repository_id": repository_id}
                values["numbers"] = [row[0] for row in cursor.execute(accepted, values)]
                with connection.pipeline():
                    for name, _, _ in _STATEMENTS:
                        cursor.execute(merges[name], values)

        yield store


@contextmanager
def _executemany(url: str, repository_id: str) -> Iterator[_Store]:
    """pg8000's executemany of one upsert per row. It deletes nothing, so it does less than the others."""
    connection = pg8000.dbapi.connect(**connection_options(url))

    def store(tables: Tables) -> None:
        cursor = connection.cursor()
        for name, _, key in _STATEMENTS:
            rows = _unique(tables, name, key)
            if rows:
                first = [] if name == "contributors" else [repository_id]
                values = [first + [row.get(column) for column in _COLUMNS[name]] for row in rows]
                cursor.executemany(_upsert(name, key), values)
        connection.commit()

    yield store
    connection.close()


def _definitions(statement: str) -> list[str]:
    """The columns, with their types, that a statement takes rows with."""
    found = _FROM_JSON.search(statement)
    if found is None:
        raise LookupError(f"this statement takes no rows: {statement}")
    return [each.strip() for each in found[1].split(",")]


_COLUMNS = {name: [each.split()[0] for each in _definitions(statement)] for name, statement, _ in _STATEMENTS}


def _upsert(name: str, key: tuple[str, ...]) -> str:
    columns = _COLUMNS[name]
    target = key
    if name != "contributors":
        columns = ["repository_id", *columns]
        target = key if key == ("node_id",) else ("repository_id", *key)
    changed = ", ".join(f"{each} = EXCLUDED.{each}" for each in columns if each not in target)
    action = f"UPDATE SET {changed}" if changed else "NOTHING"
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
        f" ON CONFLICT ({', '.join(target)}) DO {action}"
    )
