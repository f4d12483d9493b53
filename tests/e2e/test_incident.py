"""An incident on the deployed template: a revoked token, a full dead-letter queue, a worker that is gone. Each is seen and
named in the status, on the page and in the metrics, and solved by the commands of docs/operations.md, word by word."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from playwright.sync_api import Page, expect

from backfill.store import chunks
from cli.dashboard import Dashboard
from local.simulator import generate
from local.stack import ROOT, STACK_NAME
from tests.browser.conftest import browser, opened, serving
from tests.browser.looking import confirmed, screenshot
from tests.e2e.conftest import Deployed, OneStack

__all__ = ["browser", "opened"]

NAME = "octo/incident"
FIRST_TOKEN, NEW_TOKEN = "ghp_e2e", "ghp_new"
LETTERS = 12
# Once there is nothing to see while it works.
FAST = 100.0
# Longer than a look at the dead letters hides them.
HIDDEN_SECONDS = 1.5


@pytest.fixture(scope="module")
def deployed(one_stack: OneStack) -> Iterator[Deployed]:
    with one_stack.lent(generate(5, {NAME: 300}), speed=2, token=FIRST_TOKEN) as running:
        yield running


class Look:
    """What an operator sees: the status, the page, and the metrics that the functions logged since ``begin``."""

    def __init__(self, deployed: Deployed, page: Page) -> None:
        self.deployed, self.page = deployed, page
        self.begin = 0.0

    def start(self) -> None:
        self.begin = time.time()

    def status(self) -> dict[str, Any]:
        return self.deployed.functions.invoke("console", {"action": "status"})

    def code(self) -> str:
        (row,) = self.status()["backfills"]
        return str(row["condition"]["code"])

    def metric(self, function: str, name: str) -> float:
        """The largest value that a function of the stack gave to a metric, from its EMF lines."""
        group = f"/aws/lambda/{STACK_NAME}-{function}"
        pages = boto3.client("logs").get_paginator("filter_log_events")
        values = [0.0]
        for answer in pages.paginate(logGroupName=group, startTime=int(self.begin * 1000)):
            for each in answer["events"]:
                if f'"{name}"' in each["message"] and '"_aws"' in each["message"]:
                    document = json.loads(each["message"][each["message"].index("{") :])
                    assert document["service"] == STACK_NAME
                    values += document.get(name, [])
        return max(values)

    def named(self, what: str, holds: Callable[[], Any]) -> float:
        """Wait until it is seen; seconds since the incident began."""
        self.deployed.wait(what, holds, 150)
        seconds = time.time() - self.begin
        print(f"{what}: {seconds:.1f} s", flush=True)
        return seconds


@pytest.fixture
def look(deployed: Deployed, opened: Callable[..., Page]) -> Iterator[Look]:
    with serving(Dashboard(deployed.functions, seconds=1)) as served:
        yield Look(deployed, opened(served.address))


def follow(section: str, **values: str) -> None:
    """Run the commands of a section of the runbook as they stand there."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    body = re.split(rf"^##+ {re.escape(section)}$", text, flags=re.MULTILINE)[1]
    body = re.split(r"^##+ ", body, flags=re.MULTILINE)[0]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", body, re.DOTALL) for line in block.splitlines()]
    assert commands, section
    for command in commands:
        words = shlex.split(os.path.expandvars(command).replace("OWNER/NAME", NAME))
        if words[0] == "aws":
            aws(words[1:])
        else:
            assert words[0] == "backfill", command
            if words[1] == "dead-letters":
                # The command before it hid the dead letters for a second.
                time.sleep(HIDDEN_SECONDS)
            done = subprocess.run(
                [str(ROOT / ".venv/bin/backfill"), *words[1:]], capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def aws(words: list[str]) -> None:
    """`aws SERVICE OPERATION --option value …`, which the AWS CLI would do."""
    client = boto3.client(words[0])
    options = {
        "".join(part.capitalize() for part in name.removeprefix("--").split("-")): value
        for name, value in zip(words[2::2], words[3::2], strict=True)
    }
    getattr(client, words[1].replace("-", "_"))(**options)


@pytest.mark.timeout(900)
def test_each_fault_is_seen_in_a_minute_and_solved_by_the_runbook(
    deployed: Deployed, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = look.page
    badge = page.locator(".pb-badge")
    deployed.functions.invoke("console", {"action": "add", "repository": NAME})
    begun = "SELECT count(*) AS stored FROM pull_requests WHERE detail_synced_at IS NOT NULL"
    deployed.wait("work has begun", lambda: (deployed.db.one(begun) or {})["stored"], 120)

    # GitHub revokes the token.
    look.start()
    deployed.simulator.tokens.personal = NEW_TOKEN
    look.named("bad credentials in the status", lambda: look.code() == "bad_credentials")
    expect(badge).to_have_text("bad credentials", timeout=60_000)
    look.named("BackfillsPaused", lambda: look.metric("chunk-worker", "BackfillsPaused") == 1)
    assert look.metric("chunk-worker", "BackfillsWithoutAccess") == 1
    assert time.time() - look.begin < 60
    screenshot(page, "bad-credentials")
    (secret,) = boto3.client("secretsmanager").list_secrets(
        Filters=[{"Key": "name", "Values": [f"{STACK_NAME}/github"]}]
    )["SecretList"]
    monkeypatch.setenv("GITHUB_SECRET_ARN", secret["ARN"])
    monkeypatch.setenv("NEW_TOKEN", NEW_TOKEN)
    follow("Rotating the token")
    screenshot(page, "running")
    deployed.simulator.speed = FAST
    deployed.wait("the backfill is completed", deployed.is_completed, 180)
    expect(page.locator("#pb-completed summary")).to_have_text("1 completed", timeout=60_000)

    # A sender writes messages that break the contract. A heartbeat hides the letters for a minute, and comes each minute here.
    deployed.set_heartbeat("DISABLED")
    look.start()
    for number in range(LETTERS):
        deployed.sqs.send_message(
            QueueUrl=deployed.environment["CHUNK_QUEUE_URL"],
            MessageBody=json.dumps({"schema_version": 9, "number": number}),
        )
    look.named("dead letters in the status", lambda: look.status()["dead_letters"] == LETTERS)
    tile = page.locator(".pb-tile", has_text="Dead letters")
    expect(tile.locator("dd")).to_have_text(str(LETTERS), timeout=60_000)
    look.named("InvalidMessages", lambda: look.metric("chunk-worker", "InvalidMessages") >= 1)
    assert time.time() - look.begin < 60
    screenshot(page, "dead-letters")

    def are_discarded() -> bool:
        # The last heartbeat may hide them still.
        follow("messages that break their contract")
        return deployed.dead_letters() == 0

    deployed.wait("the dead letters are discarded", are_discarded)
    deployed.set_heartbeat("ENABLED")
    expect(tile.locator("dd")).to_have_text("0", timeout=60_000)

    # A worker claims a chunk and is never heard of again; its message is gone with it.
    look.start()
    (backfill,) = deployed.db.rows("SELECT id, repository_id FROM progressive_backfill_state")
    number = max(next(iter(deployed.simulator.repositories.values())).pull_requests)
    deployed.db.execute(
        "UPDATE pull_requests SET detail_updated_at = NULL, detail_synced_at = NULL WHERE number = :number",
        number=number,
    )
    with deployed.db.transaction():
        deployed.db.execute("UPDATE progressive_backfill_state SET status = 'active'")
        chunk = chunks.create(deployed.db, backfill["id"], [number])
        assert chunks.claim(deployed.db, chunk.dispatch, 60) is not None
        deployed.db.execute(
            "UPDATE backfill_chunks SET started_at = now() - interval '3 minutes', lease_expires_at = now() - interval '1 second'"
            " WHERE id = CAST(:id AS uuid)",
            id=chunk.id,
        )
    look.named("worker lost in the status", lambda: look.code() == "worker_lost")
    expect(badge).to_have_text("worker lost", timeout=60_000)
    # The heartbeat, which comes once a minute here.
    deployed.functions.invoke("planner", {})
    look.named("ExpiredLeases", lambda: look.metric("planner", "ExpiredLeases") == 1)
    assert time.time() - look.begin < 60
    screenshot(page, "worker-lost")
    follow("worker lost")
    deployed.wait(
        "the chunk is completed",
        lambda: (found := chunks.get(deployed.db, chunk.id)) is not None and found.status == "completed",
        120,
    )
    deployed.wait("the backfill is completed", deployed.is_completed, 120)
    expect(page.locator("#pb-completed summary")).to_have_text("1 completed", timeout=60_000)
    state = deployed.db.one("SELECT processed_prs, total_prs FROM progressive_backfill_state")
    assert state == {"processed_prs": 300, "total_prs": 300}


def test_pause_and_resume_through_the_page_reach_the_deployed_functions(deployed: Deployed, look: Look) -> None:
    # A chunk that waits keeps the backfill active meanwhile.
    (backfill,) = deployed.db.rows("SELECT id FROM progressive_backfill_state")
    with deployed.db.transaction():
        chunk = chunks.create(deployed.db, backfill["id"], [1])
        deployed.db.execute(
            "UPDATE backfill_chunks SET available_at = now() + interval '1 hour' WHERE id = CAST(:id AS uuid)",
            id=chunk.id,
        )
        deployed.db.execute("UPDATE progressive_backfill_state SET status = 'active'")
    page = look.page
    for action, status in (("Pause", "paused"), ("Resume", "active")):
        confirmed(page, f"{action} {NAME}")
        expect(page.locator(".pb-notice")).to_have_text(f"{NAME} is {status}", timeout=60_000)
        state = deployed.db.one("SELECT status FROM progressive_backfill_state")
        assert state == {"status": status}
    deployed.db.execute("DELETE FROM backfill_chunks WHERE id = CAST(:id AS uuid)", id=chunk.id)


def test_the_deployed_widget_describes_itself_and_cannot_act(deployed: Deployed) -> None:
    text = deployed.functions.show("widget", {"describe": True})
    assert "lambda:InvokeFunction" in text
    event = {"action": "pause", "repository": NAME, "widgetContext": {}}
    assert NAME in deployed.functions.show("widget", event)
    assert deployed.db.one("SELECT FROM progressive_backfill_state WHERE status = 'paused'") is None
