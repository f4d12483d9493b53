"""Cold starts of the built functions, bytecode included, under the Lambda runtime interface emulator with AWS's runtime client.

The emulator's own log gives both times: from the start of the interpreter until the runtime asks for an event (INIT), and
the first event. An empty handler and handlers that import one library each start in the same run, in turns. Fetching the
code and starting the sandbox, which Lambda adds, are not in it.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from cfnlint.decode import decode_str

from backfill.messages import dispatch_body
from backfill.store import backfills, chunks
from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from local.invoke import FUNCTIONS, Emulator
from local.simulator import Simulator
from local.stack import ROOT, Stack

# The worker and its rivals are started more often than the others.
REPETITIONS, MORE_REPETITIONS = 3, 9
# Time beyond an empty handler, divided by that of its three libraries in the same run.
TARGET_MILLISECONDS, TARGET_RATIO = 250.0, 1.3
LIBRARIES = ("pg8000.native", "requests", "aws_lambda_powertools.logging")
EMPTY = "an empty handler"
WORKER = "chunk-worker"
QUEUES = ("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL")

_INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")
_INVOKE = re.compile(r"INVOKE RTDONE\(status: success, .*duration: ([\d.]+)ms\)")


@dataclass(frozen=True, slots=True)
class Start:
    """Milliseconds until the runtime asked for an event, and of the first event."""

    init: float
    first: float


def measure() -> list[Figure]:
    """Medians in milliseconds; the starts take turns, so that a busy machine slows them alike."""
    with _rig() as (template, environment, events, log):
        probes = {EMPTY: "", **{name: f"import {name}\n" for name in LIBRARIES}}
        template = _with_probes(template, probes)
        found: dict[str, list[Start]] = {name: [] for name in (*probes, *FUNCTIONS)}
        for turn in range(MORE_REPETITIONS):
            for name in probes:
                found[name].append(_start(template, _resource(name), environment, {}, log))
            for name, (function, _) in FUNCTIONS.items():
                if name == WORKER or turn < REPETITIONS:
                    found[name].append(_start(template, function, environment, events(name), log))
    init = {name: statistics.median(each.init for each in starts) for name, starts in found.items()}
    figures = [Figure("start", f"INIT of {EMPTY}", init[EMPTY], "ms")]
    beyond = {name: milliseconds - init[EMPTY] for name, milliseconds in init.items()}
    figures += [Figure("start", f"importing {name} alone", beyond[name], "ms") for name in LIBRARIES]
    for name in FUNCTIONS:
        figures.append(Figure("start", f"INIT of {name}", init[name], "ms"))
        first = statistics.median(each.first for each in found[name])
        figures.append(Figure("start", f"first event of {name}", first, "ms"))
    worker, libraries = beyond[WORKER], sum(beyond[name] for name in LIBRARIES)
    # Met by either: the milliseconds are those of a quiet machine, the ratio holds on a busy one.
    is_quick = worker <= TARGET_MILLISECONDS
    figures.append(Figure("start", "importing chunk-worker", worker, "ms", TARGET_MILLISECONDS if is_quick else None))
    ratio = worker / libraries
    figures.append(
        Figure("start", "importing chunk-worker / its three libraries", ratio, "×", None if is_quick else TARGET_RATIO)
    )
    return figures


@contextmanager
def _rig() -> Iterator[tuple[Path, dict[str, str], Callable[[str], Any], Path]]:
    """The built template, settings of a database, queues and GitHub that are there, events by function, and a log file.

    Every event has something to do: the worker's is a chunk of one pull request, a new one each time.
    """
    repository = setting.pull_requests_at_hand()[0]
    before = dict(os.environ)
    with (
        tempfile.TemporaryDirectory() as folder,
        setting.postgres() as server,
        Simulator([repository], speed=setting.SPEED) as simulator,
        (Path(folder) / "stderr").open("w") as quiet,
        redirect_stderr(quiet),
    ):
        server.run("CREATE DATABASE start TEMPLATE migrated")
        stack = Stack(Path(folder))
        state: dict[str, Any] = {"processes": {}, "environment": {}}
        try:
            template = stack.build()
            stack.start_aws(state)
            environment: dict[str, str] = state["environment"]
            os.environ.update({name: value for name, value in environment.items() if name.startswith("AWS_")})
            client = boto3.client("sqs")
            environment |= {name: client.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
            environment |= {
                "DATABASE_URL": server.url("start"),
                "GITHUB_TOKEN": "ghp_benchmark",
                "GITHUB_API_URL": simulator.url,
            }
            with closing(Database(lambda: server.url("start"))) as db:
                backfill = backfills.of_repository(db, setting.listed(db, setting.client(simulator, db), repository))
                if backfill is None:
                    raise LookupError("nothing was listed")
                numbers = iter(sorted(repository.pull_requests, reverse=True))

                def event(name: str) -> Any:
                    if name != WORKER:
                        return json.loads((ROOT / "events" / FUNCTIONS[name][1]).read_text(encoding="utf-8"))
                    chunk = chunks.create(db, backfill.id, [next(numbers)])
                    return {"Records": [{"messageId": "1", "body": dispatch_body(chunk.dispatch)}]}

                yield template, environment, event, stack.logs / "emulator.log"
                done = db.one("SELECT count(*) AS done FROM backfill_chunks WHERE status = 'completed'")
                if done != {"done": MORE_REPETITIONS}:
                    raise AssertionError(f"the worker did not do its chunks: {done}")
        finally:
            stack.down()
            os.environ.clear()
            os.environ.update(before)


def _resource(name: str) -> str:
    return "Probe" + re.sub(r"\W", "", name)


def _with_probes(template: Path, probes: Mapping[str, str]) -> Path:
    """A copy of the built template, with one more function for each of ``probes``: its name, and the first lines of its module."""
    decoded, _ = decode_str(template.read_text(encoding="utf-8"))
    built = dict(decoded or {})
    for name, source in probes.items():
        folder = template.parent / _resource(name)
        folder.mkdir()
        (folder / "app.py").write_text(f"{source}def handler(event, context): pass\n", encoding="utf-8")
        built["Resources"][_resource(name)] = {"Properties": {"CodeUri": folder.name}}
    path = template.parent / "probes.json"
    path.write_text(json.dumps(built), encoding="utf-8")
    return path


def _start(template: Path, function: str, environment: Mapping[str, str], event: Any, log: Path) -> Start:
    """One container: started, asked once, and ended. The function's own lines are in the same log."""
    with Emulator(template, function, environment, log) as emulator:
        answer = emulator.invoke(event)
    if isinstance(answer, dict) and (answer.get("batchItemFailures") or answer.get("ok") is False):
        raise AssertionError(f"{function} failed: {answer}")
    written = log.read_text(encoding="utf-8", errors="replace")
    init, first = _INIT.search(written), _INVOKE.search(written)
    if init is None or first is None:
        raise LookupError(f"the emulator's log tells no times of {function}: {written[-2000:]}")
    return Start(float(init[1]), float(first[1]))
