"""The revision of 0009_turns.sql."""

from migrations.runner import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_sql("0009_turns.sql")
