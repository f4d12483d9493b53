"""docs/data.md, made from the comments in the schema: `make data-dictionary`, which also writes migrations/schema.sql."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backfill.store.connection import Database
from local import schema
from local.postgres import scratch

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
# A comment is its meaning, and in brackets the source and when the value is filled.
_COMMENT = re.compile(r"(?P<meaning>.+) \[(?P<source>[^;\]]+)(; (?P<filled>[^\]]+))?\]")

HEAD = """# Data dictionary

Every table, view and column of the schema. `make data-dictionary` writes this page from the comments in the database, which
the migrations set. `psql` shows the same comments with `\\d+ pull_requests`. [queries.md](queries.md) has eleven useful queries.

**Source** names the field of GitHub's GraphQL schema that a value comes from. `product` marks a value of this product's own.

**Null** says whether the column may be null. The meaning says when it is.

**Filled** says who writes the value, and when:

| word | when |
|---|---|
| add | when a repository is added |
| listing | when the planner stores a listing page, within minutes after the repository is added |
| details | when a worker stores the details of the pull request |
| planner, worker, recovery, migrator | during a run of that function |
| trigger | by a trigger, in the transaction that changes what it depends on |
| operator | by a command or by your SQL |
| any request, any refusal, first request | with a request to GitHub, or when GitHub refuses one |
| any change, any pause | when the row changes, or when the backfill pauses |
| on reading | when you read the view |

Two conditions belong into most reports. `gone_at IS NULL` leaves out pull requests that GitHub no longer has.
`detail_synced_at IS NOT NULL` leaves out those whose details are not stored yet.

How the tables hang together:

    repositories ─┬─ progressive_backfill_state ── backfill_chunks ── backfill_chunk_members
                  ├─ labels
                  └─ pull_requests ─┬─ reviews
                                    ├─ comments            issue comments and review comments, by kind
                                    ├─ commits
                                    ├─ files
                                    ├─ pull_request_labels, pull_request_assignees
                                    ├─ pull_request_review_requests
                                    ├─ pull_request_closing_issues
                                    └─ timeline_events, review_threads      where the timeline is read
    tracked_organisations ── organisation_repositories ── repositories
    contributors    authors and reviewers of all of these; a deleted user is a null author_id
    github_budget   points and server time, one row per GitHub identity
"""
_GROUPS = {
    "GitHub": ("Data from GitHub", "What GitHub has, as it was when it was last read."),
    "view": ("Views", "For people and reports. They hold nothing of their own."),
    "product": (
        "State of the product",
        "How far each backfill is, and what comes next. [architecture.md](architecture.md) explains how it is used.",
    ),
}

_RELATIONS = """
    SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS comment
    FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p') ORDER BY c.relname
"""
_COLUMNS = """
    SELECT c.relname AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           NOT a.attnotnull AS may_be_null, col_description(c.oid, a.attnum) AS comment
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p') ORDER BY c.relname, a.attnum
"""


class NotDocumented(Exception):
    """Tables or columns have no comment, or one of another form."""


@dataclass(frozen=True, slots=True)
class Comment:
    """The content of a comment. ``source`` is a field of GitHub, or a word of the product."""

    meaning: str
    source: str
    filled: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column and the content of its comment."""

    name: str
    type: str
    may_be_null: bool
    comment: Comment


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view."""

    name: str
    comment: Comment
    columns: Sequence[Column]


def relations(db: Database) -> list[Relation]:
    """Everything in the schema, in the order of names. Raises NotDocumented, which names each place."""
    missing: list[str] = []

    def read(place: str, text: str | None) -> Comment:
        found = _COMMENT.fullmatch(text or "")
        if found is None:
            missing.append(f"{place} ({text!r})")
            return Comment("", "", "")
        return Comment(found["meaning"], found["source"], found["filled"] or "")

    columns: dict[str, list[Column]] = {}
    for row in db.rows(_COLUMNS):
        place = f"{row['relation']}.{row['name']}"
        columns.setdefault(row["relation"], []).append(
            Column(row["name"], row["type"], row["may_be_null"], read(place, row["comment"]))
        )
    found = [
        Relation(row["name"], read(row["name"], row["comment"]), columns[row["name"]]) for row in db.rows(_RELATIONS)
    ]
    missing += [f"{each.name}: {each.comment.source!r}" for each in found if each.comment.source not in _GROUPS]
    if missing:
        raise NotDocumented(
            "COMMENT ON must say 'Meaning. [source; who fills it]', as migrations/versions/0018_comments.sql does; it does not for "
            + ", ".join(missing)
        )
    return found


def page(found: Sequence[Relation]) -> str:
    """The text of docs/data.md."""
    lines = [HEAD]
    for group, (title, about) in _GROUPS.items():
        lines += [f"## {title}", "", about, ""]
        for relation in found:
            if relation.comment.source == group:
                lines += _section(relation)
    return "\n".join(lines)


def _section(relation: Relation) -> list[str]:
    lines = [f"### {relation.name}", "", relation.comment.meaning, ""]
    lines += ["| column | type | null | meaning | source | filled |", "|---|---|---|---|---|---|"]
    for each in relation.columns:
        null = "may be" if each.may_be_null else "never"
        source = each.comment.source
        if source != "product":
            source = ", ".join(f"`{field}`" for field in source.split(", "))
        lines.append(
            f"| `{each.name}` | {_type(each.type)} | {null} | {each.comment.meaning} | {source} | {each.comment.filled} |"
        )
    return [*lines, ""]


def _type(name: str) -> str:
    """Postgres' own short name."""
    return {"timestamp with time zone": "timestamptz"}.get(name, name.replace("character varying", "varchar"))


def main() -> None:
    """Write the page and the schema from a database of its own, which has the migrations of this checkout."""
    with tempfile.TemporaryDirectory(prefix="data-dictionary-") as folder:
        server = scratch(Path(folder) / "postgres")
        database = Database(lambda: server.url("migrated"))
        try:
            PAGE.write_text(page(relations(database)), encoding="utf-8")
            schema.FILE.write_text(schema.schema(server.url("migrated")), encoding="utf-8")
        finally:
            database.close()
            server.stop()
    print(f"{PAGE.relative_to(PAGE.parents[1])} and {schema.FILE.relative_to(PAGE.parents[1])} are written")


if __name__ == "__main__":
    main()
