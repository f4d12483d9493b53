"""The revision of 0001_core.sql."""

from migrations.runner import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql("0001_core.sql")
