"""A backfill through the whole local stack, at speeds 1, 10 and 50 of GitHub's own, and the part that saturates first.

The template is deployed as `make up` does; the simulator is a process of its own, and every function, queue and database
is another, so that the processor time of each can be told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from cli.stack import DeployedStack
from local.stack import DATA, ROOT, STACK_NAME, Stack, free_port

# Times as fast as GitHub, and the most seconds of the steady part; at speed 1 all of it would take five minutes.
SPEEDS = {1: 25.0, 10: 25.0, 50: 25.0}
# The beginning, until the workers are there and the listing has a lead, is not measured.
WARM_UP_PULL_REQUESTS = 100
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """One moment: pull requests stored, GitHub's server seconds, and the processor seconds of each part."""

    moment: float
    processed: int
    server_seconds: float
    processor: dict[str, float]


def measure() -> list[Figure]:
    """Pull requests per second, the share of GitHub's ceiling, and processor milliseconds per pull request."""
    before = dict(os.environ)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        for name in ("DATABASE_URL", "AWS_PROFILE", "POWERTOOLS_LOG_LEVEL"):
            os.environ.pop(name, None)
        os.environ.update(GITHUB_TOKEN="ghp_benchmark", GITHUB_API_URL=f"http://127.0.0.1:{port}")
        try:
            state = stack.up()
            os.environ.update(state["environment"])
            with closing(Database(lambda: state["environment"]["DATABASE_URL"])) as db:
                return [each for speed in SPEEDS for each in _at(speed, port, state, db)]
        finally:
            stack.down()
            os.environ.clear()
            os.environ.update(before)


def _at(speed: int, port: int, state: dict[str, Any], db: Database) -> list[Figure]:
    db.execute("TRUNCATE repositories, contributors, github_budget CASCADE")
    with _simulator(speed, port) as simulator:
        for repository in setting.pull_requests_at_hand():
            DeployedStack(STACK_NAME).invoke("console", {"action": "add", "repository": repository.full_name})
        first = _wait_for_warm_up(port, state, db, simulator)
        last = first
        while not last.moment - first.moment > SPEEDS[speed]:
            time.sleep(0.5)
            sample = _sample(port, state, db, simulator)
            if sample.processed == last.processed and _is_done(db):
                break
            last = sample
    (learned,) = db.rows("SELECT slowness FROM github_budget ORDER BY updated_at DESC LIMIT 1")
    seconds, pull_requests = last.moment - first.moment, last.processed - first.processed
    if pull_requests <= 0:
        raise RuntimeError(f"nothing was stored at speed {speed}")
    share = (last.server_seconds - first.server_seconds) / (seconds * speed)
    what = f"at speed {speed}"
    figures = [
        Figure("throughput", f"pull requests, {what}", pull_requests / seconds, "per second"),
        Figure("throughput", f"share of GitHub's server seconds, {what}", share * 100, "%"),
        # More than 1 is this machine's: the simulator's own work, the way there and back, requests that share a processor.
        Figure("throughput", f"a request's time over GitHub's, {what}", learned["slowness"] * speed, "times"),
    ]
    busy = {name: last.processor[name] - first.processor.get(name, 0.0) for name in last.processor}
    for name, spent in busy.items():
        figures.append(
            Figure("throughput", f"processor of the {name}, {what}", spent * 1000 / pull_requests, "ms each")
        )
    machine = sum(busy.values()) / (seconds * (os.cpu_count() or 1))
    figures.append(Figure("throughput", f"processors busy with it, {what}", machine * 100, "%"))
    return figures


@contextmanager
def _simulator(speed: int, port: int) -> Iterator[psutil.Process]:
    source = ["--data", str(DATA)] if DATA.is_dir() else ["--generate", "1"]
    command = [sys.executable, "-m", "local.simulator", *source, "--speed", str(speed), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    _statistics(port)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def _wait_for_warm_up(port: int, state: dict[str, Any], db: Database, simulator: psutil.Process) -> _Sample:
    deadline = time.monotonic() + START_SECONDS
    while True:
        sample = _sample(port, state, db, simulator)
        if sample.processed >= WARM_UP_PULL_REQUESTS:
            return sample
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {sample.processed} pull requests were stored in {START_SECONDS:g} s")
        time.sleep(0.2)


def _sample(port: int, state: dict[str, Any], db: Database, simulator: psutil.Process) -> _Sample:
    (row,) = db.rows("SELECT COALESCE(sum(processed_prs), 0) AS processed FROM progressive_backfill_state")
    return _Sample(
        time.monotonic(),
        int(row["processed"]),
        _statistics(port).get("server_milliseconds", 0) / 1000,
        _processor(state, simulator),
    )


def _is_done(db: Database) -> bool:
    return not db.rows("SELECT FROM progressive_backfill_state WHERE status <> 'completed'")


def _processor(state: dict[str, Any], simulator: psutil.Process) -> dict[str, float]:
    """Processor seconds so far: of the functions, the queue (all of the local AWS but its functions), and so on."""
    aws = psutil.Process(state["processes"]["ministack"])
    postmaster = psutil.Process(
        int((Path(state["postgres"]) / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    )
    return {
        "functions": sum(_spent(each) for each in aws.children(recursive=True)),
        "queue": _spent(aws),
        "database": sum(_spent(each) for each in (postmaster, *postmaster.children(recursive=True))),
        "simulator": _spent(simulator),
    }


def _spent(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _statistics(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_simulator/statistics", timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found
