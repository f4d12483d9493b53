"""Tasks: what is asked of one pull request in one request; and requests, which hold as many tasks as fit."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from backfill.github import documents, packing
from backfill.github.detail_query import DetailQuery
from backfill.github.grouping import Group, grouped
from backfill.github.packing import Part
from backfill.github.records import Node

# The shortest page that a connection is asked for when GitHub cannot give longer ones (documents round up to it).
SHORTEST_PAGE = 10


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of one pull request in one request, ``rounds`` of them one after the other.

    ``after`` and ``before`` go on with a connection. Its first ``offset`` nodes were read from the front, and ``taken``
    nodes from the far end, where it ``meets`` the front. ``node_id`` goes on with the review comments of one review or
    thread.
    """

    number: int
    parts: tuple[Part, ...] = ()
    after: str | None = None
    before: str | None = None
    offset: int = 0
    taken: int = 0
    meets: Node | None = None
    page: int = packing.PAGE
    rounds: int = 1
    node_id: str | None = None
    parent: str = ""
    tries: int = 0
    begun: int = 0
    # It failed on its own: it is asked for alone, after all others.
    suspect: bool = False
    # Asked once more, because something in the reply had no reason. What lacks in the next reply is a flaw.
    confirms: bool = False
    # Its node id did not show it.
    by_number: bool = False

    @property
    def can_be_grouped(self) -> bool:
        """Whether it begins a pull request, from the front of everything."""
        goes_on = self.node_id or self.after or self.before or any(part.last for part in self.parts)
        return self.rounds == 1 and not (goes_on or self.confirms or self.by_number)

    @property
    def weight(self) -> int:
        """Its share of the cost formula's sum."""
        return 1 if self.node_id else sum(part.weight for part in self.parts)

    @property
    def places(self) -> list[str]:
        """The connections that it asks for."""
        return [f"{self.parent}.comments"] if self.node_id else [part.connection for part in self.parts]

    def goes_on_after(self, cursor: str | None) -> bool:
        """Whether a cursor of the reply leads further than the one that was asked with."""
        return bool(cursor) and cursor != self.after

    def confirmation(self) -> Task:
        """The same once more, to confirm what a reply lacked."""
        return replace(self, suspect=True, confirms=True)

    def alone(self, part: Part) -> Task:
        """The same for one connection, to confirm what a reply lacked."""
        return replace(self, parts=(part,), suspect=True, confirms=True, tries=0)

    def below(self, connection: str, node_id: str) -> Task:
        """The review comments of one review or thread."""
        task = Task(self.number, node_id=node_id, parent=connection, begun=self.begun)
        return replace(task, suspect=self.suspect, by_number=self.by_number)

    def smaller(self) -> list[Task] | None:
        """The same in smaller requests: fewer connections, then shorter pages. None if it is as small as it gets."""
        if self.node_id:
            return [replace(self, page=self.page // 2, tries=0)] if self.page > SHORTEST_PAGE else None
        if len(self.parts) > 1:
            half = len(self.parts) // 2
            return [replace(self, parts=parts, tries=0) for parts in (self.parts[:half], self.parts[half:])]
        if not self.parts:
            return None
        (part,) = self.parts
        if part.last:
            part = replace(part, last=0)
        elif part.first > SHORTEST_PAGE:
            part = replace(part, first=part.first // 2)
        elif part.nested and part.nested > SHORTEST_PAGE:
            part = replace(part, nested=part.nested // 2)
        else:
            return None
        return [replace(self, parts=(part,), page=part.first, tries=0)]


@dataclass(frozen=True, slots=True)
class Request:
    """Tasks, the document that asks for them, and its weight. ``groups`` by alias: fields that ask for several tasks."""

    tasks: list[Task]
    text: str
    variables: Mapping[str, object]
    weight: int
    groups: Mapping[str, Group] = field(default_factory=dict)

    @property
    def fields(self) -> int:
        """Pull requests and further pages that it names, a group as one."""
        together = {place for group in self.groups.values() for place in group.members}
        return len(self.tasks) - len(together) + len(self.groups)


def fitting(
    tasks: list[Task], node_ids: Mapping[int, str | None], withheld: Container[str]
) -> tuple[Request, list[Task]]:
    """A request for as many of the tasks as one document may hold, and the others. ``node_ids`` by number."""
    most, chosen = documents.most_fields(withheld), tasks
    if most is not None and len(tasks) > most:
        together = [task for task in tasks if task.can_be_grouped and node_ids[task.number]]
        alone = [task for task in tasks if not (task.can_be_grouped and node_ids[task.number])]
        # Those that each need a field of their own leave half of the fields to the others.
        chosen = alone[: most // 2 if together else most] + together
    while True:
        request = _request(chosen, node_ids, withheld)
        size = len(request.text.encode())
        if size < documents.MOST_BYTES or len(chosen) == 1:
            sent = set(map(id, chosen))
            return request, [task for task in tasks if id(task) not in sent]
        chosen = chosen[: min(len(chosen) - 1, len(chosen) * documents.MOST_BYTES // size)]


def _request(tasks: list[Task], node_ids: Mapping[int, str | None], withheld: Container[str]) -> Request:
    """The document for these tasks."""
    query, weight, groups = DetailQuery(withheld), 0, dict[str, Group]()
    most = documents.most_fields(withheld)
    ids = {
        index: node_id for index, task in enumerate(tasks) if task.can_be_grouped and (node_id := node_ids[task.number])
    }
    if most is not None and len(tasks) > most and ids:
        fields = grouped({index: tasks[index].parts for index in ids}, most - (len(tasks) - len(ids)))
        groups = {f"g{index}": group for index, group in enumerate(fields)}
    for alias, group in groups.items():
        asked = " ".join(query.connection(part) for part in group.parts.values())
        fields_asked = f"...pullRequest {asked}" if group.is_base else asked
        query.group(alias, [ids[index] for index in group.members], fields_asked)
        weight += group.weight
    for index, task in enumerate(tasks):
        if groups and index in ids:
            continue
        weight += task.weight
        if task.node_id:
            query.more_review_comments(f"n{index}", task.node_id, task.parent, (task.page, task.after))
        else:
            asked_of_it = [query.connection(part, task.after, task.before) for part in task.parts]
            query.whole(f"p{index}", task.number, asked_of_it)
    return Request(tasks, query.text(), query.variables, weight, groups)
