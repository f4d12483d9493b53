"""Bring a database up to date: `upgrade` applies the numbered SQL files of migrations/versions, in one transaction."""

from __future__ import annotations

from pathlib import Path

import pg8000.dbapi
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from backfill.store.connection import connection_options

HERE = Path(__file__).parent


def upgrade(database_url: str) -> list[str]:
    """Apply what is missing and return the revisions that were applied, oldest first; none on a second run.

    Two runs at once wait for each other. Raises what pg8000 raises; then nothing was applied.
    """
    engine = create_engine(
        "postgresql+pg8000://", creator=lambda: pg8000.dbapi.connect(**connection_options(database_url))
    )
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    try:
        with engine.connect() as connection:
            before = MigrationContext.configure(connection).get_current_revision() or ""
            connection.rollback()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            after = MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        engine.dispose()
    return [path.stem for path in sorted((HERE / "versions").glob("*.sql")) if before < path.stem[:4] <= after]


def run_sql(name: str) -> None:
    """Run a whole SQL file inside Alembic's transaction. Called by the revision modules.

    The simple query protocol takes many statements at once and looks for no parameters in them.
    """
    driver = op.get_bind().connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection to Postgres is closed")
    driver.execute_simple((HERE / "versions" / name).read_text(encoding="utf-8"))
