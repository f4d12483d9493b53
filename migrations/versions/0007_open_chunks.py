"""The revision of 0007_open_chunks.sql."""

from migrations.runner import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql("0007_open_chunks.sql")
