"""The command line: wrong usage is refused before anything is sent, failures say what to do, the shell completes words."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse
from typer.testing import CliRunner, Result

import cli.stack
from backfill import __version__
from backfill.errors import BackfillError
from cli import local_stack
from cli.main import app

ROOT = Path(__file__).parents[2]
# Classes that others are made of, errors that no function lets out, and those that a person has to look into.
UNEXPLAINED = {"BackfillError", "Retryable", "Permanent"} | {"InAnotherChunk", "LeaseLost", "NotSent", "StaleClaim"}
UNEXPLAINED |= {"InvalidQuery", "OutOfMemory", "OutOfTime", "Removed", "RowsRefused", "Unexplained"}
MODULES = (
    "chunk_worker.worker",
    "planner.run",
    "github.errors",
    "store.address",
    "store.connection",
    "store.chunks",
    "store.budget",
    "config",
)


class Lambda:
    """An endpoint that answers every invocation with ``payload``, and keeps what it was asked."""

    def __init__(self) -> None:
        self.payload: Any = {}
        self.seconds = 0.0
        # Lambda names the error in a header; `sam local start-lambda` does not.
        self.names_errors = True
        self.asked: list[tuple[str, dict[str, Any]]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                recorder.asked.append((self.path.split("/")[3], body))
                time.sleep(recorder.seconds)
                answer = json.dumps(recorder.payload).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                failed = isinstance(recorder.payload, dict) and "errorMessage" in recorder.payload
                if failed and recorder.names_errors:
                    self.send_header("X-Amz-Function-Error", "Unhandled")
                self.end_headers()
                with suppress(ConnectionError):  # it may have been given up
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(autouse=True)
def no_local_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One may run in this checkout."""
    monkeypatch.setattr(local_stack, "FOLDER", tmp_path / "none")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Lambda]:
    started = Lambda()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture
def aws(endpoint: Lambda) -> Lambda:
    endpoint.asked.clear()
    return endpoint


def run(aws: Lambda | None, *arguments: str) -> Result:
    """The command in this process, with AWS at the endpoint, or nowhere."""
    environment: dict[str, str | None] = dict.fromkeys(
        name for name in os.environ if name.startswith(("AWS_", "STACK_"))
    )
    if aws is None:
        environment |= {"HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
    else:
        environment |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    return CliRunner().invoke(app, list(arguments), env=environment, prog_name="backfill")


def process(**environment: str) -> subprocess.CompletedProcess[str]:
    """The command as the shell calls it to complete a word."""
    own = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/shared'}", **environment}
    command = [sys.executable, "-m", "cli"]
    return subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("plan --chunk-size 0", "--chunk-size"),
        ("plan --max-chunks -1", "--max-chunks"),
        ("plan --repository-id 123", "not a uuid"),
        ("plan --repository octo/a --repository-id 00000000-0000-0000-0000-000000000000", "either"),
        ("recover --stuck-threshold soon", "--stuck-threshold"),
        ("add octo/one octo", "OWNER/NAME"),
        ("sync octo/one 0", "numbers"),
        ("priority octo/one urgent", "urgent"),
        ("nonsense", "nonsense"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_sent(aws: Lambda, arguments: str, names: str) -> None:
    done = run(aws, *arguments.split())
    assert (done.exit_code, aws.asked) == (2, [])
    assert names in done.stderr


def test_a_failed_function_ends_with_1_and_its_own_words(aws: Lambda) -> None:
    aws.payload = {"errorMessage": "repository: octo/one is not tracked; run: backfill add octo/one"}
    done = run(aws, "pause", "octo/one")
    assert done.exit_code == 1
    assert "backfill add octo/one" in done.stderr


def test_without_aws_it_says_how_to_reach_a_stack() -> None:
    done = run(None, "status")
    assert done.exit_code == 1
    assert "a local stack: make up" in done.stderr


def test_several_are_added_also_where_one_fails(aws: Lambda) -> None:
    two = {"repository": "octo/two", "repository_id": "x", "created": True, "total_prs": 1234}
    aws.payload = {"repositories": [{"repository": "octo/one", "error": "GitHub shows no repository"}, two]}
    done = run(aws, "add", "octo/one", "octo/two", "--priority", "high", "--oldest-first")
    assert done.exit_code == 1
    assert "octo/one: GitHub shows no repository" in done.output
    assert "octo/two added: 1,234 pull requests" in done.output
    assert aws.asked == [
        (
            "progressive-backfill-console",
            {"action": "add", "repositories": ["octo/one", "octo/two"], "priority": "high", "oldest_first": True},
        )
    ]


@pytest.mark.parametrize(("options", "asked"), [(["--timeline"], True), (["--no-timeline"], False), ([], None)])
def test_the_timeline_is_asked_for_only_where_the_command_says_so(
    aws: Lambda, options: list[str], asked: bool | None
) -> None:
    aws.payload = {"repositories": [{"repository": "octo/one", "repository_id": "x", "created": True, "total_prs": 1}]}
    assert run(aws, "add", "octo/one", *options).exit_code == 0
    ((_, event),) = aws.asked
    assert event.get("timeline") is asked


def test_names_of_a_call_that_fails_are_told_each(aws: Lambda) -> None:
    aws.payload = {"errorMessage": "GitHub refuses the token"}
    done = run(aws, "add", "octo/one", "octo/two")
    assert done.exit_code == 1
    for name in ("octo/one", "octo/two"):
        assert f"{name}: GitHub refuses the token" in done.output


def _status(count: int) -> dict[str, Any]:
    row = {
        "processed_prs": 5,
        "total_prs": 10,
        "percent": 50.0,
        "prs_per_hour": 100,
        "failed_prs": 0,
        "points_spent": 3,
        "priority": "normal",
        "estimated_finish": None,
    }
    rows = [
        {**row, "repository": f"octo/r{n}", "status": "completed", "condition": {"code": "completed", "why": ""}}
        for n in range(count)
    ]
    active = {"status": "active", "condition": {"code": "waiting_for_github", "why": "until 12:00"}}
    return {
        "backfills": [{**row, "repository": "octo/active", **active}, *rows],
        "counts": {"active": 1, "paused": 0, "completed": count},
        "budgets": [{"remaining": 4000, "limit": 5000, "reset_at": "2026-01-01T00:00:00+00:00"}],
        "dead_letters": 2,
    }


def test_many_completed_ones_are_counted_and_not_listed(aws: Lambda) -> None:
    aws.payload = _status(300)
    lines = run(aws, "status").stdout.splitlines()
    assert len(lines) < 10
    assert "octo/active" in lines[1]
    assert "waiting for GitHub until 12:00" in lines[1]
    assert any("300 completed backfills are not shown" in line for line in lines)
    assert any("4,000 of 5,000 points left" in line and "2 dead letters" in line for line in lines)
    assert len(run(aws, "status", "--all").stdout.splitlines()) > 300


@pytest.mark.parametrize("width", ["80", "120", "200"])
def test_each_value_of_the_status_stands_under_its_heading(
    aws: Lambda, width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    aws.payload = _status(0)
    (row,) = aws.payload["backfills"]
    row.update(repository="octo/large", priority="high", failed_prs=3, incomplete_prs=4, points_spent=567)
    heading, values, *_ = run(aws, "status").stdout.splitlines()
    ends = {name: heading.index(name) + len(name) for name in ("failed", "incomplete", "points")}
    assert [values[:end].split()[-1] for end in ends.values()] == ["3", "4", "567"]
    assert values[heading.index("priority") :].startswith("high")
    assert values[heading.index("status") :].startswith("waiting for GitHub until 12:00")


def test_json_is_the_whole_answer(aws: Lambda) -> None:
    aws.payload = _status(30)
    done = run(aws, "status", "--json")
    assert json.loads(done.stdout) == aws.payload


@pytest.mark.parametrize(
    ("words", "offered"), [("backfill re", {"resume", "recover", "remove"}), ("backfill priority octo/one h", {"high"})]
)
def test_the_shell_completes_commands_and_values(words: str, offered: set[str]) -> None:
    count = str(len(words.split()) - 1)
    done = process(_BACKFILL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert set(done.stdout.split()) == offered
    script = process(_BACKFILL_COMPLETE="source_bash").stdout
    assert "complete -o default -F _backfill_completion backfill" in script


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("pytorch/pytorch", "pytorch/pytorch"),
        ("https://github.com/pytorch/pytorch", "pytorch/pytorch"),
        ("https://www.github.com/pytorch/pytorch.git", "pytorch/pytorch"),
        ("http://github.com/pytorch/pytorch/", "pytorch/pytorch"),
        ("github.com/pytorch/pytorch/pull/4711?x=1#y", "pytorch/pytorch"),
        ("git@github.com:pytorch/pytorch.git", "pytorch/pytorch"),
        ("ssh://git@github.com/pytorch/pytorch.git", "pytorch/pytorch"),
        ("https://octocorp.ghe.com/team/tool/tree/main", "team/tool"),
        ("https://github.example.com/team/tool", "team/tool"),
        (" octo/a.b_c-d ", "octo/a.b_c-d"),
    ],
)
def test_a_name_or_any_address_of_a_repository_names_it(aws: Lambda, given: str, name: str) -> None:
    aws.payload = {"paused": True}
    assert run(aws, "pause", given).exit_code == 0
    assert aws.asked[0][1]["repository"] == name


@pytest.mark.parametrize(
    "given",
    [
        "octo",
        "octo/",
        "/one",
        "https://gitlab.com/a/b",
        "https://github.com/octo",
        "a/b/c",
        "git@evil.com:a/b",
        "http://[x/a/b",
    ],
)
def test_text_that_does_not_name_a_repository_is_refused(aws: Lambda, given: str) -> None:
    done = run(aws, "pause", given)
    assert (done.exit_code, aws.asked) == (2, [])
    assert "OWNER/NAME" in done.stderr


def test_old_options_still_name_a_repository(aws: Lambda) -> None:
    aws.payload = {"backfills": [], "resumed": 0, "reopened": 0}
    assert run(aws, "plan", "--repository", "octo/one").exit_code == 0
    aws.payload = _status(0)
    assert run(aws, "status", "--repository", "octo/one").exit_code == 0
    assert [event["repository"] for _, event in aws.asked] == ["octo/one", "octo/one"]
    assert "--repository" not in run(aws, "status", "--help").stdout.replace("[REPOSITORY]", "")


@pytest.mark.parametrize("words", [["-h"], ["add", "-h"], ["dead-letters", "-h"], ["dead-letters", "discard", "-h"]])
def test_help_has_a_short_option_everywhere(aws: Lambda, words: list[str]) -> None:
    done = run(aws, *words)
    assert (done.exit_code, done.stdout.startswith("Usage: backfill")) == (0, True)


@pytest.mark.parametrize(("theirs", "fits"), [(__version__, True), ("0.1.9", True), ("0.2.0", False), ("1.1.0", False)])
def test_the_version_is_told_beside_that_of_the_stack(aws: Lambda, theirs: str, fits: bool) -> None:
    aws.payload = {"ok": True, "version": theirs}
    done = run(aws, "--version")
    assert done.exit_code == 0
    assert done.stdout == f"backfill {__version__}\nstack progressive-backfill: {theirs}\n"
    assert ("warning: the command" in done.stderr) is not fits
    assert aws.asked == [("progressive-backfill-console", {"action": "version"})]


def test_the_version_is_told_without_a_stack_too(aws: Lambda) -> None:
    aws.payload = {"errorType": "ContractViolation", "errorMessage": "action: 'version' is not one of ['add']"}
    done = run(aws, "--version")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"backfill {__version__}\nstack progressive-backfill: version not known: action")


@pytest.mark.parametrize(
    "command", ["add", "plan", "status", "pause", "resume", "priority", "recover", "gaps", "sync", "dead-letters list"]
)
def test_every_command_has_an_example_that_its_own_parser_takes(aws: Lambda, command: str) -> None:
    text = run(aws, *command.split(), "--help").stdout
    (example,) = [line.split("Example: backfill ")[1] for line in text.splitlines() if "Example: " in line]
    assert example.startswith(command)
    done = run(aws, *example.replace("--watch", "--all").split())
    assert done.exit_code != 2, done.stderr
    assert aws.asked


def test_the_command_waits_as_long_as_a_function_may_run(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    allowed = template["Parameters"]["WorkerTimeout"]["AllowedValues"]
    assert max(int(seconds) for seconds in allowed) < cli.stack.READ_SECONDS
    aws.seconds = 2.0
    monkeypatch.setattr(cli.stack, "READ_SECONDS", 1)
    done = run(aws, "status", "--json")
    aws.seconds = 0.0
    assert done.exit_code == 1
    assert "did not answer within 1 seconds and may still be at work" in done.stderr


def test_every_error_of_the_product_is_explained_or_sends_to_the_log() -> None:
    """The command knows the errors by their names alone: each of them is named here or there."""
    for name in MODULES:
        importlib.import_module(f"backfill.{name}")
    pending, found = [BackfillError], set()
    while pending:
        kind = pending.pop()
        if kind.__module__.startswith("backfill."):
            found.add(kind.__name__)
        pending += kind.__subclasses__()
    assert found - cli.stack.EXPLAINED == UNEXPLAINED
    assert found >= cli.stack.EXPLAINED


def test_an_error_is_one_too_where_no_header_names_it(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sam local start-lambda` answers 200 with the error as the payload."""
    monkeypatch.setattr(aws, "names_errors", False)
    aws.payload = {"errorMessage": "GitHub has no repository no/such", "errorType": "RepositoryUnavailable"}
    result = run(aws, "add", "no/such")
    assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert "GitHub has no repository no/such" in result.stderr


def test_the_local_aws_which_tells_no_type_of_an_error_sends_nobody_to_a_log_group(aws: Lambda) -> None:
    aws.payload = {"errorMessage": "repository: no/such is not tracked", "errorType": "Runtime.HandlerError"}
    assert run(aws, "remove", "no/such").stderr.splitlines()[-1] == "error: repository: no/such is not tracked"
    aws.payload["errorType"] = "KeyError"
    assert "details in the log group" in run(aws, "remove", "no/such").stderr
