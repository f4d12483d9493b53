"""The imports of a cold start: a budget, because each library costs every new container time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Packages beside the standard library and the project's own that a function may import before its first event. Of
# botocore, Powertools takes the empty root alone, to name itself in its User-Agent.
ALLOWED = {
    "asn1crypto", "aws_lambda_powertools", "botocore", "certifi", "charset_normalizer", "cython_runtime", "dateutil",
    "idna", "jmespath", "pg8000", "requests", "scramp", "six", "typing_extensions", "urllib3",
}  # fmt: skip
# The page is a template of Jinja's.
ALLOWED_OF_WIDGET = {"jinja2", "markupsafe"}
# Measured: 435 for the planner with the standard library's. More needs a reason, and this number changed.
MOST_MODULES = 440
# What brings jsonschema's format checkers, which it imports where they are installed; the contracts use no formats.
FORMAT_CHECKERS = {
    "fqdn",
    "isoduration",
    "rfc3339-validator",
    "rfc3986-validator",
    "rfc3987",
    "uri-template",
    "webcolors",
}

PROBE = """
import json, sys
before = set(sys.modules)
import app
if len(sys.argv) > 1:
    from backfill.messages import chunk_message
    chunk_message(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_of(function: str, *arguments: str) -> set[str]:
    """Names of the modules that a fresh process imports with a function."""
    path = os.pathsep.join([str(ROOT / "functions" / function), str(ROOT / "layers/shared"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stdout))


def foreign(modules: set[str]) -> set[str]:
    """Their packages that are neither the standard library's nor the project's."""
    packages = {name.partition(".")[0] for name in modules if not name.startswith("_")}
    # mypyc names its helper modules by a hash.
    named = {name for name in packages if not name.endswith("__mypyc")}
    return named - sys.stdlib_module_names - {"app", "backfill"}


@pytest.mark.parametrize("function", ["chunk_worker", "planner", "recovery", "console", "widget"])
def test_a_function_imports_what_it_may_and_no_more(function: str) -> None:
    modules = modules_of(function)
    allowed = ALLOWED | ALLOWED_OF_WIDGET if function == "widget" else ALLOWED
    assert foreign(modules) <= allowed, f"a cold start of {function} imports more: {foreign(modules) - allowed}"
    assert not {name for name in modules if name.startswith("botocore.")}
    assert len(modules) <= MOST_MODULES, f"a cold start of {function} imports {len(modules)} modules"


def test_the_first_message_imports_jsonschema_and_not_boto3() -> None:
    chunk = "00000000-0000-4000-8000-000000000000"
    message = json.dumps({"schema_version": 1, "chunk_id": chunk, "dispatch_id": chunk})
    modules = modules_of("chunk_worker", message)
    assert "jsonschema" in modules
    assert not {name for name in modules if name.startswith(("boto3", "botocore.", "aws_xray_sdk"))}


def test_the_layer_has_no_format_checkers() -> None:
    lock = (ROOT / "layers/shared/requirements.txt").read_text(encoding="utf-8")
    assert "jsonschema==" in lock
    assert not {name for name in FORMAT_CHECKERS if f"\n{name}==" in lock}
