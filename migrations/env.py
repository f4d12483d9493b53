"""Alembic's environment: the connection comes from migrations.runner, and one migrator works at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

# Any number that nothing else in this database locks on: the letters "backfill" as a 64-bit integer.
LOCK = 0x6261636B66696C6C
# Whoever waits for a table lets nobody else use it meanwhile: a migration that gets no lock soon gives up, and a later one works.
LOCK_SECONDS = 20

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False)
with context.begin_transaction():
    if (seconds := context.config.attributes.get("seconds")) is not None:
        connection.execute(text(f"SET LOCAL statement_timeout = '{max(1, round(seconds))}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    context.run_migrations()
