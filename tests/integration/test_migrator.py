"""The migrator function as CloudFormation calls it, on a real Postgres: its answers, and the metric of its alarm."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from typing import Any
from urllib.parse import urlsplit

import pytest

from backfill import wiring
from backfill.store import address
from local.stack import free_port
from tests.integration.test_database_outages import Network
from tests.integration.test_levels import printed

ROOT = Path(__file__).parents[2]


class Context:
    """What the handler asks of Lambda's context."""

    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = log_stream_name = "test"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@pytest.fixture
def cloudformation() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes answers, and the answers."""
    answers: list[dict[str, Any]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads its log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", answers
    server.shutdown()
    server.server_close()


Migrator = Callable[[str, str], Any]


@pytest.fixture
def migrator(cloudformation: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Migrator]:
    """The handler, called with a database's URL and a RequestType."""
    spec = importlib.util.spec_from_file_location("migrator_app", ROOT / "functions/migrator/app.py")
    assert spec is not None and spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)

    def call(database_url: str, kind: str) -> Any:
        for name in ("GITHUB_TOKEN", "CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("DATABASE_URL", database_url)
        wiring.settings.cache_clear()
        wiring.database.cache_clear()
        event = {
            "ResponseURL": cloudformation[0],
            "RequestType": kind,
            "StackId": "s",
            "RequestId": "r",
            "LogicalResourceId": "Migrations",
            "ResourceProperties": {"SchemaVersion": "0001"},
            "OldResourceProperties": {"SchemaVersion": "0002"},
        }
        return app.handler(event, Context())

    yield call
    if wiring.database.cache_info().currsize:
        wiring.database().close()
    wiring.settings.cache_clear()
    wiring.database.cache_clear()


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_migration_that_fails_is_answered_and_counted_and_one_that_succeeds_ends_the_alarm(
    migrator: Migrator,
    cloudformation: tuple[str, list[dict[str, Any]]],
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "failed" in migrator(database_url.replace("/test_", "/missing_"), "Create")
    assert printed(capsys)["MigrationsFailed"] == 1
    # On the way back nothing is migrated, so nothing is known: the alarm stays.
    migrator(database_url, "Update")
    assert "MigrationsFailed" not in printed(capsys)
    assert migrator(database_url, "Create") == {"applied": []}
    assert printed(capsys)["MigrationsFailed"] == 0
    assert [each["Status"] for each in cloudformation[1]] == ["FAILED", "SUCCESS", "SUCCESS"]


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_database_that_sleeps_does_not_fail_a_new_stack(
    migrator: Migrator, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "WAKE_STEP_SECONDS", 0.1)
    port, started = free_port(), list[Network]()
    Timer(0.5, lambda: started.append(Network(direct_url, port))).start()
    url = f"postgresql://postgres@127.0.0.1:{port}{urlsplit(direct_url).path}"
    assert migrator(url, "Create") == {"applied": []}
    for each in started:
        each.close()
