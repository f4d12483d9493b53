"""Many workers at once on this machine: each a process with its own connection and wiring, as containers have, and one queue."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.managers import BaseManager
from threading import Condition
from typing import Any, NamedTuple

from backfill.chunk_worker.worker import Worker
from backfill.console import Console
from backfill.errors import ContractViolation
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.transport import Transport
from backfill.messages import RecoveryEvent, chunk_message, plan_message
from backfill.observability import logger, metrics
from backfill.planner.run import Planner
from backfill.queues import Queues, Source
from backfill.recovery import Recovery
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.invocations import Functions
from local.memory_queue import URLS, Tracing
from local.sqs import Service, connected, url
from local.template import deployed

# So long a container may take to come to its end.
END_SECONDS = 120.0
# Which function a container runs, and how long it may.
PLANNER, CHUNK_WORKER = "PlannerFunction", "ChunkWorkerFunction"


class RealTime:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._start


class Delivered(NamedTuple):
    """A message in a container's hands."""

    body: str
    receipt: str
    trace: str | None


class Mailbox:
    """The template's queues (local/sqs.py) in real time, shared by all processes through a manager."""

    def __init__(self) -> None:
        self._deployment = deployed()
        self._queues = connected(self._deployment.queues, RealTime())
        # An empty long poll does not wait, because it would block the mailbox for others.
        self._service = Service({url(name): each for name, each in self._queues.items()}, lambda _: None)
        self._ended = False
        self._changed = Condition()
        self._problems: list[str] = []

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """A request of boto3's client."""
        with self._changed:
            answer: dict[str, Any] = getattr(self._service, operation)(**request)
            self._changed.notify_all()
            return answer

    def receive(self, function: str) -> Delivered | None:
        """The next message for a function, waiting for it; None at the end of the fleet."""
        queue = self._queues[str(self._deployment.functions[function].source)]
        with self._changed:
            while not self._ended:
                waiting = queue.messages()
                message = min(waiting, key=lambda each: each.due) if waiting else None
                if message is None or message.due > queue.clock.now:
                    self._changed.wait(message.due - queue.clock.now if message else None)
                elif queue.take(message):
                    return Delivered(str(message), message.receipt, message.trace)
            return None

    def acknowledge(self, function: str, receipt: str) -> None:
        """The function has handled a message."""
        with self._changed:
            self._queues[str(self._deployment.functions[function].source)].delete(receipt)

    def note(self, problem: str) -> None:
        """An exception that no use case handled."""
        with self._changed:
            self._problems.append(problem)

    def problems(self) -> list[str]:
        """The notes so far."""
        with self._changed:
            return list(self._problems)

    def end(self) -> None:
        """Stop all deliveries."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Client:
    """boto3's client over a mailbox, which may be in another process."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        return lambda **request: self._mailbox.call(operation, request)


def queues_of(mailbox: Mailbox, functions: Functions) -> Queues:
    """The product's own queues. A message sent within an invocation of ``functions`` continues its chain."""
    queues = Queues(*URLS)
    queues._client = Tracing(Client(mailbox), functions)
    return queues


class _Manager(BaseManager):
    pass


@cache
def _mailbox() -> Mailbox:
    return Mailbox()


_Manager.register("mailbox", callable=_mailbox)


class Fleet:
    """``with Fleet(database_url, api_url, workers=16) as fleet: fleet.add("octo/hello"); fleet.wait(…)``.

    A separate process forks the workers. It has no threads and has imported their modules once.
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
        self.queues = queues_of(self._mailbox, Functions(deployed(), {}))
        self._console = Console(self._db, github, self.queues)
        return self

    def __exit__(self, *_: object) -> None:
        self._mailbox.end()
        self._process.communicate(timeout=END_SECONDS)
        self._db.close()

    def add(self, repository: str) -> None:
        """Track a repository; the planner begins by itself."""
        self._console.act({"action": "add", "repository": repository})

    def follow(self, organisation: str) -> dict[str, Any]:
        """Track all repositories of an organisation."""
        return self._console.act({"action": "add", "organisation": organisation})

    def recover(self) -> dict[str, Any]:
        """Run recovery, as its schedule does."""
        return Recovery(self._db, self.queues).recover(RecoveryEvent())

    def wait(self, until: Callable[[Database], bool], seconds: float) -> bool:
        """Check every 0.2 s; whether it became true in time. Raises RuntimeError with an error that no use case handled."""
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


def _serve(mailbox: Mailbox, function: str, database_url: str, api_url: str, secret: Mapping[str, str]) -> None:
    """One container: messages one after the other until the end."""
    logger.setLevel(logging.CRITICAL)
    db, functions = Database(lambda: database_url), Functions(deployed(), {})
    github, queues = _github(db, api_url, secret), queues_of(mailbox, functions)
    while (message := mailbox.receive(function)) is not None:
        seconds_left = _countdown(functions.deployment.functions[function].timeout_seconds)
        try:
            with functions.invocation(function, message.trace):
                if function == PLANNER:
                    Planner(db, github, queues, seconds_left).plan(plan_message(message.body))
                else:
                    Worker(db, github, queues, seconds_left).handle(chunk_message(message.body), message.body)
        except ContractViolation as violation:
            queues.add_dead_letter(message.body, str(violation), Source.PLANS if function == PLANNER else Source.CHUNKS)
        except Exception:
            mailbox.note(traceback.format_exc())
            continue
        finally:
            metrics.clear_metrics()
        mailbox.acknowledge(function, message.receipt)
    db.close()


def _countdown(seconds: float) -> Callable[[], float]:
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


def _main() -> None:
    """Fork the manager and the containers, say where the mailbox is, and stay until the containers have ended."""
    order = json.loads(sys.stdin.readline())
    context = multiprocessing.get_context("fork")
    key = secrets.token_bytes(16)
    manager = _Manager(("127.0.0.1", 0), key, ctx=context)
    manager.start()
    mailbox = manager.mailbox()  # type: ignore[attr-defined] # made by register
    planners = deployed().functions[PLANNER].most_concurrent or 1
    processes = [
        context.Process(target=_serve, args=(mailbox, function), kwargs=order["wiring"], daemon=True)
        for function in [PLANNER] * planners + [CHUNK_WORKER] * order["workers"]
    ]
    for process in processes:
        process.start()
    print(json.dumps([manager.address, key.hex()]), flush=True)
    # The input ends with the process that started the fleet.
    sys.stdin.read()
    mailbox.end()
    for process in processes:
        process.join(END_SECONDS)
    manager.shutdown()


def server_seconds_a_minute(history: Sequence[tuple[float, float, int]], begin: float, end: float) -> float:
    """Of a simulator's history between two of its moments: each request counts where it ran."""
    busy = sum(max(0.0, min(end, start + seconds) - max(begin, start)) for start, seconds, _ in history)
    return 60.0 * busy / (end - begin)


if __name__ == "__main__":
    # Under its own name, so that the other side finds pickled objects.
    from local import fleet

    fleet._main()
