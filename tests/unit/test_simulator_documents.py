"""The simulator parses, validates and executes each part of a document once, and answers as graphql-core does."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from graphql import ExecutionResult, GraphQLError, execute, parse, validate

from backfill.github import documents
from backfill.github.detail_query import DetailQuery
from backfill.github.packing import COUNTS, TIMELINE, Part
from local.simulator import Repository, Simulator, generate
from local.simulator.documents import Documents
from local.simulator.execution import Unusual, answer_of
from local.simulator.node_ids import other_form
from local.simulator.owners import Owners
from local.simulator.resolvers import Repositories, root
from local.simulator.server import schema
from local.simulator.viewers import EVERYBODY

NAME = "octo/shapes"
RATE_LIMIT = {"cost": 1, "limit": 5000, "nodeCount": 1, "remaining": 4999, "resetAt": "2026-01-01T00:00:00Z", "used": 1}
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\.\.\.|\w+|[^\s\w]')


def details(rng: random.Random, numbers: list[int]) -> str:
    """A query for these pull requests, each with connections of its own, with the timeline in half of the queries."""
    query, left_out = DetailQuery(), rng.choice(["", TIMELINE])
    for index, number in enumerate(numbers):
        nested = rng.choice(["reviews", "reviewThreads", None])
        parts = [
            Part(name, rng.choice([10, 25, 100]), 5 if name == nested else None)
            for name in COUNTS
            if rng.random() < 0.6 and (name != "reviewThreads" or name == nested) and name != left_out
        ]
        query.pull_request(f"p{index}", number, " ".join(["...pullRequest", *map(query.connection, parts)]))
    if rng.random() < 0.3:
        query.more_review_comments("n0", "PRR_1", "reviews", (10, "WzEwLCAiIl0="))
    return query.text()


@pytest.fixture(scope="module")
def known() -> Documents:
    """Documents that know every part of the queries for pull requests, and most pairs of them."""
    rng, documents = random.Random(1), Documents(schema())
    for _ in range(120):
        documents.of(details(rng, [1, 2, 3]))
    return documents


def test_the_schema_has_no_name_with_a_digit() -> None:
    names = set(schema().type_map)
    for kind in schema().type_map.values():
        names.update(getattr(kind, "fields", {}), getattr(kind, "values", {}))
        names.update(name for field in getattr(kind, "fields", {}).values() for name in getattr(field, "args", {}))
    assert not [name for name in names if any(each.isdigit() for each in name)]


def is_valid(text: str) -> bool:
    """What graphql-core says to the whole document."""
    try:
        return not validate(schema(), parse(text))
    except GraphQLError:
        return False


def is_taken(known: Documents, text: str) -> bool:
    try:
        known.of(text)
    except GraphQLError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        documents.LISTING,
        documents.UPDATED,
        documents.FIND,
        documents.EXAMINE,
        documents.VIEWER,
        documents.find([("o", "a"), ("o", "b")]),
        *(details(random.Random(seed), [1, 2, 3, 4]) for seed in range(10)),
    ],
)
def test_every_query_of_the_backfill_is_valid_as_a_whole(text: str) -> None:
    assert validate(schema(), parse(text)) == []


def test_parts_of_valid_documents_are_not_validated_again(known: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    validated = []

    def count(*arguments: Any) -> Any:
        validated.append(arguments)
        return validate(*arguments)

    monkeypatch.setattr("local.simulator.documents.validate", count)
    rng = random.Random(2)
    for _ in range(40):
        known.of(details(rng, [7, 8]))
    assert len(validated) < 10


TEXT = details(random.Random(1), [1, 2, 3])
WRONG: dict[str, Callable[[str], str]] = {
    "an unknown field": lambda text: text.replace("...pullRequest", "...pullRequest surprise", 1),
    "an unknown fragment": lambda text: text.replace("...pullRequest", "...pullRequest ...surprise", 1),
    "two sizes of one connection": lambda text: text.replace(
        "...pullRequest", "labels(first: 3) { totalCount } ...l10", 1
    ),
    "one name for two pull requests": lambda text: text.replace("p1:", "p0:"),
    "a name that a fragment has": lambda text: text.replace("p1:", "id:"),
    "a name that is beside it": lambda text: text.replace("{ id p0", "{ id: name id p0"),
    "a variable that is not declared": lambda text: text.replace("number: 2", "number: $n"),
    "a variable that is not used": lambda text: text.replace("($repository: ID!)", "($repository: ID!, $n: Int)"),
    "a number as text": lambda text: text.replace("number: 2", 'number: "2"'),
    "a number that is not an Int": lambda text: text.replace("number: 2", "number: 99999999999"),
    "no number": lambda text: text.replace("(number: 2)", ""),
    "two numbers": lambda text: text.replace("(number: 2)", "(number: 2, number: 2)"),
    "a fragment that is not used": lambda text: text + " fragment surprise on Label { id }",
    "a fragment that only a text uses": lambda text: (
        text.replace("p1:", 'n7: node(id: "...surprise") { id } p1:') + " fragment surprise on Label { id }"
    ),
    "a fragment that is there twice": lambda text: text + text[text.index(" fragment page") :].partition("}")[0] + "}",
    "a fragment that uses itself": lambda text: text.replace("on PageInfo{", "on PageInfo{...page "),
    "another text of a fragment": lambda text: text.replace("teamAvatarUrl: avatarUrl", "avatarUrl"),
    "a fragment of another type": lambda text: text.replace("fragment page on PageInfo", "fragment page on Label"),
    "an unknown directive": lambda text: text.replace("p1:", "p1: ").replace("(number: 2)", "(number: 2) @surprise"),
    "no selection": lambda text: re.sub(r"p1: pullRequest\(number: 2\) \{[^}]*\}", "p1: pullRequest(number: 2)", text),
    "two operations": lambda text: text + " query Other { viewer { login } } { viewer { login } }",
    "no end": lambda text: text[:-1],
    "an end too many": lambda text: text + "}",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_invalid_part_of_a_document_is_seen_among_known_parts(known: Documents, wrong: str) -> None:
    text = next(
        text
        for seed in range(200)
        if "...q10" in (text := details(random.Random(seed), [1, 2, 3]))
        and "...l10" in text
        and "($repository: ID!)" in text
    )
    assert is_taken(known, text)
    changed = WRONG[wrong](text)
    assert changed != text
    assert not is_valid(changed) and not is_taken(known, changed)


def test_numbers_count_where_they_make_a_conflict() -> None:
    """The same two parts, with equal numbers and with different ones."""
    known = Documents(schema())
    text = (
        "query Q($r: ID!) { node(id: $r) { ... on Repository {"
        " p0: pullRequest(number: 1) { labels(first: 10) { totalCount } ...l10 } } } }"
        " fragment l10 on PullRequest { labels(first: 10) { totalCount } }"
    )
    changed = text.replace("{ labels(first: 10)", "{ labels(first: 20)", 1)
    known.of(text)
    known.of(text.replace("10", "25"))
    assert not is_valid(changed) and not is_taken(known, changed)


def test_small_changes_get_the_verdict_of_graphql_core(known: Documents) -> None:
    rng = random.Random(3)
    verdicts = []
    for _ in range(60):
        tokens = TOKEN.findall(details(rng, [1, 2]))
        place, other = rng.randrange(len(tokens)), rng.choice(tokens)
        tokens[place : place + rng.choice([0, 1, 1, 2])] = rng.choice([[], [other], [other, tokens[place]]])
        text = " ".join(tokens)
        verdicts.append(is_valid(text))
        assert is_taken(known, text) == verdicts[-1], text
    assert 5 < sum(verdicts) < 55


def world() -> tuple[Repositories, Repository]:
    (repository,) = generate(4, {NAME: 30})
    return Repositories({repository.node["id"]: repository}), repository


def both(text: str, variables: dict[str, Any], repositories: Repositories) -> tuple[Any, ExecutionResult]:
    """The answers of the simulator's executor, and of graphql-core."""
    document = parse(text)
    result = execute(
        schema(), document, root(repositories, Owners(repositories), RATE_LIMIT, EVERYBODY), other_form, variables
    )
    assert isinstance(result, ExecutionResult)
    return answer_of(
        schema(), document, root(repositories, Owners(repositories), RATE_LIMIT, EVERYBODY), variables, other_form
    ), result


def test_the_answers_are_those_of_graphql_core() -> None:
    repositories, repository = world()
    variables = {
        "repository": repository.node["id"],
        "first": 20,
        "owner": "octo",
        "name": "shapes",
        "ids": [repository.node["id"]],
    }
    queries = [documents.LISTING, documents.UPDATED, documents.FIND, documents.EXAMINE, documents.VIEWER]
    queries += [documents.find([("octo", "shapes"), ("OCTO", "Shapes")])]
    rng = random.Random(5)
    for _ in range(4):
        query = DetailQuery()
        for index, number in enumerate(rng.sample(sorted(repository.pull_requests), 5)):
            parts = [Part(name, 25, 10 if name == "reviews" else None) for name in COUNTS]
            query.pull_request(f"p{index}", number, " ".join(["...pullRequest", *map(query.connection, parts)]))
        queries.append(query.text())
    for text in queries:
        asked = {name: value for name, value in variables.items() if f"${name}" in text}
        mine, theirs = both(text, asked, repositories)
        assert theirs.errors is None
        assert json.dumps(mine) == json.dumps(theirs.data)


UNUSUAL: dict[str, dict[str, Any]] = {
    "null for what is never null": {"title": None},
    "a number for a text": {"title": 5},
    "a text for a number": {"additions": "many"},
    "a number that is not an Int": {"additions": 2**40},
    "an unknown state": {"state": "ASLEEP"},
    "an unknown type of actor": {"author": {"__typename": "Robot", "login": "r", "avatarUrl": "a", "url": "u"}},
    "no text for a boolean": {"locked": "yes"},
}


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_graphql_core_finds_deviations_from_the_schema(unusual: str) -> None:
    (repository,) = generate(4, {NAME: 5})
    number = min(repository.pull_requests)
    repository.change(number, **UNUSUAL[unusual])
    query = DetailQuery()
    query.pull_request("p0", number, "...pullRequest")
    variables = {"repository": repository.node["id"]}
    repositories = Repositories({repository.node["id"]: repository})
    document = parse(query.text())
    with pytest.raises(Unusual):
        answer_of(schema(), document, root(repositories, Owners(repositories), RATE_LIMIT, EVERYBODY), variables, str)
    theirs = execute(
        schema(), document, root(repositories, Owners(repositories), RATE_LIMIT, EVERYBODY), str, variables
    )
    assert isinstance(theirs, ExecutionResult)
    with Simulator([repository], speed=50_000) as simulator:
        answer = json.loads(simulator.answer({"query": query.text(), "variables": variables}).body)
    assert answer["data"]["node"] == (theirs.data or {}).get("node")
    assert [each["message"] for each in answer.get("errors", [])] == [each.message for each in theirs.errors or []]


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("query Q($id: ID!) { node(id: $id) { id } }", {}),
        ('{ node(id: "R_nowhere") { id } }', {}),
        ('{ repository(owner: "octo", name: "gone") { id } viewer { login } }', {}),
        ('{ repository(owner: "octo", name: "shapes") { pullRequests(first: 1, after: "x") { totalCount } } }', {}),
        ("{ viewer { login @skip(if: true) id } }", {}),
        ("{ __schema { queryType { name } } }", {}),
    ],
)
def test_errors_and_directives_are_graphql_core_s(text: str, variables: dict[str, Any]) -> None:
    repositories, _ = world()
    with pytest.raises((Unusual, GraphQLError)):
        answer_of(
            schema(), parse(text), root(repositories, Owners(repositories), RATE_LIMIT, EVERYBODY), variables, str
        )
