"""Points and requests of whole backfills, by the simulator's own count, beside the best fixed query for the same content.

The real planner and workers run at the same time, each with a connection and a client of its own as in containers, over
a real Postgres and queues in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

from backfill.chunk_worker.worker import Worker
from backfill.console import Console
from backfill.messages import chunk_message, plan_message
from backfill.planner.run import Planner
from backfill.store import progress
from backfill.store.connection import Database
from benchmarks import fixed_query
from benchmarks.figures import Figure
from benchmarks.setting import SPEED, client, postgres, pull_requests_at_hand
from local.memory_queue import MemoryQueues
from local.postgres import Postgres
from local.simulator import Repository, Simulator

SUBJECT = "points"
WORKERS = 2
# A backfill that has come to no end by then has lost its way.
MOST_SECONDS = 900
# Points per 100 pull requests with listing and details; design section 8.
TARGETS = {
    ("bitcoin-core/secp256k1", 25): 5.9,
    ("bitcoin-core/secp256k1", 50): 5.5,
    ("bitcoin-core/gui", 25): 6.4,
    ("bitcoin-core/gui", 50): 6.3,
}
LISTING, DETAIL = "ListPullRequests", "PullRequestDetails"


def measure() -> list[Figure]:
    """Raises AssertionError if a backfill or the fixed query does not bring everything."""
    figures = []
    with postgres() as server:
        for repository in pull_requests_at_hand():
            for chunk_size in (25, 50):
                figures += _backfill(server, repository, chunk_size)
            figures += _backfill(server, repository, 25, timeline=True)[:1]
            figures += _fixed_query(repository)
    return figures


def _backfill(server: Postgres, repository: Repository, chunk_size: int, *, timeline: bool = False) -> list[Figure]:
    database = f"points_{repository.node['name']}_{chunk_size}{'_timeline' if timeline else ''}"
    server.run(f'CREATE DATABASE "{database}" TEMPLATE migrated')
    with Simulator([repository], speed=SPEED) as simulator:
        wanted = {"action": "add", "repository": repository.full_name, "chunk_size": chunk_size, "timeline": timeline}
        status = _complete(lambda: Database(lambda: server.url(database)), simulator, wanted)
        served = simulator.statistics()
    held = served["repositories"][repository.full_name]
    _compare({"pull_requests": status["processed_prs"], **status["stored"]}, held)
    count, points = held["pull_requests"], served["points"]
    content = served[f"points of {LISTING}"] + served[f"points of {DETAIL}"]
    what = f"{repository.full_name} at chunk_size {chunk_size}{', with timelines' if timeline else ''}"
    return [
        Figure(
            SUBJECT,
            f"{what}: listing and details",
            100 * content / count,
            "points per 100",
            None if timeline else TARGETS.get((repository.full_name, chunk_size)),
        ),
        Figure(
            SUBJECT,
            f"{what}: with {points - content} points to find it, check for changes, and identify the token",
            100 * points / count,
            "points per 100",
        ),
        Figure(SUBJECT, f"{what}: requests of {count:,} pull requests", served["requests"], "requests"),
    ]


def _fixed_query(repository: Repository) -> list[Figure]:
    with Simulator([repository], speed=SPEED) as simulator:
        page, threads = fixed_query.best(repository)
        read = fixed_query.read(simulator.url, repository.node["id"], page, threads)
        served = simulator.statistics()
    held = served["repositories"][repository.full_name]
    _compare(read, held)
    what = f"{repository.full_name} by nine connections of {page} pull requests, {threads} review threads each"
    count = held["pull_requests"]
    return [
        Figure(SUBJECT, f"{what}, and the pages that follow", 100 * served["points"] / count, "points per 100"),
        Figure(SUBJECT, f"{what}: requests", served["requests"], "requests"),
    ]


def _compare(read: dict[str, int], held: dict[str, int]) -> None:
    if read != held:
        raise AssertionError(f"{read} is not all of {held}")


def _complete(connect: Callable[[], Database], simulator: Simulator, wanted: dict[str, Any]) -> dict[str, Any]:
    """Add the ``wanted`` repository and let planner and workers run until it is completed; its status."""
    queues, done = MemoryQueues(), threading.Event()
    with closing(connect()) as db, ThreadPoolExecutor(1 + WORKERS) as pool:
        console = Console(db, client(simulator, db), queues)
        added = console.act(wanted)

        def plan() -> None:
            with closing(connect()) as own:
                planner = Planner(own, client(simulator, own), queues, lambda: 600.0)
                _consume(queues.plans, lambda body: planner.plan(plan_message(body)), done)

        def work() -> None:
            with closing(connect()) as own:
                worker = Worker(own, client(simulator, own), queues, lambda: 600.0)
                _consume(queues.chunks, lambda body: worker.handle(chunk_message(body), body), done)

        running = [pool.submit(plan), *(pool.submit(work) for _ in range(WORKERS))]
        try:
            row = _wait(db, added["repository_id"], running)
        finally:
            done.set()
        return {**row, "stored": progress.stored(db, added["repository_id"])}


def _consume(queue: list[str], handle: Callable[[str], object], done: threading.Event) -> None:
    while not done.is_set():
        try:
            body = queue.pop(0)
        except IndexError:
            time.sleep(0.005)
        else:
            if handle(body) == "early":
                time.sleep(0.05)


def _wait(db: Database, repository_id: str, running: list[Future[None]]) -> dict[str, Any]:
    """The backfill as soon as it is completed."""
    deadline = time.monotonic() + MOST_SECONDS
    while True:
        row = db.one("SELECT * FROM progressive_backfill_state WHERE repository_id = :id", id=repository_id)
        if row is not None and row["status"] == "completed":
            return row
        for each in running:
            if each.done():
                each.result()
        if time.monotonic() > deadline:
            raise AssertionError(f"not completed after {MOST_SECONDS} s: {row}")
        time.sleep(0.05)
