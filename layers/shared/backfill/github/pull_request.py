"""One pull request while it is read: replies become rows, flaws and the next tasks.

Nothing of a pull request is used before all of it is there. A place that GitHub does not give is confirmed by one more
request for that place alone. Then it is a flaw, and the pull request is incomplete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from backfill.error_codes import ErrorCode
from backfill.github import flaws, packing, records
from backfill.github.ends import Ends
from backfill.github.errors import MALFORMED
from backfill.github.flaws import LONGEST_REASON, Flaw
from backfill.github.packing import Part
from backfill.github.records import Listed, Node, Row, Tables
from backfill.github.refusals import Path, Refusal, below
from backfill.github.tasks import Task

# A pull request that changes while it is read is begun again this often.
RESTARTS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says to one task: its node, or why there is none. ``refused`` by the paths below the node."""

    node: Node | None
    is_missing: bool
    refused: Mapping[Path, Refusal]


class PullRequestReading:
    """One pull request while it is read. ``failure``, or ``is_gone``: nothing of it can be read, and its tasks end.

    ``begun`` numbers its readings. A reading that begins again drops the tasks of the one before.
    """

    def __init__(self, listed: Listed) -> None:
        self.number: int = listed["number"]
        self.row: Row | None = None
        self.flaws: dict[str, Flaw] = {}
        self.failure: Refusal | None = None
        # Whether the failure is GitHub's word about this pull request.
        self.is_refused = False
        self.is_gone = False
        # Requests about it alone that failed.
        self.failures = 0
        # Tasks that are not done.
        self.open_tasks = 0
        self.begun = 0
        self._listed = listed
        self._reads_timeline = bool(listed.get(packing.COUNTS[packing.TIMELINE]))
        self._tables: Tables = {}
        self._restarts = 0
        self._threads = True
        # Connections that are read from the front alone, because GitHub's count of them is wrong.
        self._one_sided: set[str] = set()

    @property
    def node_id(self) -> str | None:
        """By the listing, or by its own last reply."""
        return self._listed.get("node_id")

    def begin(self) -> list[Task]:
        """Drop what was read, and read it from the front of everything."""
        self.row, self._tables, self.flaws, self.open_tasks = None, {}, {}, 1
        self.begun += 1
        parts = packing.parts_of(self._listed, threads=self._threads)
        parts = tuple(replace(part, last=0) if part.connection in self._one_sided else part for part in parts)
        return [Task(self.number, parts, rounds=packing.load_of(self._listed).rounds, begun=self.begun)]

    def is_wanted(self, task: Task) -> bool:
        """Whether a task is of the present reading, and that one is not settled."""
        return task.begun == self.begun and self.failure is None and not self.is_gone

    def take(self, task: Task, answer: Answer) -> list[Task]:
        """Take the rows of one task; what is still to be read of the pull request."""
        if not self.is_wanted(task):
            return []
        following = self._further_comments(task, answer) if task.node_id else self._pull_request(task, answer)
        if not self.is_wanted(task):
            return following
        self.open_tasks += len(following) - 1
        if self.open_tasks == 0 and self._lacks_review_comments():
            self._threads = False
            return self.begin()
        return following

    def lacks(self, flaw: Flaw) -> None:
        """Note a flaw. The first of a place stays."""
        self.flaws.setdefault(flaw.place, replace(flaw, reason=flaw.reason[:LONGEST_REASON]))

    def fail(self, code: str, reason: str) -> None:
        """Nothing of the pull request can be read."""
        self.failure = Refusal(code, reason[:LONGEST_REASON])

    def finish(self) -> Tables:
        """The rows by table, with what they lack; none where nothing can be stored."""
        if self.row is None or self.failure is not None or self.is_gone:
            return {}
        tables = {"pull_requests": [self.row], **self._tables}
        for table, rows in tables.items():
            for column in {column for row in rows for column in records.fit(row)}:
                place = column if table == "pull_requests" else f"{table}.{column}"
                reason = f"{place} holds a value that Postgres cannot store"
                self.lacks(Flaw(place, ErrorCode.IMPOSSIBLE_VALUE, reason))
        if self.row["updated_at"] is None:
            self.fail(ErrorCode.IMPOSSIBLE_VALUE, "GitHub gives no time of the last change that is a time")
            return {}
        self.row["timeline_updated_at"] = self.row["updated_at"] if self._reads_timeline else None
        self.row["incomplete"] = [flaw.as_json() for flaw in self.flaws.values()] or None
        return tables

    def _further_comments(self, task: Task, answer: Answer) -> list[Task]:
        """The next page of the review comments of one review or thread."""
        if answer.node:
            return self._nested(task, answer.node, answer.refused)
        if answer.is_missing:
            return self._restart("a review vanished while it was read")
        (place,) = task.places
        refusal = next(iter(answer.refused.values()), None)
        if (refusal is None or not refusal.is_definite) and not task.confirms:
            return [task.confirmation()]
        self.lacks(Flaw.of(place, refusal or Refusal(ErrorCode.NULL, "GitHub gives null in place of a review")))
        return []

    def _pull_request(self, task: Task, answer: Answer) -> list[Task]:
        """A pull request's own fields, and one page of each connection that was asked for."""
        if answer.node is None:
            return self._absent(task, answer)
        try:
            row = records.detailed(self._tables, answer.node)
        except MALFORMED as error:
            return self._doubt_all(task, f"the pull request has an unknown form: {type(error).__name__}: {error}")
        has_changed = self.row is not None and self.row["updated_at"] != row["updated_at"]
        self.row = row
        if has_changed:
            return self._restart("the pull request changes faster than it can be read")
        if self._grew(row):
            return self._restart("the pull request grows faster than it can be read")
        asked = {name for part in task.parts for name in (part.connection, f"{part.connection}Last")}
        for path, refusal in answer.refused.items():
            if path[0] not in asked:
                self.lacks(Flaw.of(flaws.place_of(path), refusal))
        following: list[Task] = []
        for part in task.parts:
            following += self._connection(task, part, answer.node, answer.refused)
            if self.begun != task.begun:
                break
        return following

    def _absent(self, task: Task, answer: Answer) -> list[Task]:
        """GitHub gives null for the pull request."""
        refusal = answer.refused.get(())
        if answer.is_missing:
            self.is_gone = True
        elif refusal is not None and refusal.is_definite:
            self._refuse(refusal)
        else:
            return self._doubt_all(task, refusal.reason if refusal else "GitHub gave null for it without a reason")
        return []

    def _connection(self, task: Task, part: Part, node: Node, refused: Mapping[Path, Refusal]) -> list[Task]:
        """One page, or two from both ends: the rows, what lies between, and the next pages below the nodes."""
        name = part.connection
        pages = [(alias, node.get(alias)) for alias in (name, f"{name}Last") if alias == name or part.last]
        found = [flaw for alias, page in pages for flaw in flaws.of_page(name, page, below(refused, (alias,)))]
        front, back = pages[0][1], pages[-1][1] if part.last else None
        if front is not None and not found and not task.taken and not part.last:
            found = flaws.of_end(name, front, task)
        if not task.confirms and any(not flaw.is_definite for flaw in found):
            return [task.alone(part)]
        for flaw in found:
            self.lacks(flaw)
        if front is None:
            return []
        ends = Ends.of(task, front, back)
        if ends.is_miscounted:
            self._one_sided.add(name)
            return self._restart(f"GitHub's count of {name} is wrong")
        following = self._rows(task, part, (ends.front, task.offset), refused)
        following += self._rows(task, part, (ends.back, ends.total - ends.taken), refused)
        if ends.after is not None:
            following.append(ends.rest(task, part, from_front=name in self._one_sided))
        return following

    def _rows(
        self, task: Task, part: Part, page: tuple[Sequence[Node | None], int], refused: Mapping[Path, Refusal]
    ) -> list[Task]:
        """Nodes as rows, the first of them at the page's offset; and the next pages below them."""
        (nodes, offset), name = page, part.connection
        following: list[Task] = []
        for index, node in enumerate(nodes):
            if node is None:
                continue
            try:
                records.child(self._tables, self.number, name, (node, offset + index))
                if part.nested:
                    refused_below = below(refused, (name, "nodes", index))
                    following += self._nested(task.below(name, node["id"]), node, refused_below)
            except MALFORMED as error:
                text = f"a node has an unknown form: {type(error).__name__}: {error}"
                self.lacks(Flaw(name, ErrorCode.UNEXPLAINED, text))
        return following

    def _nested(self, task: Task, node: Node, refused: Mapping[Path, Refusal]) -> list[Task]:
        """One page of the review comments of a review or thread. ``task`` asks for the page, or would ask for it again."""
        comments, (place,) = node["comments"], task.places
        found = flaws.of_page(place, comments, below(refused, ("comments",)))
        if comments is not None and not found:
            found = flaws.of_end(place, comments, task)
        if not task.confirms and any(not flaw.is_definite for flaw in found):
            return [task.confirmation()]
        for flaw in found:
            self.lacks(flaw)
        if comments is None:
            return []
        for comment in comments["nodes"]:
            if comment is not None:
                records.review_comment(self._tables, self.number, comment)
        cursor = comments["pageInfo"]["endCursor"]
        if comments["pageInfo"]["hasNextPage"] and task.goes_on_after(cursor):
            offset = task.offset + len(comments["nodes"])
            return [replace(task, after=cursor, offset=offset, suspect=False, confirms=False, tries=0)]
        return []

    def _doubt_all(self, task: Task, reason: str) -> list[Task]:
        """Nothing of a reply can be used, without a reason: ask once more, alone. Then the pull request has failed."""
        if not task.confirms:
            return [task.confirmation()]
        self._refuse(Refusal(ErrorCode.UNEXPLAINED, reason))
        return []

    def _refuse(self, refusal: Refusal) -> None:
        self.fail(refusal.code, refusal.reason)
        self.is_refused = True

    def _grew(self, row: Row) -> bool:
        """Whether something that was empty at listing is not any more, so that it was not asked for."""
        asked = {part.connection for part in packing.parts_of(self._listed, threads=self._threads)}
        needed = {part.connection for part in packing.parts_of(row, threads=self._threads)}
        return not needed - {"reviewThreads"} <= asked or (
            packing.review_comments(row) > 0 and packing.review_comments(self._listed) == 0
        )

    def _lacks_review_comments(self) -> bool:
        """Whether threads showed fewer review comments than GitHub counts. The reviews show them all."""
        if self.row is None or not self._threads or self._listed["review_threads_count"] == 0:
            return False
        stored = {row["node_id"] for row in self._tables.get("comments", ()) if row["kind"] == "review_comment"}
        return len(stored) < packing.review_comments(self.row)

    def _restart(self, reason: str) -> list[Task]:
        if self._restarts >= RESTARTS:
            self.fail(ErrorCode.MOVING, reason)
            return []
        self._restarts += 1
        if self.row is not None:
            self._listed = packing.with_timeline(self.row, self._reads_timeline)
        return self.begin()
