"""GitHub validates a document before it runs it, within a time limit of its own: the shape of the text matters.

GitHub's limit is not published. Here it is a number of aliases, or of selections with fragments expanded.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)


class ValidationTimeout(Exception):
    """In GitHub's words, without a type."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The most aliased pull requests, nodes and lists of nodes, and the most selections, that a document may hold."""

    aliases: int | None = None
    selections: int | None = None

    def check(self, document: DocumentNode) -> None:
        """Raises ValidationTimeout for more."""
        fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
        operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        aliases = selections = 0
        waiting: list[SelectionSetNode | None] = [each.selection_set for each in operations]
        while waiting:
            found = waiting.pop()
            for each in found.selections if found else ():
                if isinstance(each, FragmentSpreadNode):
                    waiting.append(fragments[each.name.value].selection_set)
                    continue
                selections += 1
                if (
                    isinstance(each, FieldNode)
                    and each.alias
                    and each.name.value in ("pullRequest", "node", "nodes", "repository")
                ):
                    aliases += 1
                if isinstance(each, FieldNode | InlineFragmentNode):
                    waiting.append(each.selection_set)
        if (self.aliases is not None and aliases > self.aliases) or (
            self.selections is not None and selections > self.selections
        ):
            raise ValidationTimeout("Timeout on validation of query")
