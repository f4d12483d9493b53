"""Rows as the listing and the details of GitHub give them, small and complete."""

from __future__ import annotations

from typing import Any

from backfill.error_codes import ErrorCode
from backfill.model import Chunk, Spent
from backfill.outcomes import Failed, Retried
from backfill.store import backfills, conclusions, pull_requests, repositories
from backfill.store.connection import Database

Row = dict[str, Any]

REPOSITORY: Row = {
    "node_id": "R_1",
    "github_id": 1,
    "owner": "octo",
    "name": "hello",
    "url": "https://github.com/octo/hello",
    "is_private": False,
    "is_fork": False,
    "is_archived": False,
    "default_branch": "main",
    "github_created_at": "2020-01-01T00:00:00Z",
}
OCTOCAT: Row = {
    "node_id": "U_1",
    "type": "User",
    "github_id": 583231,
    "login": "octocat",
    "avatar_url": "a",
    "url": "u",
}


def listed(number: int, updated_at: str = "2024-01-01T00:00:00Z", **changes: Any) -> Row:
    """A pull request as a listing page has it."""
    return {
        "number": number,
        "node_id": f"PR_{number}",
        "github_id": 1000 + number,
        "url": f"https://github.com/octo/hello/pull/{number}",
        "title": f"Change {number}",
        "state": "OPEN",
        "is_draft": False,
        "locked": False,
        "merged": False,
        "created_at": f"2023-01-01T00:{number // 60:02d}:{number % 60:02d}Z",
        "updated_at": updated_at,
        "closed_at": None,
        "merged_at": None,
        "additions": 1,
        "deletions": 2,
        "changed_files": 1,
        "author_association": "NONE",
        "author_id": "U_1",
        "base_ref_name": "main",
        "base_ref_oid": "b" * 40,
        "head_ref_name": "topic",
        "head_ref_oid": "h" * 40,
        "is_cross_repository": False,
        "head_repository": "octo/hello",
        "total_comments_count": 1,
        "labels_count": 0,
        "assignees_count": 0,
        "review_requests_count": 0,
        "closing_issues_count": 0,
        "comments_count": 1,
        "reviews_count": 0,
        "review_threads_count": 0,
        "commits_count": 1,
        "files_count": 1,
        **changes,
    }


def details(*numbers: int, updated_at: str = "2024-01-01T00:00:00Z") -> dict[str, list[Row]]:
    """Whole pull requests: one comment, one commit and one file each."""
    extra = {
        "body": "text",
        "merged_by_id": None,
        "merge_commit_oid": None,
        "milestone_number": None,
        "milestone_title": None,
    }
    return {
        "contributors": [OCTOCAT],
        "pull_requests": [listed(number, updated_at, **extra) for number in numbers],
        "comments": [comment(number, f"IC_{number}", updated_at) for number in numbers],
        "commits": [
            {
                "pull_request_number": number,
                "oid": f"{number:040d}",
                "position": 0,
                "message_headline": "One",
                "author_name": "Octo",
                "author_id": "U_1",
                "authored_date": "2023-01-01T00:00:00Z",
                "committed_date": "2023-01-01T00:00:00Z",
            }
            for number in numbers
        ],
        "files": [
            {"pull_request_number": number, "path": "a.py", "change_type": "ADDED", "additions": 1, "deletions": 0}
            for number in numbers
        ],
    }


def comment(number: int, node_id: str, updated_at: str = "2024-01-01T00:00:00Z") -> Row:
    """An issue comment."""
    return {
        "node_id": node_id,
        "kind": "issue_comment",
        "pull_request_number": number,
        "github_id": 9000 + number,
        "body": "Nice",
        "author_id": "U_1",
        "author_association": "NONE",
        "url": f"https://github.com/octo/hello/pull/{number}#issuecomment-1",
        "created_at": updated_at,
        "updated_at": updated_at,
    }


def backfill_of(db: Database, *numbers: int) -> Row:
    """A tracked repository with these pull requests listed; its backfill."""
    repository = repositories.upsert(db, REPOSITORY)
    backfills.add(db, repository.id, total_prs=len(numbers), chunk_size=None, metadata={})
    pull_requests.store_listed(db, repository.id, [OCTOCAT], [listed(number) for number in numbers])
    (row,) = db.rows("SELECT * FROM progressive_backfill_state")
    return row


# Ends a claim without an effect on the backfill's count of errors.
BROKEN = Failed(ErrorCode.UNEXPLAINED, "boom", counts=False)


def give_back(db: Database, chunk: Chunk) -> None:
    """A worker retries its chunk at once."""
    conclusions.conclude(db, chunk, Retried(backfills.now(db), ErrorCode.RETRYABLE, "x", counts=False), Spent())
