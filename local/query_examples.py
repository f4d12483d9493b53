"""Queries in the docs with their real output, from a generated repository that the product has read: `make query-examples`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backfill.store.connection import Database
from local.in_process import Stack
from local.postgres import scratch
from local.simulator import Repository, Simulator, generate

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "queries.md", ROOT / "README.md")
NAME, SIZE, SEED = "octo/hello", 150, 5
# A block of SQL that its output follows.
_EXAMPLE = re.compile(r"```sql\n(?P<sql>[^`]+?)```\n\n```text\n(?P<output>[^`]*?)```\n")


@dataclass(frozen=True, slots=True)
class Example:
    """A query and its output on the page."""

    sql: str
    output: str


def examples(page: str) -> list[Example]:
    """The examples of a page, in order."""
    return [Example(found["sql"].strip().rstrip(";"), found["output"]) for found in _EXAMPLE.finditer(page)]


def with_output(page: str, db: Database) -> str:
    """The page with the output that its queries have now."""
    return _EXAMPLE.sub(
        lambda found: f"```sql\n{found['sql']}```\n\n```text\n{output(db.rows(found['sql'].strip().rstrip(';')))}```\n",
        page,
    )


def output(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as psql shows them."""
    if not rows:
        return "(0 rows)\n"
    names = list(rows[0])
    texts = [["" if value is None else str(value) for value in row.values()] for row in rows]
    widths = [max(len(name), *(len(line[at]) for line in texts)) for at, name in enumerate(names)]
    right = [all(re.fullmatch(r"-?[\d.]*", line[at]) for line in texts) for at in range(len(names))]
    lines = [" | ".join(name.center(width) for name, width in zip(names, widths, strict=True))]
    lines.append("-+-".join("-" * width for width in widths))
    for line in texts:
        cells = zip(line, widths, right, strict=True)
        lines.append(
            " | ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells)
        )
    lines.append(f"({len(rows)} row{'s' * (len(rows) != 1)})")
    return "\n".join(line.rstrip() for line in lines) + "\n"


@contextmanager
def read_by_the_product(db: Database) -> Iterator[Repository]:
    """The generated repository, after a whole backfill into this database."""
    with Simulator(generate(SEED, {NAME: SIZE}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME, timeline=True)
        stack.run()
        stack.assert_equals_github()
        yield stack.repository(NAME)


def main() -> None:
    """Write the output into the pages."""
    with tempfile.TemporaryDirectory(prefix="query-examples-") as folder:
        server = scratch(Path(folder) / "postgres")
        database = Database(lambda: server.url("migrated"))
        try:
            with read_by_the_product(database):
                for page in PAGES:
                    page.write_text(with_output(page.read_text(encoding="utf-8"), database), encoding="utf-8")
        finally:
            database.close()
            server.stop()


if __name__ == "__main__":
    main()
