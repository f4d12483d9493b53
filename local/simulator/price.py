"""What a query costs by GitHub's formula, how long GitHub works on it, and the rules that it must keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    BooleanValueNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)

CONNECTIONS = {
    "pullRequests", "labels", "assignees", "reviewRequests", "closingIssuesReferences", "comments", "reviews",
    "reviewThreads", "commits", "files", "timelineItems", "repositories",
}  # fmt: skip
MOST_NODES = 500_000
# Seconds of GitHub's time: per request, per pull request of a light listing, and per pull request with connections.
BASE_SECONDS, LISTED_SECONDS, DETAILED_SECONDS = 0.15, 0.006, 0.1
# GitHub gives up on a query after this.
QUERY_SECONDS = 10.0


class Refused(Exception):
    """GitHub's own error for a query that breaks a rule."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Price:
    """What a query costs by the formula, and what it touches.

    ``operation`` is its name; ``asked`` the pull requests that it names, ``read`` those of them that it begins to read
    (with the body, and no further pages), and ``detailed`` how many it asks for connections; ``listed`` how many its
    listings may return. ``by_id``: those of ``detailed`` that it names by node id.
    """

    operation: str = ""
    weight: int = 0
    nodes: int = 0
    asked: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    detailed: int = 0
    listed: int = 0
    by_id: set[int] = field(default_factory=set)
    number_of: Callable[[str], int | None] = field(default=lambda node_id: None, repr=False, compare=False)

    @property
    def points(self) -> int:
        return max(1, (self.weight + 50) // 100)

    @property
    def is_too_slow(self) -> bool:
        return self._work > QUERY_SECONDS

    @property
    def seconds(self) -> float:
        """What GitHub spends on it, answered or not."""
        return min(self._work, QUERY_SECONDS)

    @property
    def _work(self) -> float:
        light = self.listed + len(self.asked) - self.detailed
        return BASE_SECONDS + LISTED_SECONDS * light + DETAILED_SECONDS * self.detailed


def price_of(
    document: DocumentNode, variables: dict[str, Any], number_of: Callable[[str], int | None] = lambda node_id: None
) -> Price:
    """The price of a valid query; ``number_of`` a pull request by node id. Raises Refused where it breaks a rule of paging or
    size."""
    price = Price(number_of=number_of)
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            price.operation = definition.name.value if definition.name else ""
            _walk(definition.selection_set, 1, price, variables, fragments)
    if price.nodes > MOST_NODES:
        raise Refused(
            "MAX_NODE_LIMIT_EXCEEDED",
            f"This query requests up to {price.nodes} possible nodes, over the maximum of {MOST_NODES}.",
        )
    return price


def _walk(
    selections: SelectionSetNode | None,
    parents: int,
    price: Price,
    variables: dict[str, Any],
    fragments: dict[str, FragmentDefinitionNode],
) -> None:
    for field_node in _fields(selections, fragments):
        name = field_node.name.value
        arguments = {each.name.value: _value(each.value, variables) for each in field_node.arguments or ()}
        below = parents
        if name == "nodes" and "ids" in arguments:
            if len(arguments["ids"]) > 100:
                raise Refused("ARGUMENT_LIMIT", "You may not provide more than 100 node ids.")
            below = len(arguments["ids"])
            _walk_by_id(field_node, arguments["ids"], price, variables, fragments)
            continue
        elif name == "pullRequest" and isinstance(arguments.get("number"), int):
            price.asked.append(arguments["number"])
            below_it = list(_fields(field_node.selection_set, fragments))
            pages_on = any(each.name.value in ("after", "before") for one in below_it for each in one.arguments or ())
            if not pages_on and any(each.name.value == "body" for each in below_it):
                price.read.append(arguments["number"])
            before = price.weight
            _walk(field_node.selection_set, below, price, variables, fragments)
            price.detailed += price.weight > before
            continue
        elif name in CONNECTIONS and field_node.selection_set is not None:
            first = arguments.get("first", arguments.get("last"))
            asked = {each.name.value for each in _fields(field_node.selection_set, fragments)}
            if first is None:
                if asked & {"nodes", "edges", "pageInfo"}:
                    raise Refused(
                        "MISSING_PAGINATION_BOUNDARIES",
                        f"You must provide a `first` or `last` value to properly paginate the `{name}` connection.",
                    )
                continue
            if not 1 <= first <= 100:
                raise Refused(
                    "EXCESSIVE_PAGINATION",
                    f"Requesting {first} records on the `{name}` connection exceeds the `first` limit of 100 records.",
                )
            price.weight += parents
            below = parents * first
            price.nodes += below
            if name in ("pullRequests", "repositories"):
                price.listed += below
        _walk(field_node.selection_set, below, price, variables, fragments)


def _walk_by_id(
    field_node: FieldNode,
    node_ids: list[str],
    price: Price,
    variables: dict[str, Any],
    fragments: dict[str, FragmentDefinitionNode],
) -> None:
    """As many parents as node ids. Several fields may name one pull request, which GitHub reads once."""
    numbers = [number for number in map(price.number_of, node_ids) if number is not None]
    price.asked += [number for number in numbers if number not in price.asked]
    if any(each.name.value == "body" for each in _fields(field_node.selection_set, fragments)):
        price.read += [number for number in numbers if number not in price.read]
    before = price.weight
    _walk(field_node.selection_set, len(node_ids), price, variables, fragments)
    if price.weight > before:
        price.detailed += len(set(numbers) - price.by_id)
        price.by_id.update(numbers)


def _fields(selections: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode]) -> Iterator[FieldNode]:
    for selection in selections.selections if selections else ():
        if _is_skipped(selection):
            continue
        if isinstance(selection, FieldNode):
            yield selection
        elif isinstance(selection, InlineFragmentNode):
            yield from _fields(selection.selection_set, fragments)
        elif isinstance(selection, FragmentSpreadNode):
            yield from _fields(fragments[selection.name.value].selection_set, fragments)


def _is_skipped(selection: SelectionNode) -> bool:
    """``@skip(if: true)``: validated, and neither run nor charged."""
    return any(
        each.name.value == "skip" and isinstance(argument.value, BooleanValueNode) and argument.value.value
        for each in selection.directives or ()
        for argument in each.arguments or ()
    )


def _value(node: ValueNode, variables: dict[str, Any]) -> Any:
    if isinstance(node, VariableNode):
        return variables.get(node.name.value)
    if isinstance(node, IntValueNode):
        return int(node.value)
    return getattr(node, "value", None)
