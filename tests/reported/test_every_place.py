"""Every place of the product's own documents, taken from their text, in every way in which GitHub may not give it.

A new field of a document is covered without a new case here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    get_named_type,
    parse,
)

from backfill.github.detail_query import DetailQuery
from backfill.github.packing import COUNTS, TIMELINE, Part
from backfill.github.timeline import EVENTS
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Repository, generate
from local.simulator.data import connect
from local.simulator.schema import SDL
from tests.integration.demanding import comments, commits, files, reviews
from tests.reported.harness import Altered, days, detailed, listed_nodes

NAME, SIZE = "octo/places", 4
MOST_MORE_REQUESTS = 12
# The errors that stand beside a null.
ERRORS: dict[str, list[dict[str, str]]] = {
    "null": [],
    "FORBIDDEN": [{"type": "FORBIDDEN", "message": "Resource protected by organization SAML enforcement."}],
    "NOT_FOUND": [{"type": "NOT_FOUND", "message": "Could not resolve"}],
    # Without a type. Of a whole query, the same words say that it took too long.
    "went wrong": [{"message": "Something went wrong while executing your query."}],
}
OUT_OF_RANGE = {"DateTime": "300000-01-01T00:00:00Z", "Int": 2**70, "BigInt": str(2**70)}


@dataclass(frozen=True)
class Place:
    """A path below a pull request; ``kind`` is connection, object, or the type of a scalar."""

    path: tuple[str | int, ...]
    kind: str

    def __str__(self) -> str:
        return ".".join(map(str, self.path)) + f"-{self.kind}"


FAULTS = {
    "connection": ("a null node", "null", "FORBIDDEN", "NOT_FOUND", "went wrong"),
    # Null without an error is what GitHub documents for them: a deleted user, a deleted fork.
    "object": ("FORBIDDEN", "NOT_FOUND"),
}


def places(timeline: bool) -> list[Place]:
    """Of the queries for details and for the listing, with the timeline or without."""
    query = DetailQuery(() if timeline else ("reviewThreadsNode",))
    parts = [
        Part(name, 10, 10 if name == nested else None)
        for nested in ("reviews", "reviewThreads")
        for name in COUNTS
        if (name != "reviewThreads" or nested == "reviewThreads") and (name != TIMELINE or timeline)
    ]
    query.pull_request("p0", 1, " ".join(["...pullRequest", *map(query.connection, parts)]))
    document = parse(query.text())
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    (operation,) = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    found: dict[tuple[str | int, ...], Place] = {}
    pull_request = next(
        each for each in _fields(operation.selection_set, fragments) if each.name.value == "pullRequest"
    )
    _walk(_schema().type_map["PullRequest"], pull_request.selection_set, (), found, fragments)
    return list(found.values())


@cache
def _schema() -> Any:
    return build_schema(SDL)


def _fields(
    selections: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode], kind: Any = None
) -> Iterator[Any]:
    """Fields below a selection, fragments expanded. The fields of ``node`` and ``repository`` are walked through."""
    for each in selections.selections if selections else ():
        if isinstance(each, FragmentSpreadNode):
            yield from _fields(fragments[each.name.value].selection_set, fragments, kind)
        elif isinstance(each, InlineFragmentNode):
            yield from _fields(each.selection_set, fragments, kind)
        elif isinstance(each, FieldNode):
            yield each
            if each.name.value == "node":
                yield from _fields(each.selection_set, fragments, kind)


def _walk(
    kind: Any,
    selections: SelectionSetNode | None,
    path: tuple[str | int, ...],
    found: dict[tuple[str | int, ...], Place],
    fragments: dict[str, FragmentDefinitionNode],
) -> None:
    for each in _fields(selections, fragments):
        name = each.alias.value if each.alias else each.name.value
        field = _field(kind, each.name.value)
        if field is None or name in ("pageInfo", "totalCount", "__typename"):
            continue
        named, here = get_named_type(field.type), (*path, name)
        if named.name.endswith("Connection"):
            below = {one.name.value: one for one in _fields(each.selection_set, fragments)}
            if "nodes" in below:
                found.setdefault(here, Place(here, "connection"))
                node_type = get_named_type(named.fields["nodes"].type)
                _walk(node_type, below["nodes"].selection_set, (*here, "nodes", 0), found, fragments)
        elif isinstance(named, GraphQLObjectType | GraphQLInterfaceType | GraphQLUnionType):
            if not isinstance(field.type, GraphQLNonNull):
                found.setdefault(here, Place(here, "object"))
            _walk(named, each.selection_set, here, found, fragments)
        elif named.name in OUT_OF_RANGE and name != "number":
            found.setdefault(here, Place(here, named.name))


def _field(kind: Any, name: str) -> Any:
    """A field of a type, or of one that a union or an interface may stand for."""
    kinds = [kind] if hasattr(kind, "fields") else []
    if isinstance(kind, GraphQLUnionType | GraphQLInterfaceType):
        kinds += _schema().get_possible_types(kind)
    return next((each.fields[name] for each in kinds if name in each.fields), None)


def cases() -> Iterator[tuple[Place, str, bool]]:
    """Every place without the timeline; and with it, those that it adds, and the threads, whose state is read only then."""
    plain = places(timeline=False)
    added = [each for each in places(timeline=True) if each not in plain or each.path == ("reviewThreads",)]
    for timeline, some in ((False, plain), (True, added)):
        yield from ((place, fault, timeline) for place in some for fault in FAULTS.get(place.kind, ("out of range",)))


CASES = list(cases())


def rich(repository: Repository, review_sizes: list[int]) -> int:
    """One pull request that has something at every place; its number.

    Review comments are read with the reviews, or with the threads where there are many more reviews.
    """
    number = sorted(repository.pull_requests)[SIZE // 2]
    person = {"__typename": "User", "id": "U_p", "databaseId": 1, "login": "p", "avatarUrl": "a", "url": "u"}
    team = {**person, "__typename": "Team", "id": "T_t", "combinedSlug": "o/t", "slug": "t"}
    repository.change(number, **reviews(repository, number, review_sizes, 2), comments=comments(repository, number, 2))
    kept = repository.pull_requests[number]
    said = [each for review in kept["reviews"] for each in review["comments"]]
    made = commits(number, 2)
    for each in made:
        each["commit"]["author"]["user"] = person
    for each in (*said, *kept["comments"], *kept["reviews"]):
        each["author"] = person
    for each in (*said, *kept["reviews"]):
        each["commit"] = {"oid": "c" * 40}
    for each in said:
        each.update(
            originalCommit={"oid": "d" * 40}, replyTo={"fullDatabaseId": "1"}, position=1, line=1, originalLine=1
        )
    for each in kept["reviews"]:
        each["submittedAt"] = each["createdAt"]
    repository.change(
        number,
        commits=made,
        files=files(2),
        changedFiles=2,
        labels=[{"id": f"L_{each}", "name": each, "color": "ffffff"} for each in "ab"],
        assignees=[person],
        reviewRequests=[team, person],
        closingIssuesReferences=[{"number": 5}],
        author=person,
        mergedBy=person,
        mergeCommit={"oid": "e" * 40},
        milestone={"number": 1, "title": "m"},
        headRepository={"nameWithOwner": "o/fork"},
        state="MERGED",
        merged=True,
        closedAt=kept["createdAt"],
        mergedAt=kept["createdAt"],
        totalCommentsCount=2 + len(said),
        timelineItems=[
            {
                "__typename": event.type,
                "id": f"E_{event.kind}",
                "createdAt": kept["createdAt"],
                "actor": person,
                **{name: value for name, value in parts.items() if name in event.selects},
            }
            for event in EVENTS
            for parts in [{**_PARTS, "requestedReviewer": team, "assignee": person}]
        ],
    )
    return number


_PARTS = {"label": {"id": "L_a", "name": "a"}, "beforeCommit": {"oid": "a" * 40}, "afterCommit": {"oid": "b" * 40}}


WORLDS = {"reviews": [2, 1], "reviewThreads": [2, 1, 0, 0, 0]}


def world_of(place: Place) -> tuple[str, int]:
    """The pull requests that have something at a place. No event of a timeline has everything that an event may have."""
    field = place.path[3] if place.path[0] == TIMELINE and len(place.path) > 3 else ""
    return world(tuple(WORLDS.get(str(place.path[0]), WORLDS["reviews"])), field)


@cache
def world(review_sizes: tuple[int, ...], field: str | int) -> tuple[str, int]:
    """The pull requests as JSON, and the number of the one that GitHub does not give whole. Its first event has the field."""
    (repository,) = generate(5, {NAME: SIZE})
    number = rich(repository, list(review_sizes))
    events = repository.pull_requests[number]["timelineItems"]
    repository.change(number, timelineItems=sorted(events, key=lambda event: field not in event))
    return json.dumps(list(repository.pull_requests.values())), number


def altered(pull_requests: str) -> Altered:
    (repository,) = generate(5, {NAME: SIZE})
    repository.pull_requests = {each["number"]: each for each in json.loads(pull_requests)}
    for each in repository.pull_requests.values():
        connect(each)
    return Altered([repository], speed=50_000)


def play(node: Any, where: Sequence[Any], place: Place, fault: str) -> list[dict[str, Any]] | None:
    """Play a fault in one pull request of a reply, whose path is ``where``; the errors, or None if it was not asked for."""
    *way, last = place.path
    if last == "commentsLast":
        return None
    for step in way:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return None
    if not isinstance(node, dict) or node.get(last) is None:
        return None
    path = [*where, *place.path]
    if fault == "out of range":
        node[last] = OUT_OF_RANGE[place.kind]
        return []
    if fault == "a null node":
        if not node[last].get("nodes"):
            return None
        node[last]["nodes"][0] = None
        return []
    node[last] = None
    return [{**error, "path": path} for error in ERRORS[fault]]


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[str, bool], int]:
    """Requests of an undisturbed run, by its pull requests."""
    return {}


@pytest.mark.parametrize(("place", "fault", "timeline"), CASES, ids=lambda each: str(each))
def test_one_place_that_github_does_not_give_costs_that_place(
    db: Database, undisturbed: dict[tuple[str, bool], int], place: Place, fault: str, timeline: bool
) -> None:
    pull_requests, bad = world_of(place)
    if (pull_requests, timeline) not in undisturbed:
        undisturbed[pull_requests, timeline] = requests_of_an_undisturbed_run(db, pull_requests, timeline)
    played = [0]

    def alter(answer: Any, query: str, variables: Any) -> None:
        nodes = [(["node", "pullRequests", "nodes", i], each) for i, each in enumerate(listed_nodes(answer))]
        nodes += [(["node", alias], each) for alias, each in detailed(answer).items()]
        places = [(where, node, place) for where, node in nodes if node["number"] == bad]
        if place.path[2:3] and place.path[1] == "nodes" and "comments" in place.path[3:4]:
            # Asked for once more, review comments come below their review or thread.
            found = [
                (alias, each)
                for alias, each in (answer.get("data") or {}).items()
                if alias[0] == "n" and alias[1:].isdigit()
            ]
            places += [([alias], each, Place(place.path[3:], place.kind)) for alias, each in found]
        for where, node, wanted in places:
            errors = play(node, where, wanted, fault)
            if errors is not None:
                played[0] += 1
                answer["errors"] = [*answer.get("errors", []), *errors]

    with altered(pull_requests) as simulator:
        simulator.alter = alter
        stack = Stack(db, simulator)
        stack.add(NAME, timeline=timeline)
        days(stack, 3)
        state = stack.state()
        assert played[0], "the fault was never played"
        assert (state["status"], state["error_count"]) == ("completed", 0), state["last_error"]
        assert simulator.asked <= undisturbed[pull_requests, timeline] + MOST_MORE_REQUESTS
    if place.path[0] == "reviewThreads" and place.kind == "connection" and not timeline:
        # The reviews show the same comments: nothing is lost.
        return stack.assert_equals_github()
    (gap,) = db.rows("SELECT number, reason, error_code, error FROM pull_request_gaps")
    assert gap["number"] == bad and gap["error_code"] and gap["error"]
    if place.path == ("updatedAt",):
        # Nothing can be stored by a time of the last change that is not one.
        assert gap["reason"] in ("row missing", "failed")
        return
    assert gap["reason"] == "incomplete"
    row = db.one("SELECT body, incomplete FROM pull_requests WHERE number = :n", n=bad)
    assert row is not None and row["body"] is not None
    assert state["processed_prs"] == SIZE - 1


def requests_of_an_undisturbed_run(db: Database, pull_requests: str, timeline: bool) -> int:
    with altered(pull_requests) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME, timeline=timeline)
        days(stack, 3)
        stack.assert_equals_github()
        db.execute("DELETE FROM repositories")
        return simulator.asked
