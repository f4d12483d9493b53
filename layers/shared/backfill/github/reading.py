"""The requests that read one chunk: tasks are packed into requests, what fails is made smaller, down to one connection.

Nothing of a pull request is used before all of it is there. A place that GitHub cannot give, confirmed by one more request for
that place alone, is a Flaw: the pull request is read without it, and is incomplete.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from backfill.errors import BackfillError, Permanent, Retryable
from backfill.github import cost, documents, packing, records
from backfill.github.errors import (
    MALFORMED,
    BrokenOff,
    InvalidQuery,
    OutOfMemory,
    OutOfTime,
    ScopeMissing,
    TooLarge,
    Unexplained,
    Unreachable,
    ValidationTimeout,
)
from backfill.github.governor import LONGEST_SLEEP_SECONDS, PATIENT_SLEEP_SECONDS
from backfill.github.grouping import Group, by_number, grouped
from backfill.github.packing import Part
from backfill.github.records import Row, Tables
from backfill.github.refusals import Refusal, below
from backfill.github.request_size import RequestSize
from backfill.github.transport import Reply
from backfill.observability import problem

if TYPE_CHECKING:
    from backfill.github.client import GitHub

# The shortest page that a connection is asked for when GitHub cannot give longer ones (documents round up to it).
SHORTEST_PAGE = 10
# What fails alone is asked for so often before it is made smaller, or given up.
TRIES = 2
# So many pull requests of a chunk failed, and not one request was answered: it is not the pull requests.
MOST_FAILED = 3
# Requests about one pull request alone that fail, before the rest of it is taken for unreadable.
MOST_FAILURES = 20
# A pull request that changes while it is being read is begun again this often.
RESTARTS = 5
# Less than this left of the function's time: no further request is begun, for GitHub may take 10 seconds for it.
LEAST_SECONDS = 15.0
# What the replies of one chunk may hold together until they are stored. As rows, as JSON and as bytes on the wire it
# takes up to 9 times as much (benchmarks/memory.py), well below the function's 512 MB.
MOST_HELD_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Flaw:
    """A place of a pull request that GitHub does not give, by GitHub's own names, and why."""

    place: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChunkDetails:
    """Pull requests as rows by table. ``incomplete``: what some of them lack. ``failed``: code and message of those of
    which nothing can be read. ``gone``: GitHub does not have them."""

    tables: Tables
    failed: dict[int, tuple[str, str]]
    gone: list[int]
    incomplete: dict[int, list[Flaw]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which a chunk is read. ``learn`` is told at once when the learned size changes. ``patience``: the seconds that
    the first request may wait; later ones wait longer, for what was read already."""

    request_size: RequestSize = field(default_factory=RequestSize)
    learn: Callable[[RequestSize], None] = lambda size: None
    seconds_left: Callable[[], float] = lambda: 900.0
    patience: float = LONGEST_SLEEP_SECONDS


@dataclass(slots=True)
class _Reading:
    """A pull request while it is being read."""

    listed: Mapping[str, Any]
    restarts: int = 0
    failures: int = 0
    threads: bool = True
    # Connections that are read from the front alone, because GitHub's count of them is wrong.
    one_sided: set[str] = field(default_factory=set)
    row: Row | None = None
    tables: Tables = field(default_factory=dict)
    flaws: dict[str, Flaw] = field(default_factory=dict)
    open_tasks: int = 0
    # Which reading a task belongs to: tasks of a reading that was begun again are dropped.
    begun: int = 0

    def lacks(self, place: str, code: str, reason: str) -> None:
        """Note a flaw; the first of a place stays."""
        self.flaws.setdefault(place, Flaw(place, code, reason[:500]))


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked of one pull request in one request, ``rounds`` of them one after the other.

    ``after`` and ``before`` go on with a connection of which ``offset`` nodes were read from the front and ``taken``
    from the far end, where it ``meets`` the front; ``node_id`` goes on with the review comments of one review or thread.
    """

    number: int
    parts: tuple[Part, ...] = ()
    after: str | None = None
    before: str | None = None
    offset: int = 0
    taken: int = 0
    meets: Mapping[str, Any] | None = None
    page: int = packing.PAGE
    rounds: int = 1
    node_id: str | None = None
    parent: str = ""
    tries: int = 0
    begun: int = 0
    # It failed on its own: it is asked for alone, after all others.
    suspect: bool = False
    # Asked once more, because something in the reply had no reason: what lacks now is a flaw.
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
        return 1 if self.node_id else sum(part.weight for part in self.parts)

    @property
    def place(self) -> str:
        """What it asks for, if that is one place."""
        if self.node_id:
            return f"{self.parent}.comments"
        return self.parts[0].connection if len(self.parts) == 1 else ""

    def alone(self, part: Part) -> _Task:
        """The same for one connection, to confirm what a reply lacked."""
        return replace(self, parts=(part,), suspect=True, confirms=True, tries=0)

    def smaller(self) -> list[_Task] | None:
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
class _Request:
    """Tasks, the document that asks for them, and its weight. ``groups`` by alias: fields that ask for several tasks."""

    tasks: list[_Task]
    text: str
    variables: Mapping[str, Any]
    weight: int
    groups: Mapping[str, Group] = field(default_factory=dict)

    @property
    def fields(self) -> int:
        """Pull requests and further pages that it names, a group as one."""
        together = {place for group in self.groups.values() for place in group.members}
        return len(self.tasks) - len(together) + len(self.groups)


class ChunkReader:
    """Reads the pull requests of one chunk whole, followed to the last page of everything."""

    def __init__(self, github: GitHub, node_id: str, listed: Sequence[Mapping[str, Any]], terms: Terms) -> None:
        self._github = github
        self._node_id = node_id
        self._terms = terms
        self._size = terms.request_size
        self._sent = False
        self._readings = {row["number"]: _Reading(row) for row in listed}
        self._failed: dict[int, tuple[str, str]] = {}
        self._refused: set[int] = set()
        self._gone: list[int] = []
        # Pull requests that failed on their own, in the order in which they did.
        self._culprits: list[int] = []
        self._is_answered = False
        self._has_broken_off = False
        self._held = 0

    def read(self) -> ChunkDetails:
        """Everything, or the error of GitHub as a whole. Raises Retryable where all fails, or nothing but failures come;
        OutOfMemory where it is more than may be held. A single pull request of which that is true has failed."""
        size = self._size
        tasks = [task for number in self._readings for task in self._begin(number)]
        while tasks:
            candidates = [index for index, task in enumerate(tasks) if not task.suspect] or [len(tasks) - 1]
            waiting = [(tasks[index].weight, tasks[index].rounds) for index in candidates]
            chosen = {candidates[index] for index in packing.next_request(waiting, self._size.most)}
            following = self._send([task for index, task in enumerate(tasks) if index in chosen])
            tasks = [task for index, task in enumerate(tasks) if index not in chosen] + following
        if self._size != size:
            self._terms.learn(self._size)
        if len(self._failed) == len(self._readings) > 1 and not self._refused:
            raise self._all_failed()
        return self._result()

    def _all_failed(self) -> Retryable:
        code, message = next(iter(self._failed.values()))
        return Retryable(f"every pull request of the chunk fails ({code}): {message}")

    def _result(self) -> ChunkDetails:
        merged: Tables = {}
        incomplete: dict[int, list[Flaw]] = {}
        for number, reading in self._readings.items():
            if number in self._failed or number in self._gone or reading.row is None:
                continue
            tables = {"pull_requests": [reading.row], **reading.tables}
            for table, rows in tables.items():
                for column in {column for row in rows for column in records.fit(row)}:
                    place = column if table == "pull_requests" else f"{table}.{column}"
                    reading.lacks(place, "impossible_value", f"{place} holds a value that Postgres cannot store")
            if reading.row["updated_at"] is None:
                self._failed[number] = ("impossible_value", "GitHub gives no time of the last change that is a time")
                continue
            reading.row["incomplete"] = [asdict(flaw) for flaw in reading.flaws.values()] or None
            if reading.flaws:
                incomplete[number] = list(reading.flaws.values())
            for table, rows in tables.items():
                merged.setdefault(table, []).extend(rows)
        return ChunkDetails(merged, self._failed, self._gone, incomplete)

    def _begin(self, number: int) -> list[_Task]:
        reading = self._readings[number]
        reading.row, reading.tables, reading.flaws, reading.open_tasks = None, {}, {}, 1
        reading.begun += 1
        parts = packing.parts_of(reading.listed, threads=reading.threads)
        parts = tuple(replace(part, last=0) if part.connection in reading.one_sided else part for part in parts)
        return [_Task(number, parts, rounds=packing.load_of(reading.listed).rounds, begun=reading.begun)]

    def _send(self, request: list[_Task]) -> list[_Task]:
        """One request; the tasks that follow from it."""
        request = [task for task in request if self._is_wanted(task)]
        if not request:
            return []
        node_ids = {task.number: self._readings[task.number].listed.get("node_id") for task in request}
        query, later = _fitting(request, node_ids, self._github.withheld())
        return [*self._answered(query), *later]

    def _answered(self, query: _Request) -> list[_Task]:
        request = query.tasks
        try:
            reply = self._ask(query)
            self._github.repository_node(reply, self._node_id)
        except ValidationTimeout as error:
            return request if self._github.ask_fewer_fields(error, query.fields) else self._split(request, error)
        except ScopeMissing as missing:
            if not self._github.withhold(missing):
                raise
            return request
        except BrokenOff as error:
            # A stream that breaks once says little about the size; one that breaks again does.
            if not self._has_broken_off:
                self._has_broken_off = True
                return self._send(request)
            return self._split(request, error)
        except (TooLarge, Unexplained, InvalidQuery) as error:
            return self._split(request, error)
        self._is_answered = True
        self._held += reply.size
        if self._held > MOST_HELD_BYTES:
            return self._too_much()
        self._size = self._size.grown(len(request))
        numbers = {place: request[place].number for group in query.groups.values() for place in group.members}
        reply, lacking = by_number(reply, query.groups, numbers)
        nodes = records.clean(reply.data["node"])
        following: list[_Task] = []
        for index, task in enumerate(request):
            if index in lacking:
                following.append(replace(task, by_number=True))
            else:
                following += self._take(task, index, reply, nodes)
        return following

    def _ask(self, query: _Request) -> Reply:
        seconds = self._terms.seconds_left()
        if seconds < LEAST_SECONDS:
            raise OutOfTime("the function's time ends before the chunk is read")
        # Once something is read of the chunk, giving it back would waste that.
        patience = min(PATIENT_SLEEP_SECONDS, seconds - LEAST_SECONDS) if self._sent else self._terms.patience
        self._sent = True
        return self._github.query(
            query.text,
            {"repository": self._node_id, **query.variables},
            points=cost.points(query.weight),
            seconds_left=self._terms.seconds_left,
            expected=cost.seconds(detailed=sum(task.node_id is None for task in query.tasks)),
            patience=patience,
        )

    def _too_much(self) -> list[_Task]:
        text = f"more than {MOST_HELD_BYTES // 1024**2} MB, which this function's memory is not meant to hold"
        if len(self._readings) > 1:
            raise OutOfMemory(f"the pull requests of the chunk hold {text}")
        (number,) = self._readings
        self._failed[number] = ("too_large", f"the pull request holds {text}")
        return []

    def _split(self, request: list[_Task], error: BackfillError) -> list[_Task]:
        return self._divide(request, error) if len(request) > 1 else self._make_smaller(request[0], error)

    def _divide(self, request: list[_Task], error: BackfillError) -> list[_Task]:
        """A request that failed, in smaller ones. It was too large, unless all of it but one pull request succeeds."""
        size, seen, half = self._size, len(self._culprits), len(request) // 2
        if isinstance(error, TooLarge):
            self._size = size.halved(len(request))
            self._terms.learn(self._size)
            problem("a request was too large", error=str(error), pull_requests=len(request), size=self._size.value)
        following = []
        while request:
            most = max(1, min(half, self._size.most))
            following += self._send(request[:most])
            request = request[most:]
        if self._size != size and len(set(self._culprits[seen:])) == 1:
            self._size = size
            self._terms.learn(size)
        return following

    def _make_smaller(self, task: _Task, error: BackfillError) -> list[_Task]:
        """What failed alone, in smaller requests or once more; in the end that place is a flaw, or all of it has failed."""
        reading = self._readings[task.number]
        asks_for_itself_next = reading.row is None and len(task.parts) > 1 and reading.failures + 1 < MOST_FAILURES
        if task.number not in self._culprits and not (asks_for_itself_next and self._is_answered):
            self._refuse_outage()
        self._culprits.append(task.number)
        reading.failures += 1
        is_last = reading.failures >= MOST_FAILURES
        if not task.parts and not task.node_id:
            self._refuse_outage()
        smaller = None if is_last else task.smaller()
        if smaller is not None and (not isinstance(error, Unexplained) or task.tries + 1 >= TRIES):
            if asks_for_itself_next:
                # The last is asked first: if not even its own fields can be had, all of the pull request has failed.
                smaller.append(replace(task, parts=(), tries=0))
            reading.open_tasks += len(smaller) - 1
            return [replace(each, suspect=True) for each in smaller]
        if not is_last and task.tries + 1 < TRIES:
            return [replace(task, tries=task.tries + 1, suspect=True)]
        return self._give_up(task, error)

    def _give_up(self, task: _Task, error: BackfillError) -> list[_Task]:
        """The smallest request fails: its connections are flaws if the pull request itself was read, else all has failed."""
        reading = self._readings[task.number]
        if reading.row is not None and (task.parts or task.node_id):
            for place in [part.connection for part in task.parts] or [task.place]:
                reading.lacks(place, _code(error), str(error))
            reading.open_tasks -= 1
            return []
        self._refuse_outage()
        self._failed[task.number] = (_code(error), str(error)[:500])
        if len(self._failed) >= MOST_FAILED and not self._is_answered:
            raise self._all_failed()
        return []

    def _refuse_outage(self) -> None:
        """A pull request is not to blame while GitHub answers nothing else either."""
        try:
            variables = {"repository": self._node_id}
            self._github.query(documents.DetailQuery().text(), variables, seconds_left=self._terms.seconds_left)
        except (TooLarge, Unexplained, InvalidQuery) as error:
            raise Unreachable(f"GitHub answers nothing about the repository: {error}") from error

    def _take(self, task: _Task, index: int, reply: Reply, nodes: dict[str, Any]) -> list[_Task]:
        """The rows of one task, and what is still to be read of its pull request."""
        if not self._is_wanted(task):
            return []
        if task.node_id:
            following = self._further_comments(task, f"n{index}", reply)
        else:
            following = self._pull_request(task, f"p{index}", reply, nodes)
        reading = self._readings[task.number]
        if task.begun != reading.begun or not self._is_wanted(task):
            return following  # it was begun again, or is settled
        reading.open_tasks += len(following) - 1
        if reading.open_tasks == 0 and self._lacks_review_comments(reading):
            reading.threads = False
            return self._begin(task.number)
        return following

    def _further_comments(self, task: _Task, alias: str, reply: Reply) -> list[_Task]:
        """The next page of the review comments of one review or thread."""
        node, refused = reply.data.get(alias), below(reply.refused, (alias,))
        if node:
            return self._nested(task, records.clean(node), task.parent, refused)
        if (alias,) in reply.missing:
            return self._restart(task.number, "a review vanished while it was read")
        for refusal in refused.values():
            self._readings[task.number].lacks(task.place, refusal.code, refusal.reason)
            return []
        return self._doubt(task, task.place, "null", "GitHub gives null in place of a review")

    def _pull_request(self, task: _Task, alias: str, reply: Reply, nodes: dict[str, Any]) -> list[_Task]:
        """A pull request's own fields, and one page of each connection that was asked for."""
        reading, node = self._readings[task.number], nodes.get(alias)
        refused = below(reply.refused, ("node", alias))
        if node is None:
            if ("node", alias) in reply.missing:
                self._gone.append(task.number)
                return []
            if () in refused and refused[()].is_definite:
                self._fail(task.number, refused[()])
                return []
            return self._doubt_all(task, "GitHub gave null for the pull request without a reason")
        try:
            row = records.detailed(reading.tables, node)
        except MALFORMED as error:
            return self._doubt_all(task, f"the pull request has an unknown form: {type(error).__name__}: {error}")
        if reading.row is not None and reading.row["updated_at"] != row["updated_at"]:
            reading.row = row
            return self._restart(task.number, "the pull request changes faster than it can be read")
        reading.row = row
        if self._grew(reading, row):
            return self._restart(task.number, "the pull request grows faster than it can be read")
        asked = {name for part in task.parts for name in (part.connection, f"{part.connection}Last")}
        for path, refusal in refused.items():
            if path[0] not in asked:
                reading.lacks(_place(path), refusal.code, refusal.reason)
        following: list[_Task] = []
        for part in task.parts:
            following += self._connection(task, part, node, refused)
            if reading.begun != task.begun:
                return following
        return following

    def _connection(
        self, task: _Task, part: Part, node: dict[str, Any], refused: Mapping[tuple[str | int, ...], Refusal]
    ) -> list[_Task]:
        """One page, or two from both ends: the rows, what lies between, and the next pages below the nodes."""
        reading, name = self._readings[task.number], part.connection
        pages = [(each, node.get(each)) for each in (name, f"{name}Last") if each == name or part.last]
        flaws = [flaw for alias, page in pages for flaw in _flaws_of_page(name, page, below(refused, (alias,)))]
        front = node.get(name)
        if front is not None and not flaws and not task.taken and not part.last:
            flaws += _flaws_of_end(name, front, task)
        doubtful = [flaw for flaw, is_definite in flaws if not is_definite]
        if doubtful and not task.confirms:
            return [task.alone(part)]
        for flaw, _ in flaws:
            reading.lacks(flaw.place, flaw.code, flaw.reason)
        if front is None:
            return []
        total, back = front["totalCount"], node.get(f"{name}Last") if part.last else None
        end = back["nodes"] if back is not None else []
        read, taken = task.offset + len(front["nodes"]), task.taken + len(end)
        # Two ends have met when the front shows the first node of the far end.
        meets = end[0] if end else task.meets
        has_met = meets is not None and meets in front["nodes"]
        nodes = front["nodes"][: front["nodes"].index(meets)] if has_met else front["nodes"]
        following = self._rows(task, part, (nodes, task.offset), refused)
        following += self._rows(task, part, (end, total - taken), refused)
        cursor = front["pageInfo"]["endCursor"]
        if not front["pageInfo"]["hasNextPage"] or not _goes_on(cursor, task.after):
            return following
        # GitHub's hasNextPage ends the reading, not its count (commits stop at 250). Where two ends should have met and did
        # not, the count is wrong.
        if has_met:
            return following
        left = total - read - taken
        if taken and left < 0:
            reading.one_sided.add(name)
            return self._restart(task.number, f"GitHub's count of {name} is wrong")
        # One more than is left: the front must meet the far end.
        wanted = left + 1 if taken else max(1, left)
        rest = packing.page_of(name, total, wanted, part.nested, task.page)
        if name in reading.one_sided:
            rest = replace(rest, last=0)
        following.append(
            _Task(
                task.number,
                (rest,),
                after=cursor,
                before=back["pageInfo"]["startCursor"] if back is not None and end else task.before,
                offset=read,
                taken=taken,
                meets=meets,
                page=task.page,
                rounds=packing.rounds_of(name, total, wanted),
                begun=task.begun,
            )
        )
        return following

    def _rows(
        self,
        task: _Task,
        part: Part,
        page: tuple[list[dict[str, Any] | None], int],
        refused: Mapping[tuple[str | int, ...], Refusal],
    ) -> list[_Task]:
        """Nodes as rows, the first of them at the page's offset; and the next pages below them."""
        reading, (nodes, offset) = self._readings[task.number], page
        following: list[_Task] = []
        for index, node in enumerate(nodes):
            if node is None:
                continue
            try:
                records.child(reading.tables, task.number, part.connection, (node, offset + index))
                if part.nested:
                    review = replace(task, node_id=node["id"], parent=part.connection, parts=(), offset=0, after=None)
                    review = replace(review, before=None, taken=0, meets=None, confirms=False, tries=0, rounds=1)
                    refused_below = below(refused, (part.connection, "nodes", index))
                    following += self._nested(replace(review, page=packing.PAGE), node, part.connection, refused_below)
            except MALFORMED as error:
                reading.lacks(
                    part.connection, "unexplained", f"a node has an unknown form: {type(error).__name__}: {error}"
                )
        return following

    def _nested(
        self,
        task: _Task,
        node: dict[str, Any],
        parent: str,
        refused: Mapping[tuple[str | int, ...], Refusal],
    ) -> list[_Task]:
        """One page of the review comments of a review or thread. ``task`` asks for the page, or would ask for it again."""
        reading, comments = self._readings[task.number], node["comments"]
        place = f"{parent}.comments"
        is_first_look = not task.after and not task.confirms
        flaws = _flaws_of_page(place, comments, below(refused, ("comments",)))
        if comments is not None and not flaws:
            flaws += _flaws_of_end(place, comments, task)
        if any(not is_definite for _, is_definite in flaws) and (is_first_look or not task.confirms):
            return [replace(task, suspect=True, confirms=True)]
        for flaw, _ in flaws:
            reading.lacks(flaw.place, flaw.code, flaw.reason)
        if comments is None:
            return []
        for comment in comments["nodes"]:
            if comment is not None:
                records.review_comment(reading.tables, task.number, comment)
        cursor = comments["pageInfo"]["endCursor"]
        if comments["pageInfo"]["hasNextPage"] and _goes_on(cursor, task.after):
            offset = task.offset + len(comments["nodes"])
            return [replace(task, after=cursor, offset=offset, suspect=False, confirms=False, tries=0)]
        return []

    def _doubt(self, task: _Task, place: str, code: str, reason: str) -> list[_Task]:
        """Something lacks without a reason: ask for it once more, alone; then it is a flaw."""
        if not task.confirms:
            return [replace(task, suspect=True, confirms=True)]
        self._readings[task.number].lacks(place, code, reason)
        return []

    def _doubt_all(self, task: _Task, reason: str) -> list[_Task]:
        """As ``_doubt``, where nothing of the pull request can be used."""
        if not task.confirms:
            return [replace(task, suspect=True, confirms=True)]
        self._fail(task.number, Refusal("unexplained", reason))
        return []

    def _fail(self, number: int, refusal: Refusal) -> None:
        self._failed[number] = (refusal.code, refusal.reason[:500])
        self._refused.add(number)

    def _is_wanted(self, task: _Task) -> bool:
        settled = task.number in self._failed or task.number in self._gone
        return not settled and task.begun == self._readings[task.number].begun

    @staticmethod
    def _grew(reading: _Reading, row: Row) -> bool:
        """Something that was empty at listing is not any more, so that it was not asked for."""
        asked = {part.connection for part in packing.parts_of(reading.listed, threads=reading.threads)}
        needed = {part.connection for part in packing.parts_of(row, threads=reading.threads)}
        return not needed - {"reviewThreads"} <= asked or (
            packing.review_comments(row) > 0 and packing.review_comments(reading.listed) == 0
        )

    @staticmethod
    def _lacks_review_comments(reading: _Reading) -> bool:
        """Threads showed fewer review comments than GitHub counts: the reviews show them all."""
        if reading.row is None or not reading.threads or reading.listed["review_threads_count"] == 0:
            return False
        stored = {row["node_id"] for row in reading.tables.get("comments", ()) if row["kind"] == "review_comment"}
        return len(stored) < packing.review_comments(reading.row)

    def _restart(self, number: int, reason: str) -> list[_Task]:
        reading = self._readings[number]
        if reading.restarts >= RESTARTS:
            self._failed[number] = ("moving", reason)
            return []
        reading.restarts += 1
        if reading.row is not None:
            reading.listed = reading.row
        return self._begin(number)


def _fitting(
    tasks: list[_Task], node_ids: Mapping[int, str | None], withheld: Container[str]
) -> tuple[_Request, list[_Task]]:
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


def _request(tasks: list[_Task], node_ids: Mapping[int, str | None], withheld: Container[str]) -> _Request:
    """The document for these tasks."""
    query, weight, groups = documents.DetailQuery(withheld), 0, dict[str, Group]()
    most = documents.most_fields(withheld)
    ids = {
        index: node_id for index, task in enumerate(tasks) if task.can_be_grouped and (node_id := node_ids[task.number])
    }
    if most is not None and len(tasks) > most and ids:
        fields = grouped({index: tasks[index].parts for index in ids}, most - (len(tasks) - len(ids)))
        groups = {f"g{index}": group for index, group in enumerate(fields)}
    for alias, group in groups.items():
        asked = " ".join(query.connection(part) for part in group.parts.values())
        query.group(
            alias, [ids[index] for index in group.members], f"...pullRequest {asked}" if group.is_base else asked
        )
        weight += group.weight
    for index, task in enumerate(tasks):
        if groups and index in ids:
            continue
        weight += task.weight
        if task.node_id:
            query.more_review_comments(f"n{index}", task.node_id, task.parent, (task.page, task.after))
        else:
            asked = " ".join(query.connection(part, task.after, task.before) for part in task.parts)
            query.pull_request(f"p{index}", task.number, f"...pullRequest {asked}")
    return _Request(tasks, query.text(), query.variables, weight, groups)


def _flaws_of_page(
    place: str, page: Mapping[str, Any] | None, refused: Mapping[tuple[str | int, ...], Refusal]
) -> list[tuple[Flaw, bool]]:
    """What a page of a connection lacks; with True where GitHub said why, and asking again is of no use."""
    found = [(Flaw(place, each.code, each.reason), each.is_definite) for each in refused.values()]
    if page is None:
        return found or [(Flaw(place, "null", f"GitHub gives null in place of {place}"), False)]
    explained = {path[1] for path in refused if len(path) > 1 and path[0] == "nodes"}
    nodes = page["nodes"]
    if any(node is None and index not in explained for index, node in enumerate(nodes)):
        found.append((Flaw(place, "null", f"GitHub gives null in place of a node of {place}"), False))
    if any(_is_hidden_team(node) for node in nodes):
        found.append((Flaw(place, "insufficient_scopes", "a team was requested, and the token lacks read:org"), True))
    return found


def _flaws_of_end(place: str, page: Mapping[str, Any], task: _Task) -> list[tuple[Flaw, bool]]:
    """Whether a connection ends, or goes on, as its own count and cursors say."""
    info, total = page["pageInfo"], page["totalCount"]
    if info["hasNextPage"]:
        if _goes_on(info["endCursor"], task.after):
            return []
        return [(Flaw(place, "cursor", f"GitHub says that {place} go on, and gives no cursor that does"), False)]
    read = task.offset + len(page["nodes"])
    if read < min(total, packing.ENDS.get(place, total)):
        return [(Flaw(place, "truncated", f"GitHub counts {total} {place} and gives {read}"), False)]
    return []


def _goes_on(cursor: str | None, before: str | None) -> bool:
    return bool(cursor) and cursor != before


def _is_hidden_team(node: Mapping[str, Any] | None) -> bool:
    """A team of which nothing but the type was asked (documents: withheld)."""
    reviewer = (node or {}).get("requestedReviewer") or {}
    return reviewer.get("__typename") == "Team" and "id" not in reviewer


def _place(path: Sequence[str | int]) -> str:
    """A path by the names in it."""
    return ".".join(step for step in path if isinstance(step, str) and step != "nodes")


def _code(error: BackfillError) -> str:
    """The word that columns and reports know a failed pull request's reason by."""
    if isinstance(error, Permanent):
        return error.code
    return "too_large" if isinstance(error, TooLarge) else "unexplained"
