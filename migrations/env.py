"""Alembic's environment: the connection comes from migrations.runner, and one migrator works at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

# Any number that nothing else in this database locks on: the letters "backfill" as a 64-bit integer.
LOCK = 0x6261636B66696C6C

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False)
with context.begin_transaction():
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context.run_migrations()
