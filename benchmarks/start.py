"""Cold starts: importing each function from the built layer, and its first invocation, each time in a fresh process.

The layer is what `sam build` makes, bytecode included. What Lambda adds (fetching the code, starting the sandbox and the
interpreter) is not measured here.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import setting
from benchmarks.figures import Figure
from local.stack import ROOT

REPETITIONS = 7
# Of what its three libraries take by themselves in the same run; on the reference machine, 250 ms.
TARGET_RATIO = 1.3
LIBRARIES = ("pg8000.native", "requests", "aws_lambda_powertools.logging")
_NOBODY = "00000000-0000-4000-8000-000000000000"
# First invocations that need Postgres and nothing else: a duplicate message, nothing to plan. The others need SQS too.
FUNCTIONS: Mapping[str, dict[str, Any] | None] = {
    "chunk_worker": {
        "Records": [
            {
                "messageId": "1",
                "body": json.dumps({"schema_version": 1, "chunk_id": _NOBODY, "dispatch_id": _NOBODY}),
            }
        ]
    },
    "planner": {},
    "console": None,
    "recovery": None,
    "widget": None,
}

_PROBE = """
import json, sys, time
from types import SimpleNamespace
module, event = sys.argv[1], json.loads(sys.argv[2])
before = set(sys.modules)
begin = time.perf_counter()
imported = __import__(module, fromlist=["handler"])
seconds = time.perf_counter() - begin
modules = len(set(sys.modules) - before)
answer = {"import": seconds, "modules": modules}
if event is not None:
    context = SimpleNamespace(function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:a:b:function:f",
                              aws_request_id="1", get_remaining_time_in_millis=lambda: 60000)
    begin = time.perf_counter()
    imported.handler(event, context)
    answer["first"] = time.perf_counter() - begin
print("\\n" + json.dumps(answer))
"""


def measure() -> list[Figure]:
    """Medians in milliseconds; the processes take turns, so that a busy machine slows them alike."""
    with setting.postgres() as server, tempfile.TemporaryDirectory() as folder:
        server.run("CREATE DATABASE start TEMPLATE migrated")
        layer = _layer(Path(folder))
        database_url = server.url("start")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in (*LIBRARIES, *FUNCTIONS)}
        for _ in range(REPETITIONS):
            for name in LIBRARIES:
                found[name].append(_probe(name, None, [layer], database_url))
            for name, event in FUNCTIONS.items():
                found[name].append(_probe("app", event, [layer, ROOT / "functions" / name], database_url))
    imports = {name: statistics.median(each["import"] for each in runs) * 1000 for name, runs in found.items()}
    figures = [Figure("start", f"import {name} alone", imports[name], "ms") for name in LIBRARIES]
    for name in FUNCTIONS:
        figures.append(Figure("start", f"import {name}", imports[name], "ms"))
        figures.append(Figure("start", f"modules of {name}", found[name][0]["modules"], "modules"))
        if "first" in found[name][0]:
            first = statistics.median(each["first"] for each in found[name]) * 1000
            figures.append(Figure("start", f"first invocation of {name}", first, "ms"))
    ratio = imports["chunk_worker"] / sum(imports[name] for name in LIBRARIES)
    figures.append(Figure("start", "import chunk_worker / its three libraries", ratio, "×", TARGET_RATIO))
    return figures


def _layer(folder: Path) -> Path:
    """Build the layer for this Python, as `sam build` calls for it."""
    environment = {
        **os.environ,
        "ARTIFACTS_DIR": str(folder),
        "LAYER_PYTHON": sys.executable,
        "LAYER_TARGET": f"--python {sys.executable}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    subprocess.run(
        ["make", "--silent", "-C", str(ROOT / "layers/shared"), "build-SharedLayer"],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "python"


def _probe(module: str, event: dict[str, Any] | None, path: list[Path], database_url: str) -> dict[str, float]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(each) for each in path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DATABASE_URL": database_url,
        "GITHUB_TOKEN": "none",
        "CHUNK_QUEUE_URL": "none",
        "PLAN_QUEUE_URL": "none",
        "DEAD_LETTER_QUEUE_URL": "none",
    }
    # Isolated from the development environment: what the layer lacks must be missed here.
    done = subprocess.run(
        [sys._base_executable, "-c", _PROBE, module, json.dumps(event)],  # type: ignore[attr-defined]
        env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
