"""Many workers at once on this machine: each a process with its own connection and wiring, as containers have, and one queue."""

from __future__ import annotations

import heapq
import json
import logging
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.managers import BaseManager
from threading import Condition
from typing import Any

from backfill.chunk_processing import Worker
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.transport import Transport
from backfill.messages import chunk_message, plan_message
from backfill.observability import logger, metrics
from backfill.operating import Operator
from backfill.planning import Planner
from backfill.queues import DeadLetter, Source
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database

# What the template gives a function, and after how long a message shows again whose handling failed.
FUNCTION_SECONDS = 120.0
VISIBLE_AGAIN_SECONDS = 2.0
CHUNKS, PLANS, DEAD = "chunks", "plans", "dead"


class Mailbox:
    """Messages of several queues, each due after its delay; shared by all processes through a manager."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[float, int, str]]] = {CHUNKS: [], PLANS: [], DEAD: []}
        self._sent = 0
        self._ended = False
        self._changed = Condition()
        self._problems: list[str] = []

    def send(self, queue: str, body: str, delay_seconds: float) -> None:
        """Due after the delay, at the latest after SQS's 15 minutes."""
        with self._changed:
            self._sent += 1
            heapq.heappush(self._waiting[queue], (time.monotonic() + min(900.0, delay_seconds), self._sent, body))
            self._changed.notify_all()

    def receive(self, queue: str) -> str | None:
        """The next message that is due, waiting for it; None at the end of the fleet."""
        with self._changed:
            while not self._ended:
                waiting = self._waiting[queue]
                now = time.monotonic()
                if waiting and waiting[0][0] <= now:
                    return heapq.heappop(waiting)[2]
                self._changed.wait(waiting[0][0] - now if waiting else None)
            return None

    def count(self, queue: str) -> int:
        """Messages that wait, due or not."""
        with self._changed:
            return len(self._waiting[queue])

    def note(self, problem: str) -> None:
        """An exception that no use case handled."""
        with self._changed:
            self._problems.append(problem)

    def problems(self) -> list[str]:
        """What was noted."""
        with self._changed:
            return list(self._problems)

    def end(self) -> None:
        """Nobody receives anything any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Queues:
    """The use cases' queues over a mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def send_chunks(self, dispatches: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
        accepted = []
        for chunk, dispatch, delay in dispatches:
            body = json.dumps({"schema_version": 1, "chunk_id": chunk, "dispatch_id": dispatch})
            self._mailbox.send(CHUNKS, body, delay)
            accepted.append((chunk, dispatch))
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        self._mailbox.send(CHUNKS, body, delay_seconds)

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        named = {"repository_id": repository_id} if repository_id else {}
        self._mailbox.send(PLANS, json.dumps({"schema_version": 1, **named}), delay_seconds)

    def bury(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        self._mailbox.send(DEAD, body, 0)

    def redrive(self, letter: DeadLetter) -> None:
        raise NotImplementedError("recovery has no part in a fleet")

    def dead_letters(self, most: int, *, hidden_seconds: int = 60) -> list[DeadLetter]:
        raise NotImplementedError("recovery has no part in a fleet")

    def delete_dead_letter(self, letter: DeadLetter) -> None:
        raise NotImplementedError("recovery has no part in a fleet")

    def chunks_waiting(self) -> int:
        return self._mailbox.count(CHUNKS)

    def dead_letters_waiting(self) -> int:
        return self._mailbox.count(DEAD)


class _Manager(BaseManager):
    pass


_mailbox = Mailbox()
_Manager.register("mailbox", callable=lambda: _mailbox)


class Fleet:
    """``with Fleet(database_url, api_url, workers=16) as fleet: fleet.add("octo/hello"); fleet.wait(…)``.

    A process of its own forks the workers: it has no threads, and has imported what they need once.
    """

    def __init__(
        self, database_url: str, api_url: str, *, workers: int, secret: Mapping[str, str] | None = None
    ) -> None:
        self._wiring: dict[str, Any] = {
            "database_url": database_url,
            "api_url": api_url,
            "secret": secret or {"token": "ghp_fleet"},
        }
        self._workers = workers
        self._db = Database(lambda: database_url)

    def __enter__(self) -> Fleet:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.fleet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - asked for above
        self._process.stdin.write(json.dumps({"workers": self._workers, "wiring": self._wiring}).encode() + b"\n")
        self._process.stdin.flush()
        address, key = json.loads(self._process.stdout.readline())
        manager = _Manager(tuple(address), bytes.fromhex(key))
        manager.connect()
        self._mailbox: Mailbox = manager.mailbox()  # type: ignore[attr-defined] # made by register
        github = _github(self._db, self._wiring["api_url"], self._wiring["secret"])
        self._operator = Operator(self._db, github, Queues(self._mailbox))
        return self

    def __exit__(self, *_: object) -> None:
        self._mailbox.end()
        self._process.communicate(timeout=FUNCTION_SECONDS)
        self._db.close()

    def add(self, repository: str) -> None:
        """Track a repository; the planner begins by itself."""
        self._operator.act({"action": "add", "repository": repository})

    def wait(self, until: Callable[[Database], bool], seconds: float) -> bool:
        """Look every 0.2 s; whether it came true in time. Raises RuntimeError with what no use case handled."""
        deadline = time.monotonic() + seconds
        while not until(self._db):
            problems = self._mailbox.problems()
            if problems:
                raise RuntimeError("\n".join(problems))
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def completed(self, seconds: float) -> bool:
        """Wait until every backfill is completed."""
        return self.wait(
            lambda db: not db.rows("SELECT FROM progressive_backfill_state WHERE status <> 'completed'"), seconds
        )


def _github(db: Database, api_url: str, secret: Mapping[str, str]) -> GitHub:
    transport, budget = Transport(api_url), PostgresBudget(db)
    return GitHub(transport, Credentials(transport, lambda _: secret, budget), Governor(budget))


def _serve(mailbox: Mailbox, queue: str, database_url: str, api_url: str, secret: Mapping[str, str]) -> None:
    """One container: messages one after the other until the end."""
    logger.setLevel(logging.CRITICAL)
    db = Database(lambda: database_url)
    github, queues = _github(db, api_url, secret), Queues(mailbox)
    while (body := mailbox.receive(queue)) is not None:
        seconds_left = _countdown()
        try:
            if queue == PLANS:
                Planner(db, github, queues, seconds_left).plan(plan_message(body))
            else:
                Worker(db, github, queues, seconds_left).handle(chunk_message(body), body)
        except Exception:
            mailbox.note(traceback.format_exc())
            mailbox.send(queue, body, VISIBLE_AGAIN_SECONDS)
        metrics.clear_metrics()
    db.close()


def _countdown() -> Callable[[], float]:
    end = time.monotonic() + FUNCTION_SECONDS
    return lambda: end - time.monotonic()


def _main() -> None:
    """Fork the manager and the containers, say where the mailbox is, and stay until the containers have ended."""
    order = json.loads(sys.stdin.readline())
    context = multiprocessing.get_context("fork")
    key = secrets.token_bytes(16)
    manager = _Manager(("127.0.0.1", 0), key, ctx=context)
    manager.start()
    mailbox = manager.mailbox()  # type: ignore[attr-defined] # made by register
    queues = [PLANS, *[CHUNKS] * order["workers"]]
    processes = [
        context.Process(target=_serve, args=(mailbox, queue), kwargs=order["wiring"], daemon=True) for queue in queues
    ]
    for process in processes:
        process.start()
    print(json.dumps([manager.address, key.hex()]), flush=True)
    # The end of the input is the end of whoever wanted the fleet.
    sys.stdin.read()
    mailbox.end()
    for process in processes:
        process.join(FUNCTION_SECONDS)
    manager.shutdown()


def server_seconds_a_minute(history: Sequence[tuple[float, float, int]], begin: float, end: float) -> float:
    """Of a simulator's history between two of its moments: each request counts where it ran."""
    busy = sum(max(0.0, min(end, start + seconds) - max(begin, start)) for start, seconds, _ in history)
    return 60.0 * busy / (end - begin)


if __name__ == "__main__":
    # Under its own name, so that what is pickled is found on the other side.
    from local import fleet

    fleet._main()
