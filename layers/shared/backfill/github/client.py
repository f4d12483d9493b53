"""GitHub as the backfill uses it: find, list, examine, and read details whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backfill.errors import BackfillError, Permanent, Retryable
from backfill.github import cost, documents, packing, records
from backfill.github.auth import Credentials
from backfill.github.errors import (
    BadCredentials,
    InvalidQuery,
    OutOfMemory,
    OutOfTime,
    RepositoryUnavailable,
    TooLarge,
    Unexplained,
    Unreachable,
    understood,
)
from backfill.github.governor import LISTING_SLEEP_SECONDS, LONGEST_SLEEP_SECONDS, PATIENT_SLEEP_SECONDS, Governor
from backfill.github.packing import Part
from backfill.github.records import Row, Tables
from backfill.github.transport import Reply, Transport
from backfill.observability import count, problem

# Pull requests (or further pages of one) in a detail request while nothing is learned: about 0.1 s each of GitHub's 10 s.
REQUEST_SIZE = 50.0
# After a halving, each full request that succeeds makes the next one larger by this.
GROWTH = 1.1
# The shortest page that a connection is asked for when GitHub cannot give longer ones.
SHORTEST_PAGE = 5
# A reply that fits no known case is asked for again this often before it surfaces.
TRIES = 3
# So many pull requests of a chunk failed, and not one request was answered: it is not the pull requests.
MOST_FAILED = 3
# A pull request that changes while it is being read is begun again this often.
RESTARTS = 5
# Less than this left of the function's time: no further request is begun, for GitHub may take 10 seconds for it.
LEAST_SECONDS = 15.0
# What the replies of one chunk may hold together until they are stored. As rows, as JSON and as bytes on the wire it
# takes up to 9 times as much (benchmarks/memory.py), well below the function's 512 MB.
MOST_HELD_BYTES = 32 * 1024 * 1024
# Before a token is tried again that GitHub took for nobody's.
TRANSIENT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing, as rows; ``latest_updated_at`` of the whole repository."""

    repository: Row
    total_prs: int
    pull_requests: list[Row]
    contributors: list[Row]
    end_cursor: str | None
    has_next_page: bool
    latest_updated_at: str | None


@dataclass(frozen=True, slots=True)
class ChunkDetails:
    """Whole pull requests as rows by table; ``failed`` by number with code and message; ``gone`` from GitHub."""

    tables: Tables
    failed: dict[int, tuple[str, str]]
    gone: list[int]


@dataclass(frozen=True, slots=True)
class Spent:
    """Points and requests. What failed counts too: GitHub takes points for a query that it could not finish."""

    points: int = 0
    requests: int = 0

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(self.points - earlier.points, self.requests - earlier.requests)


@dataclass(slots=True)
class _Reading:
    """A pull request while it is being read."""

    listed: Mapping[str, Any]
    restarts: int = 0
    threads: bool = True
    row: Row | None = None
    tables: Tables = field(default_factory=dict)
    open_tasks: int = 0
    # Which reading a task belongs to: tasks of a reading that was begun again are dropped.
    begun: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked of one pull request in one request, ``rounds`` of them one after the other.

    ``after`` and ``before`` go on with a connection of which ``offset`` nodes were read from the front and ``taken``
    from the far end; ``node_id`` goes on with the review comments of one review or thread.
    """

    number: int
    parts: tuple[Part, ...] = ()
    after: str | None = None
    before: str | None = None
    offset: int = 0
    taken: int = 0
    page: int = packing.PAGE
    rounds: int = 1
    node_id: str | None = None
    parent: str = ""
    tries: int = 0
    begun: int = 0
    # It failed on its own: it is asked for alone, after all others.
    suspect: bool = False

    @property
    def weight(self) -> int:
        return 1 if self.node_id else sum(part.weight for part in self.parts)

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


class GitHub:
    """Raises Deferred (limits), Retryable or Permanent; see backfill.github.errors.

    ``spent`` runs for as long as the container lives: what a piece of work has cost, even one that raised, is the
    difference between after and before.
    """

    def __init__(self, transport: Transport, credentials: Credentials, governor: Governor) -> None:
        self._transport = transport
        self._credentials = credentials
        self._governor = governor
        self.spent = Spent()
        self._cost_differed = False

    @understood()
    def repository(self, owner: str, name: str) -> tuple[Row, int]:
        """A repository by name (renames are followed), and how many pull requests GitHub counts."""
        reply = self._query(documents.FIND, {"owner": owner, "name": name})
        node = reply.data.get("repository")
        if node is None:
            raise RepositoryUnavailable(f"GitHub shows no repository {owner}/{name} to this token")
        return records.repository(node), int(node["pullRequests"]["totalCount"])

    @understood()
    def find(
        self, names: Sequence[tuple[str, str]]
    ) -> dict[str, tuple[Row, int] | RepositoryUnavailable | Unexplained]:
        """Up to 100 repositories by ``(owner, name)``, as ``repository`` gives one; an error where GitHub shows none."""
        reply = self._query(documents.find(names), {})
        found: dict[str, tuple[Row, int] | RepositoryUnavailable | Unexplained] = {}
        for index, (owner, name) in enumerate(names):
            node, full_name = reply.data[f"r{index}"], f"{owner}/{name}"
            if node:
                found[full_name] = records.repository(node), int(node["pullRequests"]["totalCount"])
            elif (f"r{index}",) in reply.missing:
                found[full_name] = RepositoryUnavailable(f"GitHub shows no repository {full_name} to this token")
            else:
                found[full_name] = Unexplained(f"GitHub gave null for {full_name} without a reason")
        return found

    @understood()
    def examine(self, node_ids: Sequence[str]) -> tuple[dict[str, Row | Unexplained | None], int]:
        """Up to 100 repositories at once: identity, ``total_prs`` and ``latest_updated_at``; None where it is missing,
        Unexplained where GitHub gave null without a reason.

        The second value is the points spent.
        """
        weight = cost.weight([cost.Connection(1)], parents=len(node_ids))
        expected = cost.seconds(listed=len(node_ids))
        reply = self._query(documents.EXAMINE, {"ids": list(node_ids)}, points=cost.points(weight), expected=expected)
        found: dict[str, Row | Unexplained | None] = dict.fromkeys(node_ids)
        for index, (node_id, node) in enumerate(zip(node_ids, reply.data["nodes"], strict=True)):
            if not node and ("nodes", index) not in reply.missing:
                found[node_id] = Unexplained(f"GitHub gave null for repository {node_id} without a reason")
            if node:
                newest = node["pullRequests"]["nodes"]
                found[node_id] = {
                    "repository": records.repository(node),
                    "total_prs": node["pullRequests"]["totalCount"],
                    "latest_updated_at": newest[0]["updatedAt"] if newest else None,
                }
        return found, reply.cost or 1

    @understood()
    def list_pull_requests(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        """The page after ``cursor``, oldest pull request first."""
        return self._listing(documents.LISTING, node_id, cursor, page_size)

    @understood()
    def list_updated(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        """The page after ``cursor``, last changed first."""
        return self._listing(documents.UPDATED, node_id, cursor, page_size)

    @understood()
    def list_numbers(self, node_id: str, numbers: Sequence[int]) -> tuple[list[Row], list[Row], list[int], int]:
        """List-level rows by number: pull requests, contributors, numbers that GitHub lacks as pull requests, points."""
        tables: Tables = {}
        rows: list[Row] = []
        missing: list[int] = []
        points = 0
        waiting = [list(numbers[start : start + packing.PAGE]) for start in range(0, len(numbers), packing.PAGE)]
        while waiting:
            some = waiting.pop(0)
            text = " ".join(documents.pull_request(f"p{n}", n, documents.LISTED) for n in some)
            expected = cost.seconds(listed=len(some))
            try:
                reply = self._query(documents.details(text, ""), {"repository": node_id}, expected=expected)
            except TooLarge:
                if len(some) == 1:
                    raise
                waiting = [some[: len(some) // 2], some[len(some) // 2 :], *waiting]
                continue
            points += reply.cost or 1
            below = self._repository_node(reply, node_id)
            for number in some:
                node = below[f"p{number}"]
                if node is not None:
                    rows.append(records.listed(tables, records.clean(node)))
                elif ("node", f"p{number}") in reply.missing:
                    missing.append(number)
                else:
                    raise Unexplained(f"GitHub gave null for pull request {number} without a reason")
        return rows, tables.get("contributors", []), missing, points

    @understood()
    def details(
        self,
        node_id: str,
        listed: Sequence[Mapping[str, Any]],
        *,
        request_size: float | None = None,
        learn: Callable[[float], None] = lambda size: None,
        seconds_left: Callable[[], float] = lambda: 900.0,
        patience: float = LONGEST_SLEEP_SECONDS,
    ) -> ChunkDetails:
        """Read pull requests whole, followed to the last page of everything; see _Details.

        The first request may wait ``patience`` seconds; later ones wait longer, for what was read already.

        ``request_size`` is what was learned of this repository so far; ``learn`` is told whenever that changes, at
        once, so that it is known even if this reading comes to nothing.
        """
        return _Details(self, node_id, listed, request_size or REQUEST_SIZE, learn, seconds_left, patience).read()

    def _listing(self, document: str, node_id: str, cursor: str | None, page_size: int) -> ListingPage:
        variables = {"repository": node_id, "first": page_size, "after": cursor}
        reply = self._query(
            document, variables, expected=cost.seconds(listed=page_size), patience=LISTING_SLEEP_SECONDS
        )
        node = records.clean(self._repository_node(reply, node_id))
        page, newest = node["pullRequests"], node["newest"]["nodes"]
        tables: Tables = {}
        if any(each is None for each in page["nodes"]):
            raise Unexplained("GitHub gave a null pull request in a listing")
        return ListingPage(
            records.repository(node),
            page["totalCount"],
            [records.listed(tables, each) for each in page["nodes"]],
            tables.get("contributors", []),
            page["pageInfo"]["endCursor"],
            page["pageInfo"]["hasNextPage"],
            newest[0]["updatedAt"] if newest else None,
        )

    @staticmethod
    def _repository_node(reply: Reply, node_id: str) -> dict[str, Any]:
        node = reply.data.get("node")
        if not node:
            if ("node",) in reply.missing:
                raise RepositoryUnavailable(f"GitHub has no repository with the node id {node_id}")
            raise Unexplained("GitHub gave null for the repository without a reason")
        found: dict[str, Any] = node
        return found

    def _query(
        self,
        document: str,
        variables: Mapping[str, Any],
        *,
        points: int = 1,
        seconds_left: Callable[[], float] = lambda: 60.0,
        expected: float = cost.seconds(),
        patience: float = LONGEST_SLEEP_SECONDS,
    ) -> Reply:
        """One request under the governor, which may wait ``patience`` seconds; the request ends in ``seconds_left()``.

        A token that GitHub refuses is read again once. One that it takes for nobody's may be good a moment later.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return self._governor.run(
                    self._credentials.identity(),
                    points,
                    lambda: self._send(document, variables, points, seconds_left()),
                    expected=expected,
                    patience=patience,
                )
            except BadCredentials as refused:
                if tries >= (TRIES if refused.transient else 2):
                    raise
                if tries > 1:
                    self._governor.sleep(TRANSIENT_SECONDS)
                self._credentials.renew()

    def _send(self, document: str, variables: Mapping[str, Any], points: int, seconds: float) -> Reply:
        """One request and what it cost: by GitHub's word, else by the formula. ``seconds`` are left for it."""
        if seconds < 1:
            raise OutOfTime("the function's time ended while its request waited")
        spent = 0
        try:
            reply = self._transport.query(self._credentials.token(), document, variables, seconds)
            spent = points if reply.cost is None else reply.cost
        except (TooLarge, Unexplained):
            spent = points
            raise
        finally:
            self.spent = Spent(self.spent.points + spent, self.spent.requests + 1)
        if spent != points:
            count("CostsMispredicted")
            if not self._cost_differed:
                self._cost_differed = True
                problem("GitHub's price differs from the formula's", query=document[:60], formula=points, cost=spent)
        return reply


class _Details:
    """One chunk being read: tasks are packed into requests; what fails is made smaller, down to one connection."""

    def __init__(
        self,
        github: GitHub,
        node_id: str,
        listed: Sequence[Mapping[str, Any]],
        size: float,
        learn: Callable[[float], None],
        seconds_left: Callable[[], float],
        patience: float,
    ) -> None:
        self._github = github
        self._node_id = node_id
        self._size = size
        self._learn = learn
        self._seconds_left = seconds_left
        self._patience = patience
        self._sent = False
        self._readings = {row["number"]: _Reading(row) for row in listed}
        self._failed: dict[int, tuple[str, str]] = {}
        self._gone: list[int] = []
        # Pull requests that failed on their own, in the order in which they did.
        self._culprits: list[int] = []
        self._is_answered = False
        self._held = 0

    def read(self) -> ChunkDetails:
        """Everything, or the error of GitHub as a whole. Raises Retryable where all fails, or nothing but failures come;
        OutOfMemory where it is more than may be held. A single pull request of which that is true has failed."""
        size = self._size
        tasks = [task for number in self._readings for task in self._begin(number)]
        while tasks:
            candidates = [index for index, task in enumerate(tasks) if not task.suspect] or [len(tasks) - 1]
            waiting = [(tasks[index].weight, tasks[index].rounds) for index in candidates]
            chosen = {candidates[index] for index in packing.next_request(waiting, max(1, int(self._size)))}
            following = self._send([task for index, task in enumerate(tasks) if index in chosen])
            tasks = [task for index, task in enumerate(tasks) if index not in chosen] + following
        if self._size != size:
            self._learn(self._size)
        if len(self._failed) == len(self._readings) > 1:
            raise self._all_failed()
        return self._result()

    def _all_failed(self) -> Retryable:
        code, message = next(iter(self._failed.values()))
        return Retryable(f"every pull request of the chunk fails ({code}): {message}")

    def _result(self) -> ChunkDetails:
        merged: Tables = {}
        for number, reading in self._readings.items():
            if number in self._failed or number in self._gone or reading.row is None:
                continue
            merged.setdefault("pull_requests", []).append(reading.row)
            for table, rows in reading.tables.items():
                merged.setdefault(table, []).extend(rows)
        return ChunkDetails(merged, self._failed, self._gone)

    def _begin(self, number: int) -> list[_Task]:
        reading = self._readings[number]
        reading.row, reading.tables, reading.open_tasks = None, {}, 1
        reading.begun += 1
        parts = packing.parts_of(reading.listed, threads=reading.threads)
        return [_Task(number, parts, rounds=packing.load_of(reading.listed).rounds, begun=reading.begun)]

    def _send(self, request: list[_Task]) -> list[_Task]:
        """One request; the tasks that follow from it."""
        request = [task for task in request if self._is_wanted(task)]
        if not request:
            return []
        seconds = self._seconds_left()
        if seconds < LEAST_SECONDS:
            raise OutOfTime("the function's time ends before the chunk is read")
        points = cost.points(sum(task.weight for task in request))
        variables = {"repository": self._node_id}
        # Once something is read of the chunk, giving it back would waste that.
        patience = min(PATIENT_SLEEP_SECONDS, seconds - LEAST_SECONDS) if self._sent else self._patience
        self._sent = True
        try:
            reply = self._github._query(
                self._document(request),
                variables,
                points=points,
                seconds_left=self._seconds_left,
                expected=cost.seconds(detailed=sum(task.node_id is None for task in request)),
                patience=patience,
            )
            below = self._github._repository_node(reply, self._node_id)
            self._refuse_unexplained(request, reply, below)
        except (TooLarge, Unexplained, InvalidQuery) as error:
            return self._divide(request, error) if len(request) > 1 else self._make_smaller(request[0], error)
        self._is_answered = True
        self._held += reply.size
        if self._held > MOST_HELD_BYTES:
            return self._too_much()
        if len(request) >= self._size * 0.8:
            self._size = min(100.0, self._size * GROWTH)
        below = records.clean(below)
        return [following for index, task in enumerate(request) for following in self._take(task, index, reply, below)]

    def _too_much(self) -> list[_Task]:
        text = f"more than {MOST_HELD_BYTES // 1024**2} MB, which this function's memory is not meant to hold"
        if len(self._readings) > 1:
            raise OutOfMemory(f"the pull requests of the chunk hold {text}")
        (number,) = self._readings
        self._failed[number] = ("too_large", f"the pull request holds {text}")
        return []

    @staticmethod
    def _refuse_unexplained(request: Sequence[_Task], reply: Reply, below: Mapping[str, Any]) -> None:
        """Nothing of a reply is used if a null in it has no reason."""
        for index, task in enumerate(request):
            alias = f"n{index}" if task.node_id else f"p{index}"
            node, path = (reply.data, (alias,)) if task.node_id else (below, ("node", alias))
            if node.get(alias) is None:
                if path not in reply.missing:
                    raise Unexplained(f"GitHub gave null for pull request {task.number} without a reason")
                continue
            names = ["comments"] if task.node_id else [part.connection for part in task.parts]
            names += [f"{part.connection}Last" for part in task.parts if part.last]
            for name in names:
                connection = node[alias].get(name)
                if connection is not None and any(each is None for each in connection["nodes"]):
                    raise Unexplained(f"GitHub gave a null node in {name} of pull request {task.number}")
            if "files" in names and node[alias]["files"] is None and node[alias]["changedFiles"]:
                raise Unexplained(f"GitHub counts files of pull request {task.number} and gives none")

    @staticmethod
    def _document(request: Iterable[_Task]) -> str:
        of_repository: list[str] = []
        at_root: list[str] = []
        for index, task in enumerate(request):
            if task.node_id:
                at_root.append(
                    documents.more_review_comments(f"n{index}", task.node_id, task.parent, task.page, task.after or "")
                )
            else:
                asked = " ".join(documents.connection(part, task.after, task.before) for part in task.parts)
                of_repository.append(documents.pull_request(f"p{index}", task.number, f"...pullRequest {asked}"))
        return documents.details(" ".join(of_repository), " ".join(at_root))

    def _divide(self, request: list[_Task], error: BackfillError) -> list[_Task]:
        """A request that failed, in smaller ones. It was too large, unless all of it but one pull request succeeds."""
        size, seen, half = self._size, len(self._culprits), len(request) // 2
        if isinstance(error, TooLarge):
            self._size = max(1.0, min(size, len(request) / 2))
            self._learn(self._size)
        following = []
        while request:
            most = max(1, min(half, int(self._size)))
            following += self._send(request[:most])
            request = request[most:]
        if self._size != size and len(set(self._culprits[seen:])) == 1:
            self._size = size
            self._learn(size)
        return following

    def _make_smaller(self, task: _Task, error: BackfillError) -> list[_Task]:
        """What failed alone, in smaller requests or once more; in the end the pull request has failed."""
        if task.number not in self._culprits:
            self._refuse_outage()
        self._culprits.append(task.number)
        smaller = task.smaller()
        if smaller is not None and (not isinstance(error, Unexplained) or task.tries + 1 >= TRIES):
            self._readings[task.number].open_tasks += len(smaller) - 1
            return [replace(each, suspect=True) for each in smaller]
        if task.tries + 1 < TRIES:
            return [replace(task, tries=task.tries + 1, suspect=True)]
        self._refuse_outage()
        self._failed[task.number] = (_code(error), str(error)[:500])
        if len(self._failed) >= MOST_FAILED and not self._is_answered:
            raise self._all_failed()
        return []

    def _refuse_outage(self) -> None:
        """A pull request is not to blame while GitHub answers nothing else either."""
        try:
            variables = {"repository": self._node_id}
            self._github._query(documents.details("", ""), variables, seconds_left=self._seconds_left)
        except (TooLarge, Unexplained) as error:
            raise Unreachable(f"GitHub answers nothing about the repository: {error}") from error

    def _take(self, task: _Task, index: int, reply: Reply, below: dict[str, Any]) -> list[_Task]:
        """The rows of one task, and what is still to be read of its pull request."""
        reading = self._readings[task.number]
        if not self._is_wanted(task):
            return []
        if task.node_id:
            node = reply.data.get(f"n{index}")
            if not node:
                return self._restart(task.number, "a review vanished while it was read")
            following = self._nested(task.number, records.clean(node), task.parent, task.node_id)
        else:
            node = below.get(f"p{index}")
            if node is None:
                self._gone.append(task.number)
                return []
            row = records.detailed(reading.tables, node)
            if reading.row is not None and reading.row["updated_at"] != row["updated_at"]:
                reading.row = row
                return self._restart(task.number, "the pull request changes faster than it can be read")
            reading.row = row
            if self._grew(reading, row):
                return self._restart(task.number, "the pull request grows faster than it can be read")
            following = [each for part in task.parts for each in self._connection(task, part, node)]
        reading.open_tasks += len(following) - 1
        if reading.open_tasks == 0 and self._lacks_review_comments(reading):
            reading.threads = False
            return self._begin(task.number)
        return following

    def _connection(self, task: _Task, part: Part, node: dict[str, Any]) -> list[_Task]:
        """One page, or two from both ends: the rows, what lies between, and the next pages below the nodes."""
        front = node[part.connection]
        if front is None:
            return []
        total, read = front["totalCount"], task.offset + len(front["nodes"])
        # The ends overlap where the connection is shorter than it was listed; storing takes each row once.
        back = node[f"{part.connection}Last"] if part.last else {"nodes": []}
        end = back["nodes"]
        taken = task.taken + len(end)
        following = self._rows(task, part, front["nodes"], task.offset) + self._rows(task, part, end, total - taken)
        # GitHub's hasNextPage ends the reading, not its count (commits stop at 250); both ends meet by the count.
        left = total - read - taken
        if front["pageInfo"]["hasNextPage"] and (left > 0 or not taken):
            left = max(1, left)
            rest = packing.page_of(part.connection, total, left, part.nested, task.page)
            following.append(
                _Task(
                    task.number,
                    (rest,),
                    after=front["pageInfo"]["endCursor"],
                    before=back["pageInfo"]["startCursor"] if end else task.before,
                    offset=read,
                    taken=taken,
                    page=task.page,
                    rounds=packing.rounds_of(part.connection, total, left),
                    begun=task.begun,
                )
            )
        return following

    def _rows(self, task: _Task, part: Part, nodes: list[dict[str, Any]], offset: int) -> list[_Task]:
        """Nodes as rows, the first of them at ``offset``; and the next pages below them."""
        records.children(self._readings[task.number].tables, task.number, part.connection, nodes, offset)
        if not part.nested:
            return []
        return [each for node in nodes for each in self._nested(task.number, node, part.connection, node["id"])]

    def _nested(self, number: int, node: dict[str, Any], parent: str, node_id: str) -> list[_Task]:
        comments = node["comments"]
        for comment in comments["nodes"]:
            records.review_comment(self._readings[number].tables, number, comment)
        if comments["pageInfo"]["hasNextPage"]:
            cursor = comments["pageInfo"]["endCursor"]
            begun = self._readings[number].begun
            return [_Task(number, after=cursor, node_id=node_id, parent=parent, begun=begun)]
        return []

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


def _code(error: BackfillError) -> str:
    """The word that columns and reports know a failed pull request's reason by."""
    if isinstance(error, Permanent):
        return error.code
    return "too_large" if isinstance(error, TooLarge) else "unexplained"
