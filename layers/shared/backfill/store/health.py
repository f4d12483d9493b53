"""What Postgres says about itself, and names of what is tracked, for `backfill doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from backfill.store.connection import Database

# Alembic's table is of the migrator: it is there whenever the others are.
_SERVER = """
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS is_standby,
           current_setting('transaction_read_only') = 'on' AS is_read_only,
           COALESCE((SELECT max(version_num) FROM alembic_version), '') AS schema
"""
_NAMES = """
    SELECT r.owner, r.name FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id
    WHERE r.name_taken_at IS NULL ORDER BY s.status, s.last_processed_at DESC NULLS LAST LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Server:
    """``schema`` is the number of the newest migration that was applied."""

    version: str
    is_standby: bool
    is_read_only: bool
    schema: str


@dataclass(frozen=True, slots=True)
class Name:
    """A repository."""

    owner: str
    name: str


def server(db: Database) -> Server:
    """One statement. Raises DatabaseUnavailable."""
    row = db.one(_SERVER)
    if row is None:
        raise LookupError("Postgres says nothing about itself")
    return Server(**row)


def some_repositories(db: Database, limit: int) -> list[Name]:
    """Names that are tracked, those in work first."""
    return [Name(**row) for row in db.rows(_NAMES, limit=limit)]
