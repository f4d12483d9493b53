"""The two ends of a connection: a long one is read from the front and from the far end at once, until they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backfill.github import packing
from backfill.github.packing import Part
from backfill.github.records import Node
from backfill.github.tasks import Task


@dataclass(frozen=True, slots=True)
class Ends:
    """What a reply shows of a connection: new nodes from the ``front`` and from the ``back``, the far end.

    ``read`` and ``taken``: nodes of the front and of the far end, of all replies. ``meets``: the first node of the far end.
    ``after`` and ``before``: the cursors between which more lies; ``after`` is None where nothing does.
    """

    front: Sequence[Node | None]
    back: Sequence[Node | None]
    total: int
    read: int
    taken: int
    meets: Node | None
    after: str | None
    before: str | None

    @classmethod
    def of(cls, task: Task, front: Node, back: Node | None) -> Ends:
        """``front`` and ``back`` are pages of the connection. Two ends have met when the front shows the first of the far end."""
        nodes, end = front["nodes"], back["nodes"] if back is not None else []
        meets, cursor = end[0] if end else task.meets, front["pageInfo"]["endCursor"]
        has_met = meets is not None and meets in nodes
        # GitHub's hasNextPage ends the reading, not its count (commits stop at 250).
        is_over = not front["pageInfo"]["hasNextPage"] or not task.goes_on_after(cursor) or has_met
        return cls(
            front=nodes[: nodes.index(meets)] if has_met else nodes,
            back=end,
            total=front["totalCount"],
            read=task.offset + len(nodes),
            taken=task.taken + len(end),
            meets=meets,
            after=None if is_over else cursor,
            before=back["pageInfo"]["startCursor"] if back is not None and end and not is_over else task.before,
        )

    @property
    def left(self) -> int:
        """Nodes between the ends, by GitHub's count."""
        return self.total - self.read - self.taken

    @property
    def is_miscounted(self) -> bool:
        """Whether the ends should have met and did not."""
        return self.after is not None and self.taken > 0 and self.left < 0

    def rest(self, task: Task, part: Part, *, from_front: bool) -> Task:
        """The next request between the ends."""
        # One more than is left: the front must meet the far end.
        wanted = self.left + 1 if self.taken else max(1, self.left)
        rest = packing.page_of(part.connection, self.total, wanted, part.nested, task.page)
        return Task(
            task.number,
            (replace(rest, last=0) if from_front else rest,),
            after=self.after,
            before=self.before,
            offset=self.read,
            taken=self.taken,
            meets=self.meets,
            page=task.page,
            rounds=packing.rounds_of(part.connection, self.total, wanted),
            begun=task.begun,
        )
