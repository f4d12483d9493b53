"""The real template, deployed to the local AWS: the schedule fires, queues deliver, a message by hand is processed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from backfill.store import backfills, repositories
from backfill.store.connection import Database
from cli.stack import DeployedStack, InvocationFailed
from local.simulator import Simulator, generate
from local.stack import STACK_NAME, Stack
from tests.integration.rows import REPOSITORY

NAME = "octo/deployed"


class Deployed:
    """The running stack, its simulator, and ways to look into it."""

    def __init__(self, environment: dict[str, str], simulator: Simulator) -> None:
        self.environment, self.simulator = environment, simulator
        self.db = Database(lambda: environment["DATABASE_URL"])
        self.functions = DeployedStack(STACK_NAME)
        self.sqs = boto3.client("sqs")

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                state = self.db.rows("SELECT * FROM backfill_progress")
                raise AssertionError(f"after {seconds} s not: {what}; {state}")
            time.sleep(0.3)

    def is_completed(self) -> bool:
        row = self.db.one("SELECT status FROM progressive_backfill_state")
        return row is not None and row["status"] == "completed"

    def dead_letters(self) -> int:
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.environment["DEAD_LETTER_QUEUE_URL"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    before = dict(os.environ)
    stack = Stack(Path(tmp_path_factory.mktemp("stack")))
    with Simulator(generate(11, {NAME: 150}), speed=100) as simulator:
        for name in ("DATABASE_URL", "AWS_PROFILE"):
            os.environ.pop(name, None)
        os.environ.update(GITHUB_TOKEN="ghp_e2e", GITHUB_API_URL=simulator.url, PLANNER_SCHEDULE="rate(1 minute)")
        try:
            state = stack.up()
            os.environ.update(state["environment"])
            running = Deployed(state["environment"], simulator)
            yield running
            running.db.close()
        finally:
            stack.down()
            os.environ.clear()
            os.environ.update(before)


def test_the_schedule_alone_completes_a_backfill(deployed: Deployed) -> None:
    """No plan request: the row is inserted as a person with SQL would."""
    (held,) = deployed.simulator.repositories.values()
    row = {**REPOSITORY, "node_id": held.node["id"], "owner": "octo", "name": "deployed"}
    repository = repositories.upsert(deployed.db, row)
    backfills.add(deployed.db, repository["id"], total_prs=0, chunk_size=None, metadata={})
    deployed.wait("the backfill is completed", deployed.is_completed, 180)
    state = deployed.db.one("SELECT processed_prs, total_prs FROM progressive_backfill_state")
    assert state == {"processed_prs": 150, "total_prs": 150}
    assert deployed.dead_letters() == 0


def test_every_stored_field_equals_the_data(deployed: Deployed) -> None:
    (repository,) = deployed.simulator.repositories.values()
    rows = deployed.db.rows(
        "SELECT number, node_id, github_id, url, title, body, state, is_draft, locked, merged, additions, deletions,"
        " changed_files, author_association, author_id, merged_by_id, base_ref_name, base_ref_oid, head_ref_name,"
        " head_ref_oid, is_cross_repository, head_repository, merge_commit_oid, milestone_number, milestone_title,"
        " to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS created_at,"
        " to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS updated_at FROM pull_requests"
    )
    stored = {row["number"]: row for row in rows}
    assert stored.keys() == repository.pull_requests.keys()
    for number, node in repository.pull_requests.items():
        milestone = node["milestone"] or {}
        assert stored[number] == {
            "number": number,
            "node_id": node["id"],
            "github_id": int(node["fullDatabaseId"]),
            "url": node["url"],
            "title": node["title"],
            "body": node["body"],
            "state": node["state"],
            "is_draft": node["isDraft"],
            "locked": node["locked"],
            "merged": node["merged"],
            "additions": node["additions"],
            "deletions": node["deletions"],
            "changed_files": node["changedFiles"],
            "author_association": node["authorAssociation"],
            "author_id": (node["author"] or {}).get("id"),
            "merged_by_id": (node["mergedBy"] or {}).get("id"),
            "base_ref_name": node["baseRefName"],
            "base_ref_oid": node["baseRefOid"],
            "head_ref_name": node["headRefName"],
            "head_ref_oid": node["headRefOid"],
            "is_cross_repository": node["isCrossRepository"],
            "head_repository": (node["headRepository"] or {}).get("nameWithOwner"),
            "merge_commit_oid": (node["mergeCommit"] or {}).get("oid"),
            "milestone_number": milestone.get("number"),
            "milestone_title": milestone.get("title"),
            "created_at": node["createdAt"],
            "updated_at": node["updatedAt"],
        }
    comments = {row["node_id"]: row for row in deployed.db.rows("SELECT node_id, body, path, review_id FROM comments")}
    held = {each["id"]: each for node in repository.pull_requests.values() for each in node["comments"]}
    held |= {
        each["id"]: each
        for node in repository.pull_requests.values()
        for review in node["reviews"]
        for each in review["comments"]
    }
    assert comments.keys() == held.keys()
    for node_id, each in held.items():
        assert comments[node_id]["body"] == each["body"].replace("\x00", "")
        assert comments[node_id]["path"] == each.get("path")


def test_a_message_published_by_hand_is_processed(deployed: Deployed) -> None:
    (repository,) = deployed.simulator.repositories.values()
    number = max(repository.pull_requests)
    repository.pull_requests[number]["title"] = "Edited without a new updatedAt"
    body = {"schema_version": 1, "repository": NAME, "pr_numbers": [number]}
    deployed.sqs.send_message(QueueUrl=deployed.environment["CHUNK_QUEUE_URL"], MessageBody=json.dumps(body))
    deployed.wait(
        "the edited title is stored",
        lambda: deployed.db.one("SELECT FROM pull_requests WHERE title = 'Edited without a new updatedAt'") is not None,
        60,
    )


def test_a_malformed_message_ends_in_the_dead_letter_queue(deployed: Deployed) -> None:
    deployed.sqs.send_message(QueueUrl=deployed.environment["CHUNK_QUEUE_URL"], MessageBody='{"schema_version": 9}')
    deployed.wait("a dead letter", lambda: deployed.dead_letters() == 1, 60)
    report = deployed.functions.invoke("recovery", {})
    assert (report["dead_letters_matched"], report["dead_letters_left"]) == (0, 1)


def test_an_unknown_repository_is_a_clear_error(deployed: Deployed) -> None:
    with pytest.raises(InvocationFailed, match=r"GitHub shows no repository|Could not resolve"):
        deployed.functions.invoke("console", {"action": "add", "repository": "octo/nowhere"})
