"""The revision of 0005_pacing.sql."""

from migrations.runner import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql("0005_pacing.sql")
