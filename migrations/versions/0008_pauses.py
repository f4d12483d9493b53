"""The revision of 0008_pauses.sql."""

from migrations.runner import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql("0008_pauses.sql")
