"""python -m cli is the backfill command."""

from cli.main import app

app(prog_name="backfill")
