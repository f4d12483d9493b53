"""docs/data.md says of every table and column what it means, and its sources are fields that the product asks GitHub for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLUnionType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_schema,
    get_named_type,
    parse,
    visit,
)

from backfill.github import documents, organisations
from backfill.github.detail_query import DetailQuery
from backfill.github.documents import with_fragments
from backfill.github.packing import Part
from backfill.store.connection import Database
from local import data_dictionary, schema
from local.data_dictionary import NotDocumented, page, relations
from local.in_process import Stack
from local.postgres import Postgres
from local.simulator import Simulator, generate
from local.simulator.schema import SDL

SCHEMA = build_schema(SDL)


def test_the_page_is_what_the_schema_says(db: Database) -> None:
    assert data_dictionary.PAGE.read_text(encoding="utf-8") == page(relations(db)), "run: make data-dictionary"


def test_the_schema_file_is_what_the_migrations_make(newest_postgres: Postgres) -> None:
    written = schema.FILE.read_text(encoding="utf-8")
    assert written == schema.schema(newest_postgres.url("migrated")), "run: make data-dictionary"
    for each in (
        "TABLE pull_requests (",
        "INDEX pull_requests_to_detail ",
        "FUNCTION budget_reserve_v1(",
        "VIEW pull_request_gaps ",
    ):
        assert f"CREATE {each}" in written
    assert "CREATE TRIGGER " in written and "COMMENT ON COLUMN pull_requests.number IS" in written


def test_a_column_or_a_table_without_a_comment_is_named(db: Database) -> None:
    db.execute("ALTER TABLE labels ADD COLUMN description text")
    db.execute("CREATE TABLE notes (id integer)")
    with pytest.raises(NotDocumented, match=r"labels\.description \(None\).*notes\.id \(None\).*notes \(None\)"):
        relations(db)


def test_a_comment_of_another_form_is_named(db: Database) -> None:
    db.execute("COMMENT ON COLUMN labels.color IS 'Some color.'")
    with pytest.raises(NotDocumented, match=r"labels\.color \('Some color\.'\)"):
        relations(db)


def test_a_view_that_is_made_again_without_its_comments_is_noticed(db: Database) -> None:
    (view,) = db.rows("SELECT pg_get_viewdef('pull_request_gaps'::regclass) AS text")
    db.execute("DROP VIEW pull_request_gaps")
    db.execute(f"CREATE VIEW pull_request_gaps AS {view['text']}")
    with pytest.raises(NotDocumented, match="pull_request_gaps"):
        relations(db)


def asked() -> set[tuple[str, str]]:
    """Every field, as (type, field), that a query of the product asks for."""
    details = DetailQuery()
    fields = ["...pullRequest"]
    for name in documents.NODES:
        nested = 5 if name in ("reviews", "reviewThreads") else 0
        fields.append(details.connection(Part(name, 10, nested=nested)))
    details.pull_request("p1", 1, " ".join(fields))
    texts = [documents.LISTING, documents.UPDATED, documents.EXAMINE, documents.FIND, documents.VIEWER, details.text()]
    texts.append(organisations.BY_LOGIN)
    texts.append(with_fragments("query Q { viewer { ...actor } }"))
    info, found = TypeInfo(SCHEMA), set()

    class Collect(Visitor):
        def enter_field(self, *_: object) -> None:
            parent, field = info.get_parent_type(), info.get_field_def()
            if parent is not None and field is not None and field.ast_node is not None:
                found.add((parent.name, field.ast_node.name.value))

    for text in texts:
        visit(parse(text), TypeInfoVisitor(info, Collect()))
    return found


def is_asked(source: str, fields: set[tuple[str, str]]) -> bool:
    """Whether a path such as PullRequest.mergeCommit.oid exists in GitHub's schema, and the product asks for each step."""
    name, *steps = source.split(".")
    parent = SCHEMA.type_map.get(name)
    for step in steps:
        if isinstance(parent, GraphQLUnionType):
            return False
        if step == "__typename":
            return isinstance(parent, GraphQLObjectType | GraphQLInterfaceType)
        if not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) or step not in parent.fields:
            return False
        if (parent.name, step) not in fields:
            return False
        parent = get_named_type(parent.fields[step].type)
    return bool(steps)


def test_every_source_is_a_field_that_is_asked_for(db: Database) -> None:
    fields = asked()
    sources = {
        (f"{relation.name}.{column.name}", source)
        for relation in relations(db)
        for column in relation.columns
        for source in column.comment.source.split(", ")
        if source != "product"
    }
    assert len(sources) > 100
    assert [(place, source) for place, source in sorted(sources) if not is_asked(source, fields)] == []
    assert not is_asked("PullRequest.titel", fields)
    assert not is_asked("PullRequest.mergeCommit.messageHeadline.x", fields)


def test_every_scalar_that_is_asked_of_a_pull_request_is_a_source_of_some_column(db: Database) -> None:
    sources = {
        source
        for relation in relations(db)
        for column in relation.columns
        for source in column.comment.source.split(", ")
    }
    steps = {".".join(source.split(".")[:2]) for source in sources}
    asked_of = {field for parent, field in asked() if parent == "PullRequest"}
    # Commits and files name the type of their nodes; review threads only lead to their comments.
    assert {field for field in asked_of if f"PullRequest.{field}" not in steps} == {"files"}


def test_every_word_of_the_column_filled_is_explained(db: Database) -> None:
    words = {
        word
        for relation in relations(db)
        for each in (relation.comment, *(column.comment for column in relation.columns))
        for word in each.filled.split(", ")
    }
    explained = re.findall(r"^\| ([a-z ,]+) \| ", data_dictionary.HEAD, re.MULTILINE)
    known = {word for line in explained for word in line.split(", ")}
    assert words - known == set()


def test_the_listing_leaves_to_the_details_what_the_page_says(db: Database) -> None:
    (columns,) = [relation.columns for relation in relations(db) if relation.name == "pull_requests"]
    later = [each.name for each in columns if each.comment.filled == "details" and each.may_be_null]
    assert {"body", "merged_by_id", "milestone_title", "detail_synced_at"} <= set(later)
    with Simulator(generate(3, {"octo/words": 40}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.add("octo/words")
        stack.plan_once()
        listed = db.rows(f"SELECT {', '.join(later)} FROM pull_requests")
        assert len(listed) == 40
        assert {value for row in listed for value in row.values()} == {None}
        stack.run()
    (filled,) = db.rows(
        "SELECT count(body) AS body, count(merged_by_id) > 0 AS merged, count(detail_synced_at) AS synced FROM pull_requests"
    )
    assert filled == {"body": 40, "merged": True, "synced": 40}


def test_the_page_is_reached_from_the_index() -> None:
    assert "(data.md)" in (Path(data_dictionary.PAGE).parent / "README.md").read_text(encoding="utf-8")
