"""The revision of 0004_progress_time.sql."""

from migrations.runner import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql("0004_progress_time.sql")
