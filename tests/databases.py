"""Databases for tests. One that a test leaves with the migrated schema is emptied and lent again: a clone costs three times as much."""

from __future__ import annotations

import itertools
import time
from contextlib import closing, suppress
from typing import Any

import pg8000.native

from backfill.store.address import connection_options
from local.postgres import Postgres

TEMPLATE = "migrated"
# Connections that a test closed or left end before the database gets its next name.
END_SECONDS = 10

# What a test may change besides rows. Emptying writes pg_class: its columns count there, and not its versions of rows.
_SCHEMA = """
    SELECT md5(concat_ws(' ',
        (SELECT string_agg(concat_ws(',', oid, relname, relkind, relowner, relacl, reloptions), ' ' ORDER BY oid) FROM pg_class),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_attribute),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_attrdef),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_constraint),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_index),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_proc),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_trigger),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_rewrite),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_policy),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_description),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_default_acl),
        (SELECT concat_ws(',', count(*), max(xmin::text::bigint)) FROM pg_namespace),
        (SELECT concat_ws(',', datdba, datacl, datconnlimit) FROM pg_database WHERE datname = current_database()),
        (SELECT string_agg(setconfig::text, ',') FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
         WHERE datname = current_database()),
        (SELECT string_agg(version_num, ',') FROM alembic_version)))
"""
_TABLES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
"""
# As in a database of a moment ago: the planner takes tables that nobody has analysed for larger than empty ones.
_NEVER_ANALYSED = (
    "SET allow_system_table_mods = on",
    "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND reltuples <> -1",
    "DELETE FROM pg_statistic USING pg_class WHERE starelid = oid AND relnamespace = 'public'::regnamespace",
)


class Databases:
    """Lends databases of one server, each under a name that no database had before."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._administrator: pg8000.native.Connection | None = None
        self._numbers = itertools.count(1)
        self._empty: list[str] = []
        with closing(self._connection(TEMPLATE)) as connection:
            filled = connection.run(_TABLES)
            # Rows that a migration brings would not come back.
            assert filled == [], f"tables of a new database have rows: {filled}"
            self._schema = connection.run(_SCHEMA)
        # A database cannot be cloned while somebody is connected to it.
        self._await_end_of_connections(TEMPLATE)

    def lend(self) -> str:
        """The name of an empty, migrated database."""
        name = f"test_{next(self._numbers)}"
        if self._empty:
            self._run(f"ALTER DATABASE {self._empty.pop()} RENAME TO {name}")
        else:
            self._run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return name

    def take_back(self, name: str) -> None:
        """End all its connections. Empty it if its schema is as it was, and drop it otherwise."""
        self._await_end_of_connections(name)
        if self._emptied(name):
            self._await_end_of_connections(name)
            self._empty.append(name)
        else:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _emptied(self, name: str) -> bool:
        with closing(self._connection(name)) as connection:
            try:
                if connection.run(_SCHEMA) != self._schema:
                    return False
            except pg8000.native.DatabaseError:
                return False  # without one of the tables
            # Rows go in any order, and without the product's triggers.
            connection.run("SET session_replication_role = replica")
            tables = [row[0] for row in connection.run(_TABLES)]
            for table in tables:
                connection.run(f"DELETE FROM {table}")
            if tables:
                connection.run(f"VACUUM {', '.join(tables)}")
            for statement in _NEVER_ANALYSED:
                connection.run(statement)
            return not connection.run(_TABLES)

    def _await_end_of_connections(self, name: str) -> None:
        deadline = time.monotonic() + END_SECONDS
        while self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"):
            assert time.monotonic() < deadline, f"connections to {name} did not end in {END_SECONDS} s"
            time.sleep(0.002)

    def _run(self, sql: str) -> Any:
        """By a connection that stays, unless the server was restarted meanwhile."""
        if self._administrator is not None:
            with suppress(pg8000.native.Error, OSError):
                return self._administrator.run(sql)
        self._administrator = self._connection("postgres")
        return self._administrator.run(sql)

    def _connection(self, name: str) -> pg8000.native.Connection:
        return pg8000.native.Connection(**connection_options(self._postgres.url(name)))
