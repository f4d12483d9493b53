"""A stack that lives for hours in seconds: time passes in the database and for its messages, which SQS carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from backfill.errors import ContractViolation
from backfill.messages import RecoveryEvent, chunk_message, plan_message
from backfill.queues import DeadLetter, Source
from backfill.store.connection import Database
from local.in_process import Stack
from local.memory_queue import MemoryQueues
from local.simulator import Simulator
from local.simulator.server import Answer

# As in template.yaml, with the default WorkerTimeout.
VISIBILITY, RECEIVES, LONGEST_DELAY = 720, 5, 900
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

    def answer(self, body: dict[str, Any]) -> Answer:
        self.asked += 1
        return self.reply or super().answer(body)


class Message(str):
    """A body in a queue: visible from ``due`` on, and received so often."""

    due: float = 0.0
    receives: int = 0


class Sqs(MemoryQueues):
    """MemoryQueues with SQS's delays, on a clock of its own; ``deaths`` says why of every dead letter there ever was."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.deaths = 0.0, list[str]()

    def send_chunks(self, dispatches: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
        accepted = []
        for each in dispatches:
            accepted += super().send_chunks([each])
            self._put_off(self.chunks, each[2])
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        super().send_body(body, delay_seconds)
        self._put_off(self.chunks, delay_seconds)

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        super().request_plan(repository_id, delay_seconds)
        self._put_off(self.plans, delay_seconds)

    def bury(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        super().bury(body, reason, source)
        self.deaths.append(reason)

    def receive(self, queue: list[str], handle: Callable[[str], str]) -> str:
        """Handle what is due first as the functions and SQS do: an error brings it back later, the fifth buries it."""
        message = min(queue, key=due)
        queue.remove(message)
        try:
            return handle(message)
        except ContractViolation as violation:
            self.bury(message, str(violation))
            return f"buried: {violation}"
        except (Exception, Killed) as error:
            said = f"raised {type(error).__name__}: {error}"
            receives = getattr(message, "receives", 0) + 1
            if receives < RECEIVES:
                queue.append(message)
                self._put_off(queue, VISIBILITY, receives)
            else:
                self.dead.append(DeadLetter(f"m{len(self.deaths)}", message, "r", None))
                self.deaths.append(said)
            return said

    def _put_off(self, queue: list[str], seconds: float, receives: int = 0) -> None:
        """The newest message of a queue, which a batch may have refused: then there is nothing new."""
        if queue and (receives or not isinstance(queue[-1], Message)):
            message = Message(queue[-1])
            message.due, message.receives = self.now + max(0, min(LONGEST_DELAY, round(seconds))), receives
            queue[-1] = message


def due(message: str) -> float:
    """When a message is visible."""
    return getattr(message, "due", 0.0)


class Deployed(Stack):
    """A Stack with its schedules. ``clock`` is a connection of its own, by which times are moved."""

    queues: Sqs

    def __init__(
        self, db: Database, simulator: Simulator, clock: Database, seconds_left: Callable[[], float] = lambda: 600.0
    ) -> None:
        super().__init__(db, simulator, seconds_left)
        self.queues = Sqs()
        for name in ("planner", "worker", "recovery", "operator"):
            setattr(self, name, replace(getattr(self, name), queues=self.queues))
        self._clock, self._heartbeat, self._recovery = clock, 0.0, 0.0
        clock.execute("SET session_replication_role = replica")  # no trigger notices
        columns = clock.rows(
            "SELECT c.relname AS name, array_agg(a.attname::text) AS columns FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid"
            " WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND atttypid = 'timestamptz'::regtype"
            " AND attgenerated = '' AND NOT attisdropped GROUP BY 1"
        )
        moved = {row["name"]: set(row["columns"]) - _OF_GITHUB.get(row["name"], set()) for row in columns}
        self._times = {name: times for name, times in moved.items() if name not in _GITHUB_ALONE}

    def pass_time(self, seconds: float, *tables: str) -> None:
        """Everything that the system wrote down (in these tables) lies so much further back."""
        moves: list[tuple[str, dict[str, Any]]] = []
        for table in tables or self._times:
            sets = ", ".join(f"{each} = {each} - make_interval(secs => :s)" for each in self._times[table])
            moves.append((f"UPDATE {table} SET {sets}", {"s": float(seconds)}))
        self._clock.pipeline(moves)
        self.queues.now += 0 if tables else seconds

    def live(self, hours: float, *, most: int = 1000, heartbeats: bool = True, recovery: bool = True) -> list[str]:
        """So long, or until ``most`` messages were handled, a second each: what became of them."""
        end, outcomes = self.queues.now + hours * 3600, list[str]()
        while len(outcomes) < most:
            events = [(due(each), "plans") for each in self.queues.plans]
            events += [(due(each), "chunks") for each in self.queues.chunks]
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
                    self.recovery.recover(RecoveryEvent())
            else:
                queue, handle = (self.queues.plans, self._plan) if kind == "plans" else (self.queues.chunks, self._work)
                outcomes.append(self.queues.receive(queue, handle))
                self.pass_time(1)
        return outcomes

    def _plan(self, body: str) -> str:
        self.planner.plan(plan_message(body))
        return "planned"

    def _work(self, body: str) -> str:
        return self.worker.handle(chunk_message(body), body)


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
