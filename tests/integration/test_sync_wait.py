"""`backfill sync --wait` ends when a worker has read the pull requests, and prints the result of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from backfill.error_codes import ErrorCode
from backfill.model import Dispatch, Spent
from backfill.outcomes import Failed
from backfill.store import chunks, conclusions
from backfill.store.connection import Database
from cli import waiting
from cli.main import app
from cli.stack import DeployedStack
from local.in_process import Stack
from local.simulator import Simulator, generate

NAME = "octo/one"
Command = Callable[..., Any]


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Simulator(generate(1, {NAME: 4}), speed=5000) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME, chunk_size=1)
        stack.run()
        yield stack


@pytest.fixture
def sync(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command over this stack, which handles one message before each look."""
    monkeypatch.setattr(waiting, "EVERY_SECONDS", 0.01)

    def invoke(_: DeployedStack, function: str, event: dict[str, Any]) -> Any:
        if event["action"] == "synced" and stack.queues.chunks:
            stack.work_once()
        return json.loads(json.dumps(stack.console.act(event)))

    monkeypatch.setattr(DeployedStack, "invoke", invoke)
    return lambda *words: CliRunner().invoke(app, ["sync", "--wait", NAME, *words])


def numbers(stack: Stack) -> list[int]:
    return sorted(stack.repository(NAME).pull_requests)


def test_it_ends_when_all_are_read(stack: Stack, sync: Command) -> None:
    first, second, *_ = numbers(stack)
    before = stack.simulator.details.copy()
    done = sync(str(first), str(second))
    assert (done.exit_code, "all 2 were read" in done.output, "2 waiting" in done.output) == (0, True, True)
    assert sum((stack.simulator.details - before).values()) == 2


def test_a_reading_that_began_before_the_request_is_not_the_answer(stack: Stack, sync: Command) -> None:
    """A worker has claimed the pull request, and stores what it read before the person asked."""
    first = numbers(stack)[0]
    stack.db.execute("UPDATE backfill_chunks SET started_at = now() - interval '1 minute'")
    stack.db.execute("UPDATE pull_requests SET detail_synced_at = now() + interval '1 second'")
    since = stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [first]})["asked_at"]
    look = {"action": "synced", "repository": NAME, "pr_numbers": [first], "since": since}
    assert stack.console.act(look)["pull_requests"] == [{"number": first, "state": "waiting", "reason": None}]
    stack.run()
    assert [row["state"] for row in stack.console.act(look)["pull_requests"]] == ["read"]


def test_gone_and_missing_pull_requests_end_it_with_status_1(stack: Stack, sync: Command) -> None:
    first = numbers(stack)[0]
    del stack.repository(NAME).pull_requests[first]
    done = sync(str(first))
    assert (done.exit_code, f"#{first}: gone" in done.output) == (1, True)
    done = sync("9999", str(numbers(stack)[0]))
    assert (done.exit_code, "GitHub has no pull request #9999" in done.output) == (1, True)
    assert "it was read" in done.output


def test_a_failed_one_comes_with_its_reason(stack: Stack, sync: Command) -> None:
    first = numbers(stack)[0]
    since = stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [first]})["asked_at"]
    stack.work_once()
    stack.db.execute("UPDATE backfill_chunks SET attempts = 4 WHERE origin = 'message'")
    claimed = stack.db.one("SELECT * FROM backfill_chunks WHERE origin = 'message'")
    assert claimed is not None
    chunk = chunks.claim(stack.db, Dispatch(claimed["id"], claimed["dispatch_id"]), 60)
    assert chunk is not None
    conclusions.conclude(stack.db, chunk, Failed(ErrorCode.ATTEMPTS_SPENT, "GitHub is away"), Spent())
    look = {"action": "synced", "repository": NAME, "pr_numbers": [first], "since": since}
    rows = stack.console.act(look)["pull_requests"]
    assert rows == [{"number": first, "state": "failed", "reason": "GitHub is away"}]
    assert waiting.trouble(rows) == [f"#{first}: failed (GitHub is away)"]


def test_a_pause_is_told_and_the_wait_has_an_end(stack: Stack, sync: Command) -> None:
    stack.db.execute(
        "UPDATE progressive_backfill_state SET status = 'paused', pause_reason = 'bad_credentials',"
        " paused_until = now() + interval '1 hour'"
    )
    done = sync(str(numbers(stack)[0]), "--timeout", "1")
    assert done.exit_code == 1
    assert "not yet: the backfill is paused (bad_credentials)" in done.output
    assert "1 waiting" in done.output


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01T00:00:00Z"])
def test_a_wrong_time_is_refused(stack: Stack, since: str) -> None:
    with pytest.raises(Exception, match="since"):
        stack.console.act({"action": "synced", "repository": NAME, "pr_numbers": [1], "since": since})
