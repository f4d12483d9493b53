"""A stack that lives for hours in seconds: time moves in the database and for the messages in SQS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from backfill.errors import ContractViolation
from backfill.messages import plan_message
from backfill.queues import Source
from backfill.store.connection import Database
from local.in_process import CHUNK_WORKER, PLANNER, Stack
from local.memory_queue import MemoryQueues
from local.simulator import Simulator
from local.simulator.server import Answer
from local.simulator.viewers import EVERYBODY, Viewer
from local.sqs import Message, Queue
from local.template import Deployment

# As in template.yaml.
HEARTBEAT, RECOVERY = 1800, 7200
# Times that GitHub tells do not move.
_OF_GITHUB = {
    "pull_requests": {"created_at", "updated_at", "closed_at", "merged_at", "detail_updated_at"},
    "repositories": {"github_created_at"},
    "progressive_backfill_state": {"updates_watermark", "scan_until"},
}
_GITHUB_ALONE = {"reviews", "comments", "commits", "contributors"}


class Killed(BaseException):
    """The process ends here: no handler may catch it, nothing may happen after it."""


class GitHub(Simulator):
    """``reply`` is sent in place of every answer while it is set; ``asked`` counts requests."""

    reply: Answer | None = None
    asked: int = 0

    def __enter__(self) -> GitHub:
        super().__enter__()
        return self

    def answer(self, body: dict[str, Any], viewer: Viewer = EVERYBODY) -> Answer:
        self.asked += 1
        return self.reply or super().answer(body, viewer)


class Sqs(MemoryQueues):
    """MemoryQueues; ``deaths`` says why of every dead letter there ever was."""

    def __init__(self, settings: Deployment | None = None) -> None:
        super().__init__(settings=settings)
        self.deaths = list[str]()
        self._said: dict[str, str] = {}

    def add_dead_letter(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        super().add_dead_letter(body, reason, source)
        self.deaths.append(reason)

    def deliver(self, function: str, message: Message, handle: Callable[[str], str]) -> str:
        """What became of a message. An error brings it back later; received too often, it is a dead letter."""
        outcomes = list[str]()
        try:
            self.functions.deliver(
                function, lambda event: outcomes.append(handle(event["Records"][0]["body"])), message
            )
        except (Exception, Killed) as error:
            said = self._said[message.message_id] = f"raised {type(error).__name__}: {error}"
            return said
        if not outcomes:
            self.deaths.append(self._said[message.message_id])
        return outcomes[0] if outcomes else f"dead: {self.deaths[-1]}"


class Deployed(Stack):
    """A Stack with its schedules. ``clock`` is a connection of its own, by which times are moved."""

    queues: Sqs

    def __init__(
        self,
        db: Database,
        simulator: Simulator,
        clock: Database,
        seconds_left: Callable[[], float] = lambda: 600.0,
        settings: Deployment | None = None,
    ) -> None:
        super().__init__(db, simulator, seconds_left, Sqs(settings))
        self._clock, self._heartbeat, self._recovery = clock, 0.0, 0.0
        clock.execute("SET session_replication_role = replica")  # no trigger notices
        columns = clock.rows(
            "SELECT c.relname AS name, array_agg(a.attname::text) AS columns FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid"
            " WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND atttypid = 'timestamptz'::regtype"
            " AND attgenerated = '' AND NOT attisdropped AND attname <> 'hour' GROUP BY 1"
        )
        moved = {row["name"]: set(row["columns"]) - _OF_GITHUB.get(row["name"], set()) for row in columns}
        self.times = {name: times for name, times in moved.items() if name not in _GITHUB_ALONE}

    def pass_time(self, seconds: float, *tables: str) -> None:
        """Everything that the system wrote down (in these tables) lies so much further back."""
        moves: list[tuple[str, dict[str, Any]]] = []
        for table in tables or self.times:
            sets = ", ".join(f"{each} = {each} - make_interval(secs => :s)" for each in self.times[table])
            moves.append((f"UPDATE {table} SET {sets}", {"s": float(seconds)}))
        self._clock.pipeline(moves)
        self.queues.now += 0 if tables else seconds

    def live(self, hours: float, *, most: int = 1000, heartbeats: bool = True, recovery: bool = True) -> list[str]:
        """So long, or until ``most`` messages were handled, a second each: what became of them."""
        end, outcomes = self.queues.now + hours * 3600, list[str]()
        while len(outcomes) < most:
            waiting = self.queues.next_due()
            events = [(max(waiting[1].due, self.queues.now), "message")] if waiting else []
            events += [(self._heartbeat + HEARTBEAT, "heartbeat")] if heartbeats else []
            events += [(self._recovery + RECOVERY, "recovery")] if recovery else []
            when, kind = min(events, default=(end, ""))
            if when >= end:
                self.pass_time(max(0.0, end - self.queues.now))
                break
            self.pass_time(max(0.0, when - self.queues.now))
            if kind == "heartbeat":
                self._heartbeat = self.queues.now
                with suppress(Exception):
                    self.heartbeat()
            elif kind == "recovery":
                self._recovery = self.queues.now
                with suppress(Exception):
                    self.recover()
            elif waiting is not None:
                outcomes.append(self._deliver_due(*waiting))
                self.pass_time(1)
        self.assert_brake()
        return outcomes

    def _deliver_due(self, queue: Queue, message: Message) -> str:
        if queue is self.queues.plans:
            return self.queues.deliver(PLANNER, message, lambda body: self._handled(self.plan_body, body, Source.PLANS))
        return self.queues.deliver(CHUNK_WORKER, message, lambda body: self._handled(self._worked, body, Source.CHUNKS))

    def plan_body(self, body: str) -> str:
        """One planner run by a message."""
        self._planned(plan_message(body))
        return "planned"

    def _handled(self, handle: Callable[[str], str], body: str, source: Source) -> str:
        """As the functions do: a message that breaks its contract is a dead letter."""
        try:
            return handle(body)
        except ContractViolation as violation:
            self.queues.add_dead_letter(body, str(violation), source)
            return f"dead letter: {violation}"


class Contended(Database):
    """``rival`` is called once, after the next transaction has its snapshot: somebody else commits meanwhile."""

    rival: Callable[[], object] | None = None
    _is_inside = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            self._is_inside = True
            try:
                yield
            finally:
                self._is_inside = False

    def pipeline(self, statements: Any) -> Any:
        rows = super().pipeline(statements)
        if self._is_inside and self.rival is not None:
            rival, self.rival = self.rival, None
            rival()
        return rows
