"""Twelve workers, two planners, recovery and an operator beside each other on one Postgres and one identity, under every fault.

`pytest -m soak tests/integration/test_sixteen_threads.py`; SOAK_SECONDS (600) is how long, SOAK_SEED which troubles.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backfill.chunk_worker.worker import Worker
from backfill.console import Console
from backfill.errors import ContractViolation, DatabaseUnavailable, Deferred, NotSent, Permanent, Retryable
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.messages import PlanEvent, RecoveryEvent, chunk_message, plan_message
from backfill.model import Dispatch
from backfill.observability import logger
from backfill.planner.run import Planner
from backfill.recovery import Recovery
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.in_process import differences
from local.simulator import Simulator, generate
from tests.integration.ageing import Ageing
from tests.integration.stepped import Broker, Fate, Message, SteppedQueues, SteppedTransport, Trouble

SIZES = {f"octo/r{number}": 40 * number for number in range(1, 7)}
WORKERS, PLANNERS = 12, 2
# What an invocation may end with; a command also tells its person what is wrong.
EXPECTED = (DatabaseUnavailable, ClientError, NotSent)
TOLD = (ContractViolation, Permanent, Retryable, Deferred)
HALF_AN_HOUR, A_DAY = 31 * 60, 25 * 3600
# Mostly past a retry, sometimes past a lease, a threshold or a pause; and the clock of Postgres is set, either way.
JUMPS = [*[40] * 8, *[200] * 4, 1900, 3700, 300, -300]


class Gate:
    """Many pass at once, or one alone: the clock moves while no transaction is open, so that only the product can deadlock."""

    def __init__(self) -> None:
        self._changed, self._inside, self._closed = threading.Condition(), 0, False

    @contextmanager
    def passing(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class GatedDatabase(Database):
    """A connection of one thread. ``trouble`` takes Postgres away in the middle of anything."""

    _is_inside = False

    def __init__(self, url: str, gate: Gate, trouble: Trouble) -> None:
        super().__init__(lambda: url)
        self._gate, self._trouble = gate, trouble

    @contextmanager
    def _usable(self) -> Iterator[Any]:
        if self._trouble.postgres_away:
            self.close()
            raise DatabaseUnavailable("Postgres is away")
        if self._is_inside:
            with super()._usable() as connection:
                yield connection
            return
        with self._gate.passing(), super()._usable() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._gate.passing():
            self._is_inside = True
            try:
                with super().transaction():
                    yield
            finally:
                self._is_inside = False


class Queues(SteppedQueues):
    """One caller at a time."""

    def __init__(self, broker: Broker, lock: threading.RLock) -> None:
        super().__init__(broker, None)
        self._lock = lock

    @contextmanager
    def _point(self) -> Iterator[Fate]:
        with self._lock:
            yield Fate.go


class Soak:
    """The product in threads, and what happens to it."""

    def __init__(self, url: str, simulator: Simulator, seed: int) -> None:
        self.url, self.simulator, self.rng = url, simulator, random.Random(seed)
        self.gate, self.trouble, self.lock, self.broker = Gate(), Trouble(), threading.RLock(), Broker()
        self.db = Database(lambda: url)
        self.ageing = Ageing(self.db, [*JUMPS, HALF_AN_HOUR, A_DAY])
        self.ended, self.looked = threading.Event(), time.monotonic()
        self.failures: list[str] = []
        self.completed: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.edits = 0

    # The product

    def parts(self) -> tuple[GatedDatabase, GitHub, Queues]:
        db = GatedDatabase(self.url, self.gate, self.trouble)
        transport = SteppedTransport(self.simulator, None, self.trouble)
        budget = PostgresBudget(db)
        credentials = Credentials(transport, lambda _: {"token": "ghp_soak"}, budget)
        return (
            db,
            GitHub(transport, credentials, Governor(budget, sleep=lambda _: None)),
            Queues(self.broker, self.lock),
        )

    def work(self) -> None:
        db, github, queues = self.parts()
        worker = Worker(db, github, queues, lambda: 600.0)

        def handle(body: str) -> None:
            try:
                message = chunk_message(body)
            except ContractViolation as violation:
                queues.add_dead_letter(body, str(violation))
                return
            if worker.handle(message, body) == "completed" and isinstance(message, Dispatch):
                with self.lock:
                    self.completed[message.chunk_id] += 1

        self.serve(self.broker.chunks, handle)

    def plan(self) -> None:
        planner = Planner(*self.parts(), lambda: 100.0)
        self.serve(self.broker.plans, lambda body: planner.plan(plan_message(body)))

    def serve(self, queue: list[Message], handle: Callable[[str], Any]) -> None:
        while not self.ended.is_set():
            with self.lock:
                now = time.monotonic()
                self.broker.now += now - self.looked
                self.looked = now
                waiting = self.broker.visible(queue)
                message = waiting[self.rng.randrange(len(waiting))] if waiting else None
                if message is not None and not self.broker.receive(queue, message):
                    continue
            if message is None:
                self.ended.wait(0.02)
                continue
            with self.attempt(EXPECTED):
                handle(message.body)
                with self.lock:
                    self.broker.acknowledge(queue, message)

    def keep_schedules(self) -> None:
        db, github, queues = self.parts()
        planner, recovery = Planner(db, github, queues, lambda: 100.0), Recovery(db, queues)
        while not self.ended.wait(3.0):
            with self.attempt(EXPECTED):
                planner.plan(PlanEvent())
            with self.attempt(EXPECTED):
                recovery.recover(RecoveryEvent())

    def operate(self) -> None:
        console = Console(*self.parts())
        rng = random.Random(self.rng.random())
        while not self.ended.wait(rng.uniform(0.1, 0.6)):
            name = rng.choice(list(SIZES))
            action = rng.choice(["sync"] * 6 + ["pause", "resume"] * 3 + ["add"] * 3 + ["remove", "redrive"])
            event: dict[str, Any] = {"action": action, "repository": name}
            if action == "redrive":
                event = {"action": action}
            elif action == "remove":
                event["delete_data"] = rng.random() < 0.5
            elif action == "sync":
                event["pr_numbers"] = [rng.randint(1, 2 * SIZES[name]) for _ in range(3)]
            with self.attempt((*EXPECTED, *TOLD)):
                console.act(event)
                self.happened[action] += 1

    @contextmanager
    def attempt(self, expected: tuple[type[Exception], ...]) -> Iterator[None]:
        try:
            yield
        except expected as error:
            with self.lock:
                self.happened[type(error).__name__] += 1
        except Exception:
            self.failures.append(traceback.format_exc())

    # What happens to it

    def trouble_it(self) -> None:
        rng = random.Random(self.rng.random())
        events = [self.outage, self.cut, self.jump, self.pause_in_sql, self.resume_in_sql, self.lose_all, self.edit]
        weights = [3, 6, 8, 2, 6, 1, 12]
        while not self.ended.wait(rng.uniform(0.05, 0.4)):
            (event,) = rng.choices(events, weights)
            event(rng)
            self.happened[event.__name__] += 1

    def outage(self, rng: random.Random) -> None:
        setattr(self.trouble, rng.choice(["postgres_away", "github_away", "token_refused"]), True)
        self.ended.wait(rng.uniform(0.05, 1.0))
        self.trouble.end()

    def cut(self, rng: random.Random) -> None:
        others = self.db.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if others:
            self.db.execute("SELECT pg_terminate_backend(:pid)", pid=rng.choice(others)["pid"])

    def jump(self, rng: random.Random) -> None:
        self.pass_time(rng.choice(JUMPS))

    def pass_time(self, seconds: int) -> None:
        """For all; backwards and in part for Postgres alone, whose clock was wrong."""
        with self.gate.alone():
            self.ageing.age(seconds)
        with self.lock:
            self.broker.now += max(0, seconds)

    def pause_in_sql(self, rng: random.Random) -> None:
        self.db.execute(
            "UPDATE progressive_backfill_state AS s SET status = 'paused', pause_reason = 'maintenance' FROM repositories AS r"
            " WHERE r.id = s.repository_id AND r.owner || '/' || r.name = :name",
            name=rng.choice(list(SIZES)),
        )

    def resume_in_sql(self, _: random.Random) -> None:
        self.db.execute("UPDATE progressive_backfill_state SET status = 'active' WHERE status = 'paused'")

    def lose_all(self, _: random.Random) -> None:
        """No function is reached until SQS gives up."""
        with self.lock:
            for queue in (self.broker.chunks, self.broker.plans):
                for message in self.broker.visible(queue):
                    while self.broker.receive(queue, message):
                        pass

    def edit(self, rng: random.Random) -> None:
        """Some pull requests change, or one vanishes."""
        repository = rng.choice(list(self.simulator.repositories.values()))
        numbers = sorted(repository.pull_requests)
        if rng.random() < 0.05:
            repository.pull_requests = {n: v for n, v in repository.pull_requests.items() if n != rng.choice(numbers)}
            return
        for number in rng.sample(numbers, min(10, len(numbers))):
            self.edits += 1
            stamp = f"2030-01-{1 + self.edits // 86400:02d}T{self.edits // 3600 % 24:02d}:{self.edits // 60 % 60:02d}:{self.edits % 60:02d}Z"
            changed = {"title": f"Edit {self.edits}", "updatedAt": stamp}
            repository.pull_requests[number] = {**repository.pull_requests[number], **changed}

    # At rest

    def run(self, seconds: float, tell: Callable[[str], None]) -> None:
        roles = [self.work] * WORKERS + [self.plan] * PLANNERS + [self.keep_schedules, self.operate, self.trouble_it]
        threads = [threading.Thread(target=self.guarded, args=(role,), daemon=True) for role in roles]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        while time.monotonic() - begin < seconds and not self.failures:
            self.ended.wait(min(30.0, seconds))
            tell(f"{time.monotonic() - begin:.0f} s: {dict(self.happened)}, {len(self.completed)} chunks")
        self.ended.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a thread stands still"

    def guarded(self, role: Callable[[], None]) -> None:
        try:
            role()
        except BaseException:
            self.failures.append(traceback.format_exc())

    def come_to_rest(self) -> None:
        self.trouble.end()
        db, github, queues = self.parts()
        console, recovery = Console(db, github, queues), Recovery(db, queues)
        planner, worker = Planner(db, github, queues, lambda: 600.0), Worker(db, github, queues, lambda: 600.0)
        for name in SIZES:
            console.act({"action": "add", "repository": name})
        self.resume_in_sql(self.rng)
        for _ in range(60):
            self.pass_time(HALF_AN_HOUR)
            console.act({"action": "redrive"})
            recovery.recover(RecoveryEvent())
            planner.plan(PlanEvent())
            while waiting := [*self.broker.visible(self.broker.plans), *self.broker.visible(self.broker.chunks)]:
                message = waiting[0]
                if message in self.broker.plans:
                    self.broker.plans.remove(message)
                    planner.plan(plan_message(message.body))
                else:
                    self.broker.chunks.remove(message)
                    worker.handle(chunk_message(message.body), message.body)
            if self.is_at_rest():
                return
            if not self.broker.chunks and not self.broker.plans:
                # What has failed is tried again after a day.
                self.pass_time(A_DAY)

    def is_at_rest(self) -> bool:
        left = self.db.rows(
            "SELECT (SELECT count(*) FROM progressive_backfill_state WHERE status <> 'completed')"
            " + (SELECT count(*) FROM backfill_chunks WHERE status IN ('pending', 'processing'))"
            " + (SELECT count(*) FROM pull_request_gaps) AS n"
        )
        return left == [{"n": 0}] and not differences(self.db, self.simulator)


@pytest.mark.soak
@pytest.mark.timeout(0)
# pg8000 flushes a connection that the soak has cut once more, when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sixteen_threads_lose_nothing_and_never_deadlock(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**32)))
    tell(f"SOAK_SEED={seed} plays the same kinds of trouble")
    logger.setLevel("CRITICAL")
    try:
        with Simulator(generate(3, SIZES), speed=1e6) as simulator:
            soak = Soak(database_url, simulator, seed)
            console = Console(*soak.parts())
            for name in SIZES:
                console.act({"action": "add", "repository": name})
            soak.run(float(os.environ.get("SOAK_SECONDS", "600")), tell)
            assert soak.failures == [], "\n".join(soak.failures[:3])
            soak.come_to_rest()
            assert differences(soak.db, simulator) == []
            assert soak.db.rows("SELECT * FROM pull_request_gaps") == []
            state = soak.db.rows("SELECT status, processed_prs - total_prs AS left FROM progressive_backfill_state")
            assert state == [{"status": "completed", "left": 0}] * len(SIZES)
            assert [chunk for chunk, times in soak.completed.items() if times > 1] == []
            (deadlocks,) = soak.db.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            assert deadlocks == {"deadlocks": 0}
            # The soak has to have met what it is for.
            met = ("outage", "cut", "jump", "lose_all", "pause_in_sql", "sync", "remove", "add", "DatabaseUnavailable")
            assert all(soak.happened[each] for each in met), soak.happened
            tell(json.dumps({**soak.happened, "chunks": len(soak.completed)}))
    finally:
        logger.setLevel("INFO")
