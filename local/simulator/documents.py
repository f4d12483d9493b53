"""Documents from their texts: parsed and validated by graphql-core, each part once.

A query for pull requests repeats parts of earlier queries in other combinations. A document is valid without another
look if valid documents before it held its parts, and each two of its parts that stand side by side. No rule of
GraphQL's validation reaches farther, but for those that are checked here: unique names, fragments that are used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any, cast

from graphql import (
    DefinitionNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    parse,
    print_ast,
    validate,
)

MOST_DOCUMENTS, MOST_DEFINITIONS, MOST_FACTS = 400, 2000, 200_000
# Integers with fewer digits are inside GraphQL's Int.
INT_DIGITS = 9
_TOKEN = re.compile(r'"""|#|"(?:[^"\\\n]|\\.)*"|[{}]|\bfragment\b')
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(rf"(?<!\d)\d{{1,{INT_DIGITS}}}(?!\d)")
_SPREAD = re.compile(r"\.\.\.\s*(\w+)")

# Something that a valid document holds.
Fact = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Definition:
    """One definition, or a document that was not split, and the text that it was parsed from."""

    text: str
    nodes: Sequence[DefinitionNode]
    words: frozenset[str]


class Documents:
    """Asked by many threads at once: each step on the dictionaries is one operation, and a lost entry is made again."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._documents: dict[str, DocumentNode] = {}
        self._definitions: dict[str, _Definition] = {}
        # The same twice: as they were met, and by their patterns.
        self._facts: set[Fact] = set()
        self._patterns: set[Fact] = set()

    def of(self, text: str) -> DocumentNode:
        """The valid document. Raises GraphQLError."""
        found = self._documents.get(text)
        if found is not None:
            return found
        definitions = self._parsed(text)
        document = DocumentNode(definitions=tuple(node for each in definitions for node in each.nodes))
        facts = _facts(definitions)
        unknown = {each: _pattern(each) for each in facts - self._facts} if facts is not None else {}
        if facts is None or not self._patterns.issuperset(unknown.values()):
            problems = validate(self._schema, document)
            if problems:
                raise problems[0]
        if len(self._facts) > MOST_FACTS:
            self._facts.clear()
            self._patterns.clear()
        self._facts.update(unknown)
        self._patterns.update(unknown.values())
        _keep(self._documents, text, document, MOST_DOCUMENTS)
        return document

    def _parsed(self, text: str) -> list[_Definition]:
        try:
            return [self._definition(each) for each in _split(text)]
        except GraphQLError:
            # Split in a wrong place, or not GraphQL at all.
            return [_definition(text)]

    def _definition(self, text: str) -> _Definition:
        found = self._definitions.get(text)
        if found is None:
            found = _definition(text)
            if text.startswith("fragment"):
                _keep(self._definitions, text, found, MOST_DEFINITIONS)
        return found


def _keep(cache: dict[str, Any], text: str, value: Any, most: int) -> None:
    if len(cache) >= most:
        cache.clear()
    cache[text] = value


def _definition(text: str) -> _Definition:
    return _Definition(text, parse(text, no_location=True).definitions, frozenset(_WORD.findall(text)))


def _split(text: str) -> list[str]:
    """Before each fragment. If all pieces are GraphQL, they are the document."""
    places, depth = [0], 0
    for found in _TOKEN.finditer(text):
        word = found[0]
        if word in ('"""', "#"):
            return [text]
        if word == "fragment" and depth == 0 and found.start():
            places.append(found.start())
        depth += (word == "{") - (word == "}")
    return [text[begin:end].strip() for begin, end in zip(places, [*places[1:], len(text)], strict=True)]


def _facts(definitions: Sequence[_Definition]) -> set[Fact] | None:
    """What a document holds; None if that does not say whether it is valid."""
    if any(len(each.nodes) != 1 or "@" in each.text for each in definitions):
        return None
    operation, fragments = definitions[0].nodes[0], definitions[1:]
    if not isinstance(operation, OperationDefinitionNode):
        return None
    if any(not isinstance(each.nodes[0], FragmentDefinitionNode) or "$" in each.text for each in fragments):
        return None
    named = {cast(FragmentDefinitionNode, each.nodes[0]).name.value: each for each in fragments}
    members: list[_Member] = []
    rest = print_ast(replace(operation, selection_set=_without_members(operation.selection_set, (), members)))
    names = {each.name for each in members}
    if (
        len(named) != len(fragments)
        or len(names) != len(members)
        or rest.count("$") != definitions[0].text.count("$")
        or not names.isdisjoint(_WORD.findall(rest))
        or not all(each.words.isdisjoint(names) for each in fragments)
    ):
        return None
    try:
        below = {name: _below(name, named) for name in named}
        spread = [below[name] for name in _spreads(rest)]
        used = set().union(
            *spread, *(below[name] for member in members for part in member.parts for name in _spreads(part))
        )
    except KeyError:
        return None
    if used != {each.text for each in fragments}:
        return None
    facts: set[Fact] = {(rest, (), *spread)}
    for member in members:
        parts = sorted((text, *(below[name] for name in _spreads(text))) for text in member.parts)
        facts.update((rest, member.place, *two) for two in combinations_with_replacement(parts, 2))
    return facts


def _pattern(fact: Fact) -> Fact:
    """The fact for all numbers that are equal where its numbers are equal, and different where they are different.

    Which numbers they are decides nothing, in values and in names: GitHub's schema has no name with a digit.
    """
    rest, place, *parts = fact
    seen: dict[str, int] = {}
    text = _NUMBER.sub(lambda found: str(seen.setdefault(found[0], len(seen))), repr(parts))
    return rest, place, text


@dataclass(frozen=True, slots=True)
class _Member:
    """An aliased field with plain arguments. Where no other field of the document has its name, nothing but its own parts
    can be in conflict below it."""

    name: str
    # Where it stands, which field it is, and the kinds of its arguments.
    place: Fact
    parts: list[str]


def _without_members(selections: SelectionSetNode, path: tuple[int, ...], members: list[_Member]) -> SelectionSetNode:
    kept: list[SelectionNode] = []
    for each in selections.selections:
        if isinstance(each, FieldNode) and each.alias and each.selection_set and _is_plain(each):
            kinds = tuple((one.name.value, one.value.kind) for one in each.arguments or ())
            parts = [print_ast(part) for part in each.selection_set.selections]
            members.append(_Member(each.alias.value, (path, each.name.value, kinds), parts))
            continue
        if isinstance(each, FieldNode | InlineFragmentNode) and each.selection_set:
            kept.append(replace(each, selection_set=_without_members(each.selection_set, (*path, len(kept)), members)))
        else:
            kept.append(each)
    return replace(selections, selections=tuple(kept))


def _is_plain(field: FieldNode) -> bool:
    return all(
        isinstance(each.value, StringValueNode)
        or (isinstance(each.value, IntValueNode) and len(each.value.value) <= INT_DIGITS)
        for each in field.arguments or ()
    )


def _spreads(text: str) -> list[str]:
    text = _STRING.sub("", text) if '"' in text else text
    return [name for name in _SPREAD.findall(text) if name != "on"]


def _below(name: str, named: dict[str, _Definition]) -> tuple[str, ...]:
    """The texts of a fragment and of all that it uses. Raises KeyError for one that is not there."""
    found, waiting = {name: None}, [name]
    while waiting:
        for each in _spreads(named[waiting.pop()].text):
            if each not in found:
                found[each] = None
                waiting.append(each)
    return tuple(named[each].text for each in found)
