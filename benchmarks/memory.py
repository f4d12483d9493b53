"""Peak memory of each function, in a process of its own: the largest pull requests at hand, chunks of a hundred, and a
hundred of the largest kind that GitHub allows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from backfill.github.packing import ENDS
from backfill.messages import dispatch_body
from backfill.model import Chunk
from backfill.store import backfills, chunks
from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from local.simulator import Repository, Simulator, generate
from local.stack import ROOT

# MemorySize of every function in the template.
MOST_MEGABYTES = 512.0
# "Body is too long (maximum is 65536 characters)", GitHub answers to a longer comment.
LONGEST_BODY = 65_536
GIANT_COMMENTS = 30
# Until one of the halves of a hundred fits.
MOST_MESSAGES = 4

# The function as Lambda runs it, but for SQS, which is not there: its client is made all the same, as it takes memory.
_RUN = """
import json, sys
from types import SimpleNamespace
import boto3
from backfill import wiring
from backfill.queues import Queues
from local.sqs import Clock, Queue, QueueSettings, Service, url
client, clock, names = boto3.client("sqs"), Clock(), ("chunks", "plans", "dead")
waiting, *others = (Queue(name, QueueSettings(), clock) for name in names)
queues = Queues(*map(url, names))
queues._client = Service({url(each.name): each for each in (waiting, *others)}, clock.wait)
wiring.queues = lambda: queues
import app
context = SimpleNamespace(function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:a:b:function:f",
                          aws_request_id="1", get_remaining_time_in_millis=lambda: 900_000)
event = json.loads(sys.argv[1])
for _ in range(int(sys.argv[2])):
    answer = app.handler(event, context)
    if answer.get("batchItemFailures"):
        sys.exit(f"failed: {answer}")
    if not waiting:
        break
    # Both parts of a split chunk come to the same container.
    event = {"Records": [{"messageId": "1", "body": waiting.pop()}]}
# Not getrusage: its maximum begins with that of the process that started this one.
print("\\n" + next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def measure() -> list[Figure]:
    """Megabytes (resident set, at its highest), in processes that do one thing each."""
    repositories = setting.pull_requests_at_hand()
    with setting.postgres() as server, Simulator(repositories, speed=setting.SPEED) as simulator:
        server.run("CREATE DATABASE memory TEMPLATE migrated")
        environment = settings(server.url("memory"), simulator.url)
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
                chunk = chunks.create(db, backfill.id, numbers)
                figures.append(_figure(f"chunk_worker, {what}", peak("chunk_worker", _message(chunk), environment)))
                done = chunks.get(db, chunk.id)
                if done is None or done.status != "completed":
                    raise AssertionError(f"{what}: the chunk was not completed: {done}")
            for function, what, event in (
                ("planner", "every backfill", {}),
                ("console", "status", {"action": "status"}),
                ("recovery", "nothing to recover", {}),
            ):
                figures.append(_figure(f"{function}, {what}", peak(function, event, environment)))
    return [*figures, *_giant_figures()]


def _giant_figures() -> list[Figure]:
    figures = []
    for kind, count in {"files": 25, "text": 100}.items():
        repository = giants(kind, count)
        with setting.postgres() as server, Simulator([repository], speed=setting.SPEED) as simulator:
            server.run("CREATE DATABASE memory TEMPLATE migrated")
            highest = read_giants(server.url("memory"), simulator, repository, MOST_MESSAGES)
            figures.append(_figure(f"chunk_worker, {count} pull requests of the most {kind}", highest))
    return figures


def giants(kind: str, count: int) -> Repository:
    """Pull requests of as many ``files`` as GitHub shows, or of comments as long as it takes (``text``): in Python a
    text takes four times its length where one of its characters lies outside the basic plane."""
    (repository,) = generate(5, {"octo/giant": count})
    for number, node in repository.pull_requests.items():
        if kind == "files":
            node["files"] = [
                {"path": f"a/{index}.c", "changeType": "ADDED", "additions": 1, "deletions": 0}
                for index in range(ENDS["files"])
            ]
            node["changedFiles"] = len(node["files"])
        else:
            body, when = "\N{CROCODILE}" + "x" * (LONGEST_BODY - 1), node["createdAt"]
            said = {
                "fullDatabaseId": "1",
                "body": body,
                "createdAt": when,
                "updatedAt": when,
                "url": "",
                "author": None,
            }
            node["totalCommentsCount"] += GIANT_COMMENTS - len(node["comments"])
            node["comments"] = [
                {**said, "id": f"IC_{number}_{index}", "authorAssociation": "NONE"} for index in range(GIANT_COMMENTS)
            ]
    return repository


def read_giants(database_url: str, simulator: Simulator, repository: Repository, most: int) -> float:
    """The peak in MiB of one process that reads all pull requests of a repository as one chunk, and the parts of its splits."""
    with closing(Database(lambda: database_url)) as db:
        backfill = backfills.of_repository(db, setting.listed(db, setting.client(simulator, db), repository))
        if backfill is None:
            raise LookupError("nothing was listed")
        chunk = chunks.create(db, backfill.id, sorted(repository.pull_requests))
    return peak("chunk_worker", _message(chunk), settings(database_url, simulator.url), most)


def _message(chunk: Chunk) -> dict[str, Any]:
    body = dispatch_body(chunk.dispatch)
    return {"Records": [{"messageId": "1", "body": body}]}


def _by_size(repository: Repository) -> list[int]:
    """Numbers, those with the most rows below them first."""
    parts = ("comments", "reviews", "commits", "files", "reviewThreads")
    sizes = {number: sum(len(node[part]) for part in parts) for number, node in repository.pull_requests.items()}
    return sorted(sizes, key=lambda number: -sizes[number])


def settings(database_url: str, api_url: str) -> dict[str, str]:
    """The environment of a function."""
    queues = dict.fromkeys(("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "none")
    aws = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    github = {"GITHUB_TOKEN": "ghp_benchmark", "GITHUB_API_URL": api_url}
    return {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, **github, **aws, **queues}


def _figure(what: str, megabytes: float) -> Figure:
    return Figure("memory", what, megabytes, "MiB", MOST_MEGABYTES)


def peak(function: str, event: dict[str, Any], environment: dict[str, str], most: int = 1) -> float:
    """MiB that a process had at most which handled the event, and up to ``most`` messages in all, of those that it sent."""
    path: Sequence[object] = (ROOT / "functions" / function, ROOT / "layers/shared", ROOT)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(event), str(most)],
        env={**environment, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{function}: {done.stderr[-2000:]}")
    return int(done.stdout.splitlines()[-1]) / 1024
