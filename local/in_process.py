"""Planner, worker, recovery and console in one process, over a real Postgres, queues in memory and a simulator."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from backfill.chunk_worker.worker import Worker
from backfill.console import Console
from backfill.forecast.forecast import Forecaster
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.transport import Transport
from backfill.messages import PlanEvent, RecoveryEvent, chunk_message, plan_message
from backfill.planner.run import Planner
from backfill.recovery import Recovery
from backfill.store.budget import ObservedBudget, PostgresBudget
from backfill.store.connection import Database
from local.freezing import Container
from local.invocations import RecursiveInvocation
from local.memory_queue import MemoryQueues
from local.movement import Movement
from local.simulator import Simulator, timeline
from local.simulator.resolvers import ENDS
from local.sqs import Message, Queue

Row = dict[str, Any]
# Their logical ids in template.yaml.
PLANNER, CHUNK_WORKER, RECOVERY, CONSOLE = (
    "PlannerFunction",
    "ChunkWorkerFunction",
    "RecoveryFunction",
    "ConsoleFunction",
)


class Stack:
    """Everything that works on one database. Planner runs ask ``seconds_left``."""

    def __init__(
        self,
        db: Database,
        simulator: Simulator,
        seconds_left: Callable[[], float] = lambda: 600.0,
        queues: MemoryQueues | None = None,
        secret: Mapping[str, str] | None = None,
    ) -> None:
        # GitHub's clock, which a test may put forward.
        transport = Transport(simulator.url, clock=simulator.clock)

        def github(budget: PostgresBudget) -> GitHub:
            credentials = Credentials(transport, lambda _: secret or {"token": "ghp_test"}, budget if secret else None)
            return GitHub(transport, credentials, Governor(budget, sleep=lambda _: None))

        self.github, observing = github(PostgresBudget(db)), github(ObservedBudget(db))
        self.db, self.simulator, self.queues = db, simulator, queues or MemoryQueues()
        self.planner = Planner(db, self.github, self.queues, seconds_left)
        self.forecaster = Forecaster(db, observing, seconds_left)
        self.worker = Worker(db, self.github, self.queues, lambda: 600.0)
        self.recovery = Recovery(db, self.queues)
        self.console = Console(db, self.github, self.queues)
        self.container = Container(db, transport)
        self.moved = Movement()
        self._created = 0

    def run(
        self, *, most: int = 2000, rng: random.Random | None = None, between: Callable[[], object] | None = None
    ) -> list[str]:
        """Deliver messages as they become visible until both queues are empty; the outcome of each chunk message.

        With ``rng`` chunk messages come in any order, and some twice. ``between`` runs after every message.
        """
        outcomes: list[str] = []
        for _ in range(most):
            due = self.queues.next_due(rng)
            if due is None:
                self.assert_brake()
                return outcomes
            outcomes += self.deliver(*due, rng)
            if between is not None:
                between()
        raise AssertionError(f"not at rest after {most} messages: {outcomes[-20:]}")

    def deliver(self, queue: Queue, message: Message, rng: random.Random | None = None) -> list[str]:
        """Deliver one message; the outcome of a chunk message."""
        if queue is not self.queues.plans:
            return [self._work(message, rng)]
        self._plan(message)
        return []

    def plan_once(self) -> Row:
        """Handle the oldest plan request."""
        return self._plan(self.queues.plans.messages()[0])

    def work_once(self, rng: random.Random | None = None) -> str:
        """Handle the oldest chunk message, or any."""
        waiting = self.queues.chunks.messages()
        return self._work(rng.choice(waiting) if rng else waiting[0], rng)

    def _plan(self, message: Message) -> Row:
        reports: list[Row] = []
        self._deliver(PLANNER, message, lambda body: reports.append(self._planned(plan_message(body))))
        return reports[0] if reports else {"backfills": []}

    def _work(self, message: Message, rng: random.Random | None) -> str:
        if rng and rng.random() < 0.2:
            self.queues.chunks.duplicate(message)
        outcomes: list[str] = []
        self._deliver(CHUNK_WORKER, message, lambda body: outcomes.append(self._worked(body)))
        return outcomes[0] if outcomes else "dropped"

    def _deliver(self, function: str, message: Message, handle: Callable[[str], None]) -> None:
        """Raises a handler's error; its message returns after the visibility timeout."""
        self.queues.pass_until(message)
        with suppress(RecursiveInvocation):
            self.queues.functions.deliver(function, lambda event: handle(event["Records"][0]["body"]), message)

    def _worked(self, body: str) -> str:
        before = self.queues.sent, self.queues.delayed
        outcome = self.worker.handle(chunk_message(body), body)
        self.moved.ended += outcome in ("completed", "failed")
        self.moved.paused += outcome == "paused"
        self._count(before)
        return outcome

    def _planned(self, request: PlanEvent) -> Row:
        before = self.queues.sent, self.queues.delayed
        report = self.planner.plan(request).as_json()
        self.moved.pages += sum(row["pages"] for row in report["backfills"])
        self.moved.recovered += report["dead_letters"]
        self._count(before)
        return report

    def _count(self, before: tuple[int, int]) -> None:
        """The messages of a run; one that raised is not counted."""
        (row,) = self.db.rows("SELECT COALESCE(sum(next_chunk_number - 1), 0) AS n FROM progressive_backfill_state")
        # A backfill that is removed takes its number with it.
        self.moved.created += max(0, int(row["n"]) - self._created)
        self._created = int(row["n"])
        self.moved.messages += self.queues.sent - before[0]
        self.moved.waits += self.queues.delayed - before[1]

    def assert_brake(self) -> None:
        """Assert that the work moved explains the number of messages."""
        if self.moved.messages > self.moved.most_messages:
            raise AssertionError(
                f"{self.moved.messages} messages, {self.moved.most_messages} at the most: {self.moved}"
            )

    def add(self, name: str, **fields: Any) -> Row:
        """``backfill add``."""
        with self.queues.functions.invocation(CONSOLE):
            return self.console.act({"action": "add", "repository": name, **fields})

    def heartbeat(self) -> Row:
        """Run the heartbeat, as its schedule does."""
        self.moved.heartbeats += 1
        with self.queues.functions.invocation(PLANNER):
            return self._planned(PlanEvent())

    def recover(self, request: RecoveryEvent | None = None) -> Row:
        """Run recovery, as its schedule does."""
        before = self.queues.sent, self.queues.delayed
        with self.queues.functions.invocation(RECOVERY):
            report = self.recovery.recover(request or RecoveryEvent())
        self.moved.recovered += sum(report[each] for each in ("requeued", "lost", "sent", "dead_letters_matched"))
        self._count(before)
        return report

    def state(self, name: str | None = None) -> Row:
        """The backfill of a repository, or the only one."""
        row = self.db.one(
            "SELECT s.* FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id"
            " WHERE CAST(:name AS text) IS NULL OR r.owner || '/' || r.name = :name",
            name=name,
        )
        if row is None:
            raise LookupError(f"no backfill of {name}")
        return row

    def progress(self, name: str) -> Row:
        """Its row of backfill_progress."""
        row = self.db.one("SELECT * FROM backfill_progress WHERE repository = :name", name=name)
        if row is None:
            raise LookupError(f"no backfill of {name}")
        return row

    def repository(self, name: str) -> Any:
        """The simulator's content of one repository."""
        found = self.simulator.repository(name)
        if found is None:
            raise LookupError(f"the simulator has no {name}")
        return found

    def assert_equals_github(self) -> None:
        """Every repository that is tracked is stored as the simulator holds it."""
        found = differences(self.db, self.simulator) or self.db.rows("SELECT * FROM pull_request_gaps")
        if found:
            raise AssertionError(f"the database differs from GitHub: {found}")


def differences(db: Database, simulator: Simulator) -> list[str]:
    """The differences between the database and GitHub for the tracked repositories, table by table."""
    shown = simulator.shown_id
    tracked = {row["node_id"] for row in db.rows("SELECT node_id FROM repositories")}
    held = [each for each in simulator.repositories.values() if shown(each.node["id"]) in tracked]
    pulls = [(shown(each.node["id"]), number, node) for each in held for number, node in each.pull_requests.items()]
    # A label keeps the form of its node id under which it came first.
    first = {row["other_node_id"]: row["node_id"] for row in db.rows("SELECT node_id, other_node_id FROM labels")}
    expected: dict[str, set[tuple[Any, ...]]] = {
        "SELECT node_id, owner || '/' || name FROM repositories": {
            (shown(each.node["id"]), each.full_name) for each in held
        },
        "SELECT r.node_id, number, title, body, state, to_char(p.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        " FROM pull_requests AS p JOIN repositories AS r ON r.id = repository_id WHERE gone_at IS NULL": {
            (repository, number, node["title"], node["body"], node["state"], node["updatedAt"])
            for repository, number, node in pulls
        },
        _children("c.node_id, c.state", "reviews"): {
            (repository, number, shown(each["id"]), each["state"])
            for repository, number, node in pulls
            for each in node["reviews"]
        },
        _children("c.node_id, c.body", "comments"): {
            (repository, number, shown(each["id"]), each["body"].replace("\x00", ""))
            for repository, number, node in pulls
            for each in [*node["comments"], *(c for review in node["reviews"] for c in review["comments"])]
        },
        _children("c.oid, c.position", "commits"): {
            (repository, number, each["commit"]["oid"], position)
            for repository, number, node in pulls
            for position, each in enumerate(node["commits"][: ENDS["commits"]])
        },
        _children("c.path, c.additions", "files"): {
            (repository, number, each["path"], each["additions"])
            for repository, number, node in pulls
            for each in node["files"]
        },
        _children("c.label_id, c.repository_id IS NULL", "pull_request_labels"): {
            (repository, number, first.get(shown(each["id"]), shown(each["id"])), False)
            for repository, number, node in pulls
            for each in node["labels"]
        },
    }
    expected |= _timelines(db, pulls, shown)
    found = []
    for statement, rows in expected.items():
        stored = {tuple(row.values()) for row in db.rows(statement)}
        if stored != rows:
            found.append(f"{statement}: lacks {sorted(rows - stored)[:3]}, has too much {sorted(stored - rows)[:3]}")
    return found


def _timelines(
    db: Database, pulls: list[tuple[str, int, Row]], shown: Callable[[str], str]
) -> dict[str, set[tuple[Any, ...]]]:
    """Timelines and the state of threads, of the pull requests that were read with them."""
    read = {
        (row["node_id"], row["number"])
        for row in db.rows(
            "SELECT r.node_id, number FROM pull_requests JOIN repositories AS r ON r.id = repository_id"
            " WHERE timeline_updated_at IS NOT NULL AND gone_at IS NULL"
        )
    }
    its = [each for each in pulls if each[:2] in read]
    logins = "(SELECT login FROM contributors WHERE node_id = c.{}_id)"
    events = f"c.position, c.node_id, upper(c.kind) || '_EVENT', c.created_at, {logins.format('actor')}, c.subject"
    threads = f"c.position, c.node_id, c.is_resolved, {logins.format('resolved_by')}, c.path"
    return {
        _children(events, "timeline_events"): {
            (
                repository,
                number,
                position,
                shown(each["id"]),
                timeline.item_type(each),
                datetime.fromisoformat(each["createdAt"]),
                (each["actor"] or {}).get("login"),
                _subject(each),
            )
            for repository, number, node in its
            for position, each in enumerate(node["timelineItems"])
        },
        _children(threads, "review_threads"): {
            (
                repository,
                number,
                position,
                shown(each["id"]),
                each["isResolved"],
                (each["resolvedBy"] or {}).get("login"),
                each["path"],
            )
            for repository, number, node in its
            for position, each in enumerate(node["reviewThreads"])
        },
    }


def _subject(event: Row) -> str | None:
    if "label" in event:
        return str(event["label"]["name"])
    person = event.get("requestedReviewer") or event.get("assignee") or {}
    found: str | None = person.get("combinedSlug" if person.get("__typename") == "Team" else "login")
    return found


def _children(columns: str, table: str) -> str:
    return (
        f"SELECT r.node_id AS repository, p.number, {columns} FROM {table} AS c JOIN repositories AS r ON r.id = c.repository_id"
        " JOIN pull_requests AS p ON p.repository_id = c.repository_id AND p.number = c.pull_request_number"
        " AND p.gone_at IS NULL"
    )
