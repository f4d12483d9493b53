"""``backfill add`` names the field that a server's schema lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLSchema,
    InlineFragmentNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    assert_valid_schema,
    get_named_type,
    parse,
    validate,
    visit,
)

from backfill.github import documents
from backfill.github.errors import UnknownField
from backfill.github.replies import classify
from backfill.github.transport import Transport
from backfill.store import names
from backfill.store.connection import Database
from backfill.store.names import Wanted
from cli import sentences
from local.in_process import Stack
from local.simulator import Simulator, generate
from local.simulator.schema import SDL, refusal
from local.simulator.schema import schema_without as schema
from tests.integration.demanding import Demanding, comments, reviews

NAME = "octo/old"
WHOLE = schema()


class Named(Visitor):
    """What documents name of a schema: Type, Type.field, Type.field.argument."""

    def __init__(self, info: TypeInfo) -> None:
        super().__init__()
        self.info = info
        self.found: set[str] = set()

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        parent = self.info.get_parent_type()
        if parent is not None and not node.name.value.startswith("__"):
            place = f"{parent.name}.{node.name.value}"
            self.found |= {place, *(f"{place}.{each.name.value}" for each in node.arguments or ())}

    def enter_inline_fragment(self, node: InlineFragmentNode, *_: Any) -> None:
        if node.type_condition is not None:
            self.found.add(node.type_condition.name.value)

    def enter_fragment_definition(self, node: FragmentDefinitionNode, *_: Any) -> None:
        self.found.add(node.type_condition.name.value)


def named(text: str) -> set[str]:
    """What one document names."""
    info = TypeInfo(WHOLE)
    visitor = Named(info)
    visit(parse(text), TypeInfoVisitor(info, visitor))
    return visitor.found


CHECKED = named(documents.find_and_check([("octo", "old")]))


@cache
def old_schemas() -> dict[str, GraphQLSchema]:
    """Of servers that lack one thing, by its name. What an interface promises, and the only field of a type, are always there."""
    found = {}
    for each in sorted(CHECKED - {"Repository", "PullRequest", "User"}):
        with suppress(TypeError):
            old = schema([each])
            assert_valid_schema(old)
            found[each] = old
    return found


@pytest.fixture
def demanding(db: Database) -> Iterator[Stack]:
    with Demanding(generate(4, {NAME: 30}), speed=2000) as simulator:
        yield Stack(db, simulator)


def test_the_check_names_all_that_any_query_names(demanding: Stack) -> None:
    """Every query of a backfill with further pages of everything, of a check for changes and of a sync request."""
    stack, sent = demanding, set[str]()
    stack.simulator.before = sent.add  # type: ignore[attr-defined]
    repository = stack.repository(NAME)
    first, second = sorted(repository.pull_requests)[:2]
    repository.change(first, comments=comments(repository, first, 250))
    repository.change(second, **reviews(repository, second, [150], 20))
    stack.add(NAME)
    stack.run()
    repository.change(second, title="Changed", updatedAt="2029-01-01T00:00:00Z")
    stack.heartbeat()
    stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [first]})
    stack.run()
    stack.assert_equals_github()
    assert len(sent) > 5
    assert {place for text in sent for place in named(text)} - CHECKED <= {"Query.viewer", "User.login"}
    assert sum("@skip" in text for text in sent) == 1, (
        "one request checks the server, for as long as the container lives"
    )


def test_nearly_everything_is_something_that_a_server_can_lack() -> None:
    fields = {each for each in CHECKED if "." in each}
    assert len(fields & old_schemas().keys()) > 0.75 * len(fields)


def test_whatever_a_server_lacks_is_named() -> None:
    document = parse(documents.find_and_check([("octo", "old")]))
    for lacking, old in old_schemas().items():
        # The first problem is enough for the answer.
        problems = [refusal(each) for each in validate(old, document, max_errors=1)]
        with pytest.raises(UnknownField) as unknown:
            classify(200, {}, json.dumps({"errors": problems[:1]}).encode())
        said = str(unknown.value)
        assert f"'{lacking.split('.')[-1]}'" in said or f" {lacking}," in said, lacking
        assert "the oldest GitHub Enterprise Server that works is 3.14" in said


def test_the_simulator_lacks_only_what_there_is() -> None:
    for unknown in ("Nothing", "PullRequest.nothing", "PullRequest.files.nothing"):
        with pytest.raises(ValueError, match="othing"):
            schema([unknown])
    assert get_named_type(WHOLE.query_type) is WHOLE.query_type and "type Mannequin" in SDL


@pytest.mark.parametrize("lacking", ["PullRequest.fullDatabaseId", "PullRequestReviewComment.outdated"])
def test_add_says_what_an_old_server_lacks_and_pauses_the_backfill(db: Database, lacking: str) -> None:
    field = lacking.split(".")[1]
    with Simulator(generate(4, {NAME: 12}), speed=2000, lacks=[lacking]) as simulator:
        stack = Stack(db, simulator)
        answer = stack.add(NAME)
        assert field in answer["paused"] and "3.14" in answer["paused"]
        said = sentences.added_one(NAME, answer)
        assert said.startswith(f"{NAME} is paused: Field '{field}'") and said.endswith(f"backfill resume {NAME}")
        state = stack.state()
        assert (state["status"], state["pause_reason"], state["paused_until"]) == ("paused", "invalid_query", None)
        assert field in state["last_error"]
        asked = simulator.served["requests"]
        for _ in range(3):
            stack.heartbeat()
            stack.run()
        assert simulator.served["requests"] == asked, "no hourly retry"
        # Added again after the upgrade, and resumed.
        simulator.lacks = frozenset()
        assert "paused" not in stack.add(NAME)
        stack.console.act({"action": "resume", "repository": NAME})
        stack.run()
        stack.assert_equals_github()


def test_a_name_that_was_accepted_before_the_server_answered_is_told_too(db: Database) -> None:
    with Simulator(generate(4, {NAME: 12}), speed=2000, lacks=["PullRequest.fullDatabaseId"]) as simulator:
        stack = Stack(db, simulator)
        names.accept(db, Wanted("octo", "old", None, {}), "GitHub has not answered yet", 0)
        stack.heartbeat()
        assert (stack.state()["status"], stack.state()["pause_reason"]) == ("paused", "invalid_query")


def test_a_server_that_cannot_name_a_repository_is_asked_hourly_and_says_why(db: Database) -> None:
    with Simulator(generate(4, {NAME: 12}), speed=2000, lacks=["Repository.isArchived"]) as simulator:
        stack = Stack(db, simulator)
        with pytest.raises(UnknownField, match=r"isArchived.*3\.14"):
            stack.add(NAME)
        names.accept(db, Wanted("octo", "old", None, {}), "GitHub has not answered yet", 0)
        stack.heartbeat()
        (waiting,) = names.requested(db)
        assert waiting.is_refused and "isArchived" in (waiting.reason or "")
        assert (waiting.ask_at - waiting.requested_at).total_seconds() > 3500


@pytest.mark.parametrize(
    ("url", "newest"),
    [("https://api.github.com", True), ("https://api.octo.ghe.com", False), ("https://github.example.com/api", False)],
)
def test_only_other_servers_than_github_com_are_checked(url: str, newest: bool) -> None:
    assert Transport(url).is_newest is newest
