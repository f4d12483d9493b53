"""The real template, deployed to the local AWS: the schedule fires, queues deliver, a worker reads a sync request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from backfill.config import Settings
from backfill.errors import Misconfigured
from backfill.store import backfills, repositories
from cli.stack import InvocationFailed
from local.simulator import generate
from tests.e2e.conftest import Deployed, OneStack
from tests.integration.rows import REPOSITORY
from tests.terminal import play

NAME = "octo/deployed"


@pytest.fixture(scope="module")
def deployed(one_stack: OneStack) -> Iterator[Deployed]:
    with one_stack.lent(generate(11, {NAME: 150}), speed=100) as running:
        yield running


def test_the_schedule_alone_completes_a_backfill(deployed: Deployed) -> None:
    """No plan request: the row is inserted as a person with SQL would."""
    (held,) = deployed.simulator.repositories.values()
    row = {**REPOSITORY, "node_id": held.node["id"], "owner": "octo", "name": "deployed"}
    repository = repositories.upsert(deployed.db, row)
    backfills.add(deployed.db, repository.id, total_prs=0, chunk_size=None, metadata={})
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


def _at(column: str) -> str:
    """A timestamp as GitHub writes it."""
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS {column}"


def _person(node: dict[str, Any] | None) -> str | None:
    return node["id"] if node else None


def _oid(node: dict[str, Any] | None) -> str | None:
    return node["oid"] if node else None


def _said(number: int, node: dict[str, Any]) -> dict[str, Any]:
    """What reviews and comments have in common."""
    return {
        "node_id": node["id"],
        "pull_request_number": number,
        "github_id": int(node["fullDatabaseId"]),
        "body": node["body"].replace("\x00", ""),
        "author_id": _person(node["author"]),
        "author_association": node["authorAssociation"],
        "url": node["url"],
        "created_at": node["createdAt"],
        "updated_at": node["updatedAt"],
    }


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def test_every_stored_child_equals_the_data(deployed: Deployed) -> None:
    (repository,) = deployed.simulator.repositories.values()
    held = repository.pull_requests.items()
    common = f"node_id, pull_request_number, github_id, body, author_id, author_association, url, {_at('created_at')}, {_at('updated_at')}"
    expected: dict[str, list[dict[str, Any]]] = {
        f"SELECT {common}, state, commit_oid, {_at('submitted_at')} FROM reviews": [
            {**_said(n, r), "state": r["state"], "commit_oid": _oid(r["commit"]), "submitted_at": r["submittedAt"]}
            for n, node in held
            for r in node["reviews"]
        ],
        f"SELECT {common} FROM comments WHERE kind = 'issue_comment'": [
            _said(n, c) for n, node in held for c in node["comments"]
        ],
        f"SELECT {common}, review_id, in_reply_to_id, path, position, line, original_line, diff_hunk, commit_oid,"
        " original_commit_oid, outdated FROM comments WHERE kind = 'review_comment'": [
            {
                **_said(n, c),
                "review_id": r["id"],
                "in_reply_to_id": int(c["replyTo"]["fullDatabaseId"]) if c["replyTo"] else None,
                "path": c["path"],
                "position": c["position"],
                "line": c["line"],
                "original_line": c["originalLine"],
                "diff_hunk": c["diffHunk"],
                "commit_oid": _oid(c["commit"]),
                "original_commit_oid": _oid(c["originalCommit"]),
                "outdated": c["outdated"],
            }
            for n, node in held
            for r in node["reviews"]
            for c in r["comments"]
        ],
        f"SELECT pull_request_number, oid, position, message_headline, author_name, author_id, {_at('authored_date')},"
        f" {_at('committed_date')} FROM commits": [
            {
                "pull_request_number": n,
                "oid": c["commit"]["oid"],
                "position": position,
                "message_headline": c["commit"]["messageHeadline"],
                "author_name": c["commit"]["author"]["name"],
                "author_id": _person(c["commit"]["author"]["user"]),
                "authored_date": c["commit"]["authoredDate"],
                "committed_date": c["commit"]["committedDate"],
            }
            for n, node in held
            for position, c in enumerate(node["commits"])
        ],
        "SELECT pull_request_number, path, change_type, additions, deletions FROM files": [
            {
                "pull_request_number": n,
                "path": f["path"],
                "change_type": f["changeType"],
                "additions": f["additions"],
                "deletions": f["deletions"],
            }
            for n, node in held
            for f in node["files"]
        ],
        "SELECT l.pull_request_number, l.label_id, n.name, n.color FROM pull_request_labels AS l"
        " JOIN labels AS n ON n.node_id = l.label_id": [
            {"pull_request_number": n, "label_id": each["id"], "name": each["name"], "color": each["color"]}
            for n, node in held
            for each in node["labels"]
        ],
        "SELECT pull_request_number, contributor_id FROM pull_request_assignees": [
            {"pull_request_number": n, "contributor_id": each["id"]} for n, node in held for each in node["assignees"]
        ],
        "SELECT pull_request_number, contributor_id FROM pull_request_review_requests": [
            {"pull_request_number": n, "contributor_id": each["id"]}
            for n, node in held
            for each in node["reviewRequests"]
        ],
        "SELECT pull_request_number, issue_number, issue_repository FROM pull_request_closing_issues": [
            {"pull_request_number": n, "issue_number": each["number"], "issue_repository": NAME}
            for n, node in held
            for each in node["closingIssuesReferences"]
        ],
    }
    for statement, rows in expected.items():
        assert rows, statement
        assert _sorted(deployed.db.rows(statement)) == _sorted(rows), statement


def test_a_worker_reads_a_published_sync_request(deployed: Deployed) -> None:
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

    def is_left() -> bool:
        report = deployed.functions.invoke("recovery", {})
        assert report["dead_letters_matched"] == 0
        return bool(report["dead_letters_left"] == 1)

    # A heartbeat comes each minute here, looks at the letter too, and hides it meanwhile.
    deployed.wait("recovery leaves the letter", is_left, 150)


def test_an_unknown_repository_is_a_clear_error(deployed: Deployed) -> None:
    with pytest.raises(InvocationFailed, match=r"GitHub shows no repository|Could not resolve"):
        deployed.functions.invoke("console", {"action": "add", "repository": "octo/nowhere"})


def test_a_missing_secret_says_which_and_what_to_check(deployed: Deployed) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:missing"
    environment = {name: value for name, value in deployed.environment.items() if name != "DATABASE_URL"}
    settings = Settings.from_environment({**environment, "DATABASE_SECRET_ARN": arn})
    with pytest.raises(Misconfigured, match=r"cannot be read.*check that it exists"):
        settings.database_address()()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_doctor_looks_at_the_whole_stack_which_it_finds_by_itself(deployed: Deployed, width: int) -> None:
    """A dead letter of the test above is left: that is the one warning."""
    shown = play(width, {"LOCAL_FOLDER": str(deployed.stack.folder)}, "doctor")
    assert shown.status == 0, shown.text
    text = " ".join(shown.text.split())
    assert f"On the local stack in {deployed.stack.folder}" in text
    marks = [line.split()[0] for line in shown.lines if line.startswith(("passed", "WARNED", "FAILED"))]
    assert "FAILED" not in marks
    for name in (
        "credentials",
        "stack",
        "PlannerFunction",
        "ChunkQueue",
        "version",
        "schema",
        "database",
        "GitHub token",
    ):
        assert f"passed {name}: " in text, name
    assert "passed PlannerFunctionHeartbeat: rate(1 minute) is ENABLED" in text
    assert "is Enabled" in text, "an event source mapping"
    assert "WARNED dead letters: 1 waiting run: backfill dead-letters list" in text


def test_the_doctor_names_a_part_that_was_switched_off(deployed: Deployed) -> None:
    client = boto3.client("lambda")
    mappings = client.list_event_source_mappings(FunctionName="progressive-backfill-chunk-worker")[
        "EventSourceMappings"
    ]
    client.update_event_source_mapping(UUID=mappings[0]["UUID"], Enabled=False)
    try:
        shown = play(120, {"LOCAL_FOLDER": str(deployed.stack.folder)}, "doctor")
    finally:
        client.update_event_source_mapping(UUID=mappings[0]["UUID"], Enabled=True)
    assert shown.status == 1
    text = " ".join(shown.text.split())
    assert "FAILED ChunkWorkerFunctionChunks: from progressive-backfill-chunks is Disabled" in text
    assert f"update-event-source-mapping --enabled --uuid {mappings[0]['UUID']}" in text


def test_logs_of_a_repository_are_shown(deployed: Deployed) -> None:
    environment = {"LOCAL_FOLDER": str(deployed.stack.folder)}
    shown = play(200, environment, "logs", NAME, "--since", "1h")
    assert shown.status == 0, shown.text
    lines = [line for line in shown.lines if NAME in line]
    assert lines and all(re.match(r"\d\d:\d\d:\d\d  (planner|chunk-worker)  ", line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line[:8])
    assert any("chunk claimed" in line for line in lines)
    assert "START RequestId" not in shown.text and "_aws" not in shown.text
    none = play(80, environment, "logs", "octo/nobody", "--since", "1h")
    assert none.status == 0 and "Nothing was logged of octo/nobody in the last 1h" in none.text
    followed = play(120, environment, "logs", "--follow", "--since", "1h", stop_when="chunk claimed")
    # A function's own traceback comes behind its time; one of the command's would begin a line.
    assert followed.status == 0 and not any(line.startswith("Traceback") for line in followed.lines)


def test_the_schedule_checks_a_repository_that_rested_and_the_next_check_is_due_hours_later(deployed: Deployed) -> None:
    due = "SELECT FROM progressive_backfill_state WHERE next_check_at > now() + interval '7 hours'"
    deployed.wait("it was checked", lambda: deployed.db.rows(due) != [], 90)
    row = deployed.db.one("SELECT sum(check_points) >= 1 AS is_booked FROM github_hours")
    assert row == {"is_booked": True}
