"""Peak memory of each function, in a process of its own: the largest pull requests at hand, and chunks of a hundred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from backfill.store import backfills, chunks
from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from local.simulator import Repository, Simulator
from local.stack import ROOT

# MemorySize of every function in the template.
MOST_MEGABYTES = 512.0

# The function as Lambda runs it, but for SQS, which is not there: its client is made all the same, as it takes memory.
_RUN = """
import json, sys
from types import SimpleNamespace
import boto3
from backfill import wiring
from tests.integration.memory_queue import MemoryQueues
client, queues = boto3.client("sqs"), MemoryQueues()
wiring.queues = lambda: queues
import app
context = SimpleNamespace(function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:a:b:function:f",
                          aws_request_id="1", get_remaining_time_in_millis=lambda: 900_000)
answer = app.handler(json.loads(sys.argv[1]), context)
if answer.get("batchItemFailures"):
    sys.exit(f"failed: {answer}")
# Not getrusage: its maximum begins with that of the process that started this one.
print("\\n" + next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def measure() -> list[Figure]:
    """Megabytes (resident set, at its highest), in processes that do one thing each."""
    repositories = setting.pull_requests_at_hand()
    with setting.postgres() as server, Simulator(repositories, speed=setting.SPEED) as simulator:
        server.run("CREATE DATABASE memory TEMPLATE migrated")
        environment = _environment(server.url("memory"), simulator.url)
        with closing(Database(lambda: server.url("memory"))) as db:
            github = setting.client(simulator, db)
            ids = {each.full_name: setting.listed(db, github, each) for each in repositories}
            largest, heaviest = _by_size(repositories[0])[:1], _by_size(repositories[0])[:100]
            newest = sorted(set(repositories[0].pull_requests) - set(heaviest), reverse=True)[:100]
            backfill = backfills.of_repository(db, ids[repositories[0].full_name])
            if backfill is None:
                raise LookupError("nothing was listed")
            figures = []
            for what, numbers in {
                "the largest pull request": largest,
                "the newest 100": newest,
                "the largest 100 but one": heaviest[1:],
            }.items():
                chunk = chunks.create(db, backfill["id"], numbers)
                body = json.dumps({"schema_version": 1, "chunk_id": chunk["id"], "dispatch_id": chunk["dispatch_id"]})
                event = {"Records": [{"messageId": "1", "body": body}]}
                figures.append(_figure("chunk_worker", what, event, environment))
                done = chunks.get(db, chunk["id"])
                if done is None or done["status"] != "completed":
                    raise AssertionError(f"{what}: the chunk was not completed: {done}")
            figures.append(_figure("planner", "every backfill", {}, environment))
            figures.append(_figure("console", "status", {"action": "status"}, environment))
            figures.append(_figure("recovery", "nothing to recover", {}, environment))
    return figures


def _by_size(repository: Repository) -> list[int]:
    """Numbers, those with the most rows below them first."""
    parts = ("comments", "reviews", "commits", "files", "reviewThreads")
    sizes = {number: sum(len(node[part]) for part in parts) for number, node in repository.pull_requests.items()}
    return sorted(sizes, key=lambda number: -sizes[number])


def _environment(database_url: str, api_url: str) -> dict[str, str]:
    queues = dict.fromkeys(("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "none")
    aws = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    github = {"GITHUB_TOKEN": "ghp_benchmark", "GITHUB_API_URL": api_url}
    return {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, **github, **aws, **queues}


def _figure(function: str, what: str, event: dict[str, Any], environment: dict[str, str]) -> Figure:
    path: Sequence[object] = (ROOT / "functions" / function, ROOT / "layers/shared", ROOT)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(event)],
        env={**environment, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{function}, {what}: {done.stderr[-2000:]}")
    return Figure("memory", f"{function}, {what}", int(done.stdout.splitlines()[-1]) / 1024, "MiB", MOST_MEGABYTES)
