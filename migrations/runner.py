"""Bring a database up to date: `upgrade` applies the numbered SQL files of migrations/versions in one transaction."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pg8000.dbapi
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from backfill.errors import BackfillError
from backfill.store.address import connect_patiently

HERE = Path(__file__).parent
OLDEST_POSTGRES = 14
_INCLUDE = re.compile(r"^-- include (functions/\w+\.sql)$", re.MULTILINE)


def upgrade(database_url: str, to: str = "head", seconds: float | None = None, wake_seconds: float = 0) -> list[str]:
    """Apply what is missing, up to the revision ``to``, and return the names of what was applied, oldest first.

    Nothing is done to a schema that is newer than this code: a deployment is being rolled back, and migrations are such that
    older code works on. Two runs at once wait for each other. No statement may take longer than ``seconds``. A database that
    cannot be reached is tried again for ``wake_seconds``. Raises MigrationFailed with Postgres' reason, or
    DatabaseUnavailable; then nothing was applied.
    """
    engine = create_engine(
        "postgresql+pg8000://", creator=lambda: connect_patiently(pg8000.dbapi.connect, database_url, wake_seconds)
    )
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    names = sorted(path.stem for path in (HERE / "versions").glob("*.sql"))
    try:
        with engine.connect() as connection, TemporaryDirectory(prefix="revisions-") as revisions:
            version = connection.dialect.server_version_info or (0,)
            if version < (OLDEST_POSTGRES,):
                raise MigrationFailed(f"PostgreSQL {OLDEST_POSTGRES} or newer is needed; this is {version[0]}")
            before = _revision(connection)
            if before > names[-1][:4]:
                return []
            _write_revisions(Path(revisions), names)
            config.set_main_option("version_locations", revisions)
            config.attributes.update(connection=connection, seconds=seconds)
            command.upgrade(config, to)
            connection.commit()
            after = _revision(connection)
    except (pg8000.dbapi.Error, DBAPIError) as error:
        raise MigrationFailed(f"Postgres: {_reason(error)}; nothing was changed") from error
    finally:
        engine.dispose()
    return [name for name in names if before < name[:4] <= after]


class MigrationFailed(BackfillError):
    """The schema stays as it was."""


def _revision(connection: Connection) -> str:
    """The revision of the schema; empty before the first."""
    found = MigrationContext.configure(connection).get_current_revision() or ""
    connection.rollback()
    return found


def _reason(error: Exception) -> str:
    """Postgres' own message; pg8000 gives its fields as a dictionary, and SQLAlchemy wraps it."""
    cause = getattr(error, "orig", None) or error
    fields = cause.args[0] if cause.args and isinstance(cause.args[0], dict) else {}
    return f"{fields['M']} ({fields.get('C')})" if "M" in fields else str(cause)


def _write_revisions(folder: Path, names: list[str]) -> None:
    """Write the module that Alembic wants for each SQL file. A revision is the file's number, and follows the one before."""
    before: str | None = None
    for name in names:
        (folder / f"{name}.py").write_text(
            f"from migrations.runner import run_sql\n\nrevision = {name[:4]!r}\ndown_revision = {before!r}\n\n\n"
            f"def upgrade() -> None:\n    run_sql({name + '.sql'!r})\n",
            encoding="utf-8",
        )
        before = name[:4]


def run_sql(name: str) -> None:
    """Run a whole SQL file inside Alembic's transaction. The generated revision modules call it.

    The simple query protocol takes many statements at once and looks for no parameters in them.
    """
    driver = op.get_bind().connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection to Postgres is closed")
    driver.execute_simple(sql(name))


def sql(name: str) -> str:
    """The text of a migration, with its functions: a line ``-- include functions/NAME.sql`` stands for the text of that file."""
    text = (HERE / "versions" / name).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda line: (HERE / line[1]).read_text(encoding="utf-8"), text)
