"""Queries over dictionaries, a tenth of the work of graphql-core's `execute`, with the same answers.

It takes valid queries whose values are what the schema says. For everything else it raises Unusual, and graphql-core
executes the query from its beginning: errors, nulls that spread, directives and values to convert are decided there only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)
from graphql.execution.values import get_argument_values, get_variable_values

# Whole numbers of GraphQL's Int.
MOST, LEAST = 2**31 - 1, -(2**31)
# Fields that an object answers from its type, and the executor of no schema needs a value for.
TYPENAME = "__typename"
# The field that GitHub may show in another form than it was stored.
ID = "id"

Complete = Callable[[Any], Any]
# A field of an object: its key in the answer, its name, its arguments, and what makes its value that of the answer.
Step = tuple[str, str, dict[str, Any], Complete]


class Unusual(Exception):
    """Not for this executor: graphql-core decides."""


def answer_of(
    schema: GraphQLSchema,
    document: DocumentNode,
    root: Mapping[str, Any],
    variables: Any,
    shown_id: Callable[[str], str],
) -> dict[str, Any]:
    """The data of a valid query, each node id as ``shown_id`` gives it. Raises Unusual."""
    query = schema.query_type
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if query is None or len(operations) != 1 or operations[0].operation is not OperationType.QUERY:
        raise Unusual("not one query")
    coerced = get_variable_values(schema, operations[0].variable_definitions or (), variables)
    if isinstance(coerced, list):
        raise Unusual("variables")
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    answer: dict[str, Any] = _Execution(schema, fragments, coerced, shown_id).of(query, (operations[0].selection_set,))(
        root
    )
    return answer


class _Execution:
    """One request. Selections are planned once for each type of object that they meet."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: dict[str, FragmentDefinitionNode],
        variables: Any,
        shown_id: Callable[[str], str],
    ) -> None:
        self._schema, self._fragments, self._variables, self._shown_id = schema, fragments, variables, shown_id
        self._known: dict[tuple[str, tuple[int, ...]], Complete] = {}
        self._known_steps: dict[tuple[str, int], Step] = {}

    def of(self, kind: GraphQLObjectType, selections: tuple[SelectionSetNode, ...]) -> Complete:
        """What makes an object of this type the answer's."""
        key = (kind.name, tuple(map(id, selections)))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _object(self._steps(kind, selections))
        return found

    def _steps(self, kind: GraphQLObjectType, selections: tuple[SelectionSetNode, ...]) -> list[Step]:
        fields: dict[str, list[FieldNode]] = {}
        seen: set[str] = set()
        for each in selections:
            self._collect(kind, each, fields, seen)
        return [self._known_step(kind, key, nodes) for key, nodes in fields.items()]

    def _known_step(self, kind: GraphQLObjectType, key: str, nodes: list[FieldNode]) -> Step:
        """Fields of a fragment that stands in many places are planned once."""
        if len(nodes) > 1:
            return self._step(kind, key, nodes)
        place = (kind.name, id(nodes[0]))
        found = self._known_steps.get(place)
        if found is None:
            found = self._known_steps[place] = self._step(kind, key, nodes)
        return found

    def _collect(
        self, kind: GraphQLObjectType, selections: SelectionSetNode, fields: dict[str, list[FieldNode]], seen: set[str]
    ) -> None:
        """The fields that hold for this type of object, by their keys in the answer."""
        for each in selections.selections:
            if each.directives:
                raise Unusual("a directive")
            if isinstance(each, FieldNode):
                fields.setdefault(each.alias.value if each.alias else each.name.value, []).append(each)
                continue
            if isinstance(each, FragmentSpreadNode):
                if each.name.value in seen:
                    continue
                seen.add(each.name.value)
                part: Any = self._fragments[each.name.value]
            else:
                part = each
            if part.type_condition is None or self._holds(part.type_condition.name.value, kind):
                self._collect(kind, part.selection_set, fields, seen)

    def _holds(self, condition: str, kind: GraphQLObjectType) -> bool:
        if condition == kind.name:
            return True
        wanted = self._schema.type_map[condition]
        return isinstance(wanted, GraphQLInterfaceType | GraphQLUnionType) and self._schema.is_sub_type(wanted, kind)

    def _step(self, kind: GraphQLObjectType, key: str, nodes: list[FieldNode]) -> Step:
        name = nodes[0].name.value
        if name == TYPENAME:
            return key, name, {}, _constant(kind.name)
        if name == ID:
            return key, name, {}, lambda value: self._shown_id(_text(value))
        field: GraphQLField | None = kind.fields.get(name)
        if field is None:
            raise Unusual(f"{kind.name}.{name}")
        arguments = get_argument_values(field, nodes[0], self._variables) if field.args else {}
        below = tuple(each.selection_set for each in nodes if each.selection_set is not None)
        return key, name, arguments, self._completed(field.type, below)

    def _completed(self, kind: GraphQLOutputType, below: tuple[SelectionSetNode, ...]) -> Complete:
        if isinstance(kind, GraphQLNonNull):
            return self._present(kind.of_type, below)
        present = self._present(kind, below)
        return lambda value: None if value is None else present(value)

    def _present(self, kind: Any, below: tuple[SelectionSetNode, ...]) -> Complete:
        """For values that are not null: null is Unusual for them all."""
        if isinstance(kind, GraphQLList):
            return _list(self._completed(kind.of_type, below))
        if isinstance(kind, GraphQLObjectType):
            planned: list[Complete] = []

            def complete(value: Any) -> Any:
                # Planned when it is met: GraphQL's types go in circles, selections do not.
                if not planned:
                    planned.append(self.of(kind, below))
                return planned[0](value)

            return complete
        if isinstance(kind, GraphQLInterfaceType | GraphQLUnionType):
            return self._abstract(kind, below)
        if isinstance(kind, GraphQLEnumType):
            return _one_of(frozenset(kind.values))
        return _LEAVES.get(kind.name, _any)

    def _abstract(self, kind: GraphQLAbstractType, below: tuple[SelectionSetNode, ...]) -> Complete:
        possible = {each.name: each for each in self._schema.get_possible_types(kind)}

        def complete(value: Any) -> Any:
            found = possible.get(str(value.get(TYPENAME))) if isinstance(value, dict) else None
            if found is None:
                raise Unusual(f"no {kind.name}")
            return self.of(found, below)(value)

        return complete


def _object(steps: list[Step]) -> Complete:
    def complete(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unusual("no object")
        answer = {}
        for key, name, arguments, completed in steps:
            found = value.get(name)
            if callable(found):
                found = found(None, **arguments)
            answer[key] = completed(found)
        return answer

    return complete


def _list(completed: Complete) -> Complete:
    def complete(value: Any) -> Any:
        if not isinstance(value, list):
            raise Unusual("no list")
        return [completed(each) for each in value]

    return complete


def _constant(text: str) -> Complete:
    return lambda _: text


def _one_of(names: frozenset[str]) -> Complete:
    def complete(value: Any) -> Any:
        if value not in names:
            raise Unusual("no value of the enum")
        return value

    return complete


def _text(value: Any) -> Any:
    if type(value) is not str:
        raise Unusual("no text")
    return value


def _boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise Unusual("no boolean")
    return value


def _whole_number(value: Any) -> Any:
    if type(value) is not int or not LEAST <= value <= MOST:
        raise Unusual("no Int")
    return value


def _any(value: Any) -> Any:
    """A scalar of the schema's own: as it is."""
    if value is None:
        raise Unusual("null")
    return value


_LEAVES: dict[str, Complete] = {"String": _text, "ID": _text, "Boolean": _boolean, "Int": _whole_number}
