"""The revision of 0006_planning.sql."""

from migrations.runner import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql("0006_planning.sql")
