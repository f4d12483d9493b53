"""Planners, workers and recoveries that a test moves from commit to commit and from send to send.

Each works in a thread of its own, and one thread runs at a time: at every statement, transaction, send and request an
actor stops, and the test decides what becomes of it. So a run is repeated exactly by the same decisions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from botocore.exceptions import ClientError

from backfill.errors import DatabaseUnavailable
from backfill.github.errors import Unreachable
from backfill.github.transport import Transport
from backfill.messages import dispatch_body, plan_body
from backfill.model import Dispatch, Waiting
from backfill.queues import DeadLetter, Queues, Source
from backfill.store.connection import Database
from local.simulator import Simulator

# An actor waits without end, which must not happen: one runs at a time, and it holds no lock where it stops.
BLOCKED_SECONDS = 60
VISIBILITY_SECONDS = 720
MOST_RECEIVES = 3


class Fate(StrEnum):
    """What becomes of the commit, the send or the request before which an actor stands."""

    go = "go"
    crash_before = "crash before"
    crash_after = "crash after"
    fail_before = "fail before"
    # It happened, and the answer was lost: a COMMIT with unknown result.
    fail_after = "fail after"
    # SendMessageBatch takes every other message; GitHub answers with a secondary limit.
    partly = "partly"


@dataclass
class Trouble:
    """What is out of order for everybody, until somebody mends it."""

    postgres_away: bool = False
    github_away: bool = False
    token_refused: bool = False

    def end(self) -> None:
        self.postgres_away = self.github_away = self.token_refused = False


class Killed(BaseException):
    """The process ends here: no handler may catch it, nothing may happen after it."""


class Actor:
    """One invocation: ``work`` runs in a thread until it ends, raises or is killed."""

    def __init__(self, name: str, db: SteppedDatabase, work: Callable[[Actor], Any]) -> None:
        self.name, self.db = name, db
        self.seconds_left = 600.0
        self.killed = self.ended = False
        self.failure: BaseException | None = None
        self.at = "start"
        self._fate = Fate.go
        self._mine, self._tests = threading.Semaphore(0), threading.Semaphore(0)
        self._work = work
        db.actor = self
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def advance(self, fate: Fate = Fate.go) -> None:
        """Let it go past the point where it stands, to the next one or to its end."""
        self._fate = fate
        self._mine.release()
        if not self._tests.acquire(timeout=BLOCKED_SECONDS):
            raise AssertionError(f"{self.name} does not come on from {self.at}")
        if self.ended:
            self._thread.join()
            self.db.actor = None

    def _run(self) -> None:
        self._mine.acquire()
        try:
            self._work(self)
        except BaseException as failure:
            self.failure = failure
            self.db.close()
        self.ended = True
        self._tests.release()

    @contextmanager
    def point(self, at: str, error: Callable[[], Exception]) -> Iterator[Fate]:
        """Stop before the block; what follows is the test's decision."""
        fate = self.stop(at)
        if fate is Fate.crash_before:
            self.die()
        if fate is Fate.fail_before:
            raise error()
        yield fate
        self.after(fate, error)

    def stop(self, at: str) -> Fate:
        """Wait for the test's decision."""
        if self.killed:
            raise Killed
        self.at = at
        self._tests.release()
        self._mine.acquire()
        return self._fate

    def after(self, fate: Fate, error: Callable[[], Exception]) -> None:
        """What comes after something that happened."""
        if fate is Fate.crash_after:
            self.die()
        if fate is Fate.fail_after:
            raise error()

    def die(self) -> None:
        self.killed = True
        raise Killed


class SteppedDatabase(Database):
    """Stops its actor before each statement outside a transaction, and before each transaction as a whole."""

    actor: Actor | None = None
    _inside = False

    def __init__(self, url: Callable[[], str], trouble: Trouble) -> None:
        super().__init__(url)
        self._trouble = trouble

    @contextmanager
    def _usable(self) -> Iterator[Any]:
        if self.actor is None or self._inside:
            self._answers()
            with super()._usable() as connection:
                yield connection
            return
        with self.actor.point("statement", self._lost):
            self._answers()
            with super()._usable() as connection:
                yield connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.actor is None:
            with super().transaction():
                yield
            return
        fate = self.actor.stop("transaction")
        self._answers()
        self._inside = True
        try:
            with super().transaction():
                yield
                # All its statements are done, and the COMMIT does not come.
                if fate is Fate.crash_before:
                    self.actor.die()
                if fate in (Fate.fail_before, Fate.partly):
                    raise self._lost()
        finally:
            self._inside = False
        self.actor.after(fate, self._lost)

    def _answers(self) -> None:
        if self._trouble.postgres_away:
            raise self._lost()

    def _lost(self) -> DatabaseUnavailable:
        self.close()
        return DatabaseUnavailable("the test cut the connection")


class SteppedTransport(Transport):
    """Asks the simulator without sockets; GitHub's failures come as GitHub sends them."""

    def __init__(self, simulator: Simulator, actor: Actor | None, trouble: Trouble) -> None:
        super().__init__(simulator.url)
        self._simulator, self._actor, self._trouble = simulator, actor, trouble

    def _post(
        self, url: str, token: str, body: Mapping[str, Any], seconds: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._actor is None:
            return self._asked(body)
        with self._actor.point("github", lambda: Unreachable("the test cut the network")) as fate:
            if fate is Fate.partly:
                return 403, {"retry-after": "60"}, b'{"message": "You have exceeded a secondary rate limit."}'
            return self._asked(body)

    def _asked(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        if self._trouble.github_away:
            raise Unreachable("GitHub is away")
        if self._trouble.token_refused:
            return 401, {}, b'{"message": "Bad credentials"}'
        answer = self._simulator.answer(dict(body))
        return answer.status, answer.headers, answer.body


@dataclass
class Message:
    """A message of a queue, visible from ``visible_at`` on."""

    number: int
    body: str
    visible_at: float
    receives: int = 0
    was_redriven: bool = False


@dataclass
class Broker:
    """The three queues on a clock of their own: at least once, in no order, with delays, redelivery and a redrive."""

    now: float = 0.0
    chunks: list[Message] = field(default_factory=list)
    plans: list[Message] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    # Messages that the product sent, and those of them that it sent with a delay.
    sent: int = 0
    waits: int = 0
    # Every dispatch that was accepted, for the question whether what is called sent was sent.
    accepted: set[tuple[str, str]] = field(default_factory=set)
    # Called with a dispatch before it is accepted, and with a dead letter before it is deleted.
    on_send: Callable[[str, str], None] = lambda *_: None
    on_delete: Callable[[DeadLetter], None] = lambda _: None
    _numbers: int = 0

    def put(self, queue: list[Message], body: str, delay: float = 0, *, was_redriven: bool = False) -> None:
        self._numbers += 1
        queue.append(Message(self._numbers, body, self.now + min(delay, 900), was_redriven=was_redriven))

    def send(self, queue: list[Message], body: str, delay: float = 0, *, was_redriven: bool = False) -> None:
        """A message of the product itself."""
        self.sent += 1
        self.waits += round(delay) > 0
        self.put(queue, body, delay, was_redriven=was_redriven)

    def visible(self, queue: list[Message]) -> list[Message]:
        return [each for each in queue if each.visible_at <= self.now]

    def receive(self, queue: list[Message], message: Message) -> bool:
        """Hide a message for its visibility timeout; False if it goes to the dead-letter queue instead."""
        message.receives += 1
        if message.receives > MOST_RECEIVES:
            queue.remove(message)
            source = Source.PLANS if queue is self.plans else Source.CHUNKS
            self._numbers += 1
            self.dead.append(
                DeadLetter(f"m{self._numbers}", message.body, "receipt", None, source, message.was_redriven)
            )
            return False
        message.visible_at = self.now + VISIBILITY_SECONDS
        return True

    def acknowledge(self, queue: list[Message], message: Message) -> None:
        if message in queue:
            queue.remove(message)

    def add_dead_letter(self, body: str, reason: str, source: Source) -> None:
        self._numbers += 1
        self.dead.append(DeadLetter(f"m{self._numbers}", body, "receipt", reason, source))


class SteppedQueues(Queues):
    """The Queues of one actor: before each call to SQS it stops."""

    def __init__(self, broker: Broker, actor: Actor | None) -> None:
        super().__init__("", "", "")
        self._broker, self._actor = broker, actor
        # Plan requests that were sent without delay.
        self.hasty_plans = 0

    def send_chunks(self, waiting: Iterable[Waiting]) -> list[Dispatch]:
        accepted = []
        with self._point() as fate:
            for index, each in enumerate(waiting):
                chunk, dispatch = each.dispatch.chunk_id, each.dispatch.dispatch_id
                if fate is Fate.partly and index % 2 == 0:
                    continue
                self._broker.on_send(chunk, dispatch)
                self._broker.accepted.add((chunk, dispatch))
                self._broker.send(self._broker.chunks, dispatch_body(each.dispatch), each.wait_seconds)
                accepted.append(each.dispatch)
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        with self._point():
            self._broker.send(self._broker.chunks, body, delay_seconds)

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        with self._point():
            self._broker.send(self._broker.plans, plan_body(repository_id), delay_seconds)
            self.hasty_plans += round(delay_seconds) == 0

    def add_dead_letter(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        with self._point():
            self._broker.add_dead_letter(body, reason, source)

    def redrive(self, letter: DeadLetter) -> None:
        with self._point():
            queue = self._broker.plans if letter.queue is Source.PLANS else self._broker.chunks
            self._broker.send(queue, letter.body, was_redriven=True)

    def dead_letters(self, most: int, *, hidden_seconds: int = 60) -> list[DeadLetter]:
        with self._point():
            return self._broker.dead[:most]

    def delete_dead_letter(self, letter: DeadLetter) -> None:
        with self._point():
            if letter in self._broker.dead:
                self._broker.on_delete(letter)
                self._broker.dead.remove(letter)

    def chunks_waiting(self) -> int:
        with self._point():
            return len(self._broker.chunks)

    def dead_letters_waiting(self) -> int:
        with self._point():
            return len(self._broker.dead)

    @contextmanager
    def _point(self) -> Iterator[Fate]:
        if self._actor is None:
            yield Fate.go
            return
        with self._actor.point("sqs", _refused) as fate:
            yield fate


def _refused() -> ClientError:
    return ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "the test's doing"}}, "SendMessage")
