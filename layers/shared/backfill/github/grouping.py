"""Few fields for many pull requests: what a document asks of several is asked by node id, once for all of them.

GitHub validates a document before it runs it, within a time limit of its own. Where that refuses a field for each pull request,
a field for each connection does the same: ``nodes(ids: [those that have comments]) { comments(first: 10) … }``. Each pull request
is then asked for in several fields. The reply is put together as if each had been asked for by its number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from backfill.github.packing import Part
from backfill.github.records import Node
from backfill.github.refusals import below
from backfill.github.replies import Reply

# What a group is asked for besides connections: the pull requests' own fields.
OWN = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One field of a document: ``parts`` of all its members. ``wanted`` is what it is there for: places in the request, each with
    the name of a connection or OWN. A part that is larger than wanted, or not wanted of a member, came by joining."""

    wanted: frozenset[tuple[int, str]]
    parts: Mapping[str, Part]

    @property
    def members(self) -> list[int]:
        """Places in the request, in the order in which their node ids are sent."""
        return sorted({place for place, _ in self.wanted})

    @property
    def is_base(self) -> bool:
        """Whether it asks for the pull requests' own fields."""
        return any(name == OWN for _, name in self.wanted)

    @property
    def weight(self) -> int:
        """Its share of the cost formula's sum."""
        return len(self.members) * sum(part.weight for part in self.parts.values())

    def __or__(self, other: Group) -> Group:
        parts = dict(self.parts)
        for name, part in other.parts.items():
            parts[name] = _joined(parts[name], part) if name in parts else part
        return Group(self.wanted | other.wanted, parts)


def grouped(asked: Mapping[int, Sequence[Part]], most: int) -> list[Group]:
    """The fields that ask all of this, ``most`` of them at the most, for the least weight.

    One for each connection asks nobody for what it lacks. Where that is too many, those two are joined that cost the least.
    """
    exact: dict[tuple[str, int], Group] = {}
    for member, parts in asked.items():
        for part in parts:
            # Only where nodes have connections of their own does the size of a page cost points.
            key = part.connection, part.first if part.nested else 0
            one = Group(frozenset({(member, part.connection)}), {part.connection: part})
            exact[key] = exact[key] | one if key in exact else one
    groups = [Group(frozenset((member, OWN) for member in asked), {}), *exact.values()]
    while len(groups) > most:
        first, second = min(combinations(groups, 2), key=_price_of_joining)
        groups = [first | second, *(each for each in groups if each is not first and each is not second)]
    return groups


def by_number(reply: Reply, groups: Mapping[str, Group], numbers: Mapping[int, int]) -> tuple[Reply, Collection[int]]:
    """The reply as if each pull request had been asked for by number, as ``p0``, ``p1`` …; and the places of those that must be.

    ``reply`` holds the repository's node; ``groups`` are by alias, ``numbers`` by place in the request. What a node id does not
    show may have another one by now: only its number says whether GitHub has it.
    """
    found: dict[int, Node] = {place: {} for place in numbers}
    lacking: set[int] = set()
    refused = {path: refusal for path, refusal in reply.refused.items() if path[0] not in groups}
    for alias, group in groups.items():
        members, nodes = group.members, reply.data.get(alias)
        if not isinstance(nodes, list) or len(nodes) != len(members):
            nodes = [None] * len(members)
        for place, node in zip(members, nodes, strict=True):
            if not node or (group.is_base and node.get("number") != numbers[place]):
                lacking.add(place)
                continue
            found[place].update({name: value for name, value in node.items() if _is_wanted(group, place, name)})
        for path, refusal in below(reply.refused, (alias,)).items():
            if len(path) > 1 and isinstance(path[0], int) and _is_wanted(group, members[path[0]], path[1]):
                refused["node", f"p{members[path[0]]}", *path[1:]] = refusal
    whole = {f"p{place}": node for place, node in found.items() if place not in lacking}
    missing = frozenset(path for path in reply.missing if path[0] not in groups)
    data = {**reply.data, "node": {**reply.data["node"], **whole}}
    return replace(reply, data=data, missing=missing, refused=refused), lacking


def _is_wanted(group: Group, place: int, name: str | int) -> bool:
    """Whether a field of a pull request is to be taken from this group."""
    return (place, name if name in group.parts else OWN) in group.wanted


def _price_of_joining(pair: tuple[Group, Group]) -> int:
    first, second = pair
    return (first | second).weight - first.weight - second.weight


def _joined(first: Part, second: Part) -> Part:
    nested = max(first.nested or 0, second.nested or 0) or None
    return Part(first.connection, max(first.first, second.first), nested)
