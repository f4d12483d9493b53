"""The revision of 0010_scans.sql."""

from migrations.runner import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_sql("0010_scans.sql")
