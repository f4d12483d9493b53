"""The revision of 0003_budget.sql."""

from migrations.runner import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql("0003_budget.sql")
