"""The requests that read one chunk: tasks share requests, and what fails is asked for in smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from backfill.error_codes import ErrorCode
from backfill.errors import BackfillError, Permanent, Retryable
from backfill.github import cost, packing, records
from backfill.github.detail_query import DetailQuery
from backfill.github.errors import (
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
from backfill.github.flaws import Flaw
from backfill.github.governor import LONGEST_SLEEP_SECONDS, PATIENT_SLEEP_SECONDS
from backfill.github.grouping import by_number
from backfill.github.pull_request import Answer, PullRequestReading
from backfill.github.records import Listed, Node, Tables
from backfill.github.refusals import below
from backfill.github.replies import Reply
from backfill.github.request_size import RequestSize
from backfill.github.session import Price, Session, repository_node
from backfill.github.tasks import Request, Task, fitting
from backfill.observability import problem

# Tries of a task that fails alone, before it is made smaller or given up.
TRIES = 2
# Where so many pull requests of a chunk failed and no request was answered, the pull requests are not to blame.
MOST_FAILED = 3
# Requests about one pull request alone that fail, before the rest of it is taken for unreadable.
MOST_FAILURES = 20
# With less of the function's time left, no further request is begun: GitHub may take 10 seconds for it.
LEAST_SECONDS = 15.0
# What the replies of one chunk may hold together until they are stored. As rows, as JSON and as bytes on the wire it
# takes up to 9 times as much (benchmarks/memory.py), well below the function's 512 MB.
MOST_HELD_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChunkDetails:
    """Pull requests as rows by table. ``incomplete``: what some of them lack.

    ``failed``: code and message of those of which nothing can be read. ``gone``: those that GitHub does not have.
    """

    tables: Tables
    failed: dict[int, tuple[str, str]]
    gone: list[int]
    incomplete: dict[int, list[Flaw]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a chunk is read. ``learn`` is told at once when the learned size changes. ``timeline``: whether timelines are read.

    ``patience``: the seconds that the first request may wait. Later ones wait longer, to save what was read already.
    """

    request_size: RequestSize = field(default_factory=RequestSize)
    learn: Callable[[RequestSize], None] = lambda size: None
    seconds_left: Callable[[], float] = lambda: 900.0
    patience: float = LONGEST_SLEEP_SECONDS
    timeline: bool = False


class ChunkReader:
    """Reads the pull requests of one chunk whole, to the last page of everything."""

    def __init__(self, session: Session, node_id: str, listed: Sequence[Listed], terms: Terms) -> None:
        self._session = session
        self._node_id = node_id
        self._terms = terms
        self._size = terms.request_size
        self._sent = False
        rows = [packing.with_timeline(row, terms.timeline) for row in listed]
        self._readings = {row["number"]: PullRequestReading(row) for row in rows}
        # Pull requests that failed on their own, in the order in which they did.
        self._culprits: list[int] = []
        self._is_answered = False
        self._has_broken_off = False
        self._held = 0

    def read(self) -> ChunkDetails:
        """Read everything.

        Raises the error of GitHub as a whole, Retryable where every pull request fails, and OutOfMemory where the replies
        are more than may be held. A single pull request that is too large has failed.
        """
        size = self._size
        tasks = [task for reading in self._readings.values() for task in reading.begin()]
        while tasks:
            candidates = [index for index, task in enumerate(tasks) if not task.suspect] or [len(tasks) - 1]
            waiting = [(tasks[index].weight, tasks[index].rounds) for index in candidates]
            chosen = {candidates[index] for index in packing.next_request(waiting, self._size.most)}
            following = self._send([task for index, task in enumerate(tasks) if index in chosen])
            tasks = [task for index, task in enumerate(tasks) if index not in chosen] + following
        if self._size != size:
            self._terms.learn(self._size)
        is_refused = any(reading.is_refused for reading in self._readings.values())
        if len(self._failed()) == len(self._readings) > 1 and not is_refused:
            raise self._all_failed()
        return self._details()

    def _failed(self) -> dict[int, tuple[str, str]]:
        return {
            number: (reading.failure.code, reading.failure.reason)
            for number, reading in self._readings.items()
            if reading.failure is not None
        }

    def _all_failed(self) -> Retryable:
        code, message = next(iter(self._failed().values()))
        return Retryable(f"every pull request of the chunk fails ({code}): {message}")

    def _details(self) -> ChunkDetails:
        merged: Tables = {}
        incomplete: dict[int, list[Flaw]] = {}
        for number, reading in self._readings.items():
            tables = reading.finish()
            for table, rows in tables.items():
                merged.setdefault(table, []).extend(rows)
            if tables and reading.flaws:
                incomplete[number] = list(reading.flaws.values())
        gone = [number for number, reading in self._readings.items() if reading.is_gone]
        return ChunkDetails(merged, self._failed(), gone, incomplete)

    def _send(self, tasks: list[Task]) -> list[Task]:
        """One request for tasks that are still wanted; the tasks that follow from it."""
        tasks = [task for task in tasks if self._readings[task.number].is_wanted(task)]
        if not tasks:
            return []
        node_ids = {task.number: self._readings[task.number].node_id for task in tasks}
        withheld = {*self._session.withheld(), *(() if self._terms.timeline else ("reviewThreadsNode",))}
        request, later = fitting(tasks, node_ids, withheld)
        return [*self._asked(request), *later]

    def _asked(self, request: Request) -> list[Task]:
        """Ask, and take the reply; or the same tasks in other requests."""
        try:
            reply = self._ask(request)
            repository_node(self._session, reply, self._node_id)
        except ValidationTimeout as error:
            is_less = self._session.ask_fewer_fields(error, request.fields)
            return request.tasks if is_less else self._split(request.tasks, error)
        except ScopeMissing as missing:
            if not self._session.withhold(missing):
                raise
            return request.tasks
        except BrokenOff as error:
            # A stream that breaks once says little about the size; one that breaks again does.
            if not self._has_broken_off:
                self._has_broken_off = True
                return self._send(request.tasks)
            return self._split(request.tasks, error)
        except (TooLarge, Unexplained, InvalidQuery) as error:
            return self._split(request.tasks, error)
        return self._take(request, reply)

    def _ask(self, request: Request) -> Reply:
        seconds = self._terms.seconds_left()
        if seconds < LEAST_SECONDS:
            raise OutOfTime("the function's time ends before the chunk is read")
        # Once something of the chunk is read, giving it back would waste that.
        patience = min(PATIENT_SLEEP_SECONDS, seconds - LEAST_SECONDS) if self._sent else self._terms.patience
        self._sent = True
        detailed = sum(task.node_id is None for task in request.tasks)
        return self._session.query(
            request.text,
            {"repository": self._node_id, **request.variables},
            Price(cost.points(request.weight), cost.seconds(detailed=detailed)),
            patience=patience,
            seconds_left=self._terms.seconds_left,
        )

    def _take(self, request: Request, reply: Reply) -> list[Task]:
        """Give each task what the reply says to it; the tasks that follow."""
        self._is_answered = True
        self._held += reply.size
        if self._held > MOST_HELD_BYTES:
            self._refuse_size()
            return []
        self._size = self._size.grown(len(request.tasks))
        numbers = {place: request.tasks[place].number for group in request.groups.values() for place in group.members}
        reply, lacking = by_number(reply, request.groups, numbers)
        nodes = records.clean(reply.data["node"])
        following: list[Task] = []
        for index, task in enumerate(request.tasks):
            if index in lacking:
                following.append(replace(task, by_number=True))
            else:
                following += self._readings[task.number].take(task, _answer(task, index, reply, nodes))
        return following

    def _refuse_size(self) -> None:
        text = f"more than {MOST_HELD_BYTES // 1024**2} MB, which this function's memory is not meant to hold"
        if len(self._readings) > 1:
            raise OutOfMemory(f"the pull requests of the chunk hold {text}")
        (reading,) = self._readings.values()
        reading.fail(ErrorCode.TOO_LARGE, f"the pull request holds {text}")

    def _split(self, tasks: list[Task], error: BackfillError) -> list[Task]:
        return self._divide(tasks, error) if len(tasks) > 1 else self._make_smaller(tasks[0], error)

    def _divide(self, tasks: list[Task], error: BackfillError) -> list[Task]:
        """A request that failed, in smaller ones. It was too large, unless all of it but one pull request succeeds."""
        size, seen, half = self._size, len(self._culprits), len(tasks) // 2
        if isinstance(error, TooLarge):
            self._size = size.halved(len(tasks))
            self._terms.learn(self._size)
            problem("a request was too large", error=str(error), pull_requests=len(tasks), size=self._size.value)
        following = []
        while tasks:
            most = max(1, min(half, self._size.most))
            following += self._send(tasks[:most])
            tasks = tasks[most:]
        if self._size != size and len(set(self._culprits[seen:])) == 1:
            self._size = size
            self._terms.learn(size)
        return following

    def _make_smaller(self, task: Task, error: BackfillError) -> list[Task]:
        """What failed alone, in smaller requests or once more; in the end that place is a flaw, or all of it has failed."""
        reading = self._readings[task.number]
        asks_for_itself_next = reading.row is None and len(task.parts) > 1 and reading.failures + 1 < MOST_FAILURES
        if reading.failures == 0 and not (asks_for_itself_next and self._is_answered):
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
        self._give_up(task, error)
        return []

    def _give_up(self, task: Task, error: BackfillError) -> None:
        """The smallest request fails: its connections are flaws if the pull request itself was read, else all has failed."""
        reading = self._readings[task.number]
        if reading.row is not None and task.places:
            for place in task.places:
                reading.lacks(Flaw(place, _code(error), str(error)))
            reading.open_tasks -= 1
            return
        self._refuse_outage()
        reading.fail(_code(error), str(error))
        if len(self._failed()) >= MOST_FAILED and not self._is_answered:
            raise self._all_failed()

    def _refuse_outage(self) -> None:
        """A pull request is not to blame while GitHub answers nothing else either."""
        try:
            variables = {"repository": self._node_id}
            self._session.query(DetailQuery().text(), variables, seconds_left=self._terms.seconds_left)
        except (TooLarge, Unexplained, InvalidQuery) as error:
            raise Unreachable(f"GitHub answers nothing about the repository: {error}") from error


def _answer(task: Task, index: int, reply: Reply, nodes: Node) -> Answer:
    """What a reply says to the task at a place of its request. ``nodes`` are the repository's, cleaned."""
    if task.node_id:
        alias = f"n{index}"
        node = records.clean(reply.data.get(alias))
        return Answer(node, (alias,) in reply.missing, below(reply.refused, (alias,)))
    path = ("node", f"p{index}")
    return Answer(nodes.get(path[1]), path in reply.missing, below(reply.refused, path))


def _code(error: BackfillError) -> str:
    """The word that columns and reports know a failed pull request's reason by."""
    if isinstance(error, Permanent):
        return error.code
    return ErrorCode.TOO_LARGE if isinstance(error, TooLarge) else ErrorCode.UNEXPLAINED
