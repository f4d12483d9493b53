"""GitHub's nodes as rows, keyed by the columns of migrations/versions/0001_core.sql (without repository_id)."""

from __future__ import annotations

import re
from typing import Any

Node = dict[str, Any]
Row = dict[str, Any]
Tables = dict[str, list[Row]]

_REFUSED = re.compile("[\x00\ud800-\udfff]")


def clean(value: Any) -> Any:
    """The same JSON without what Postgres refuses in text: NUL, and halves of surrogate pairs."""
    if isinstance(value, str):
        return value if value.isascii() and "\x00" not in value else _REFUSED.sub("", value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    return value


def person(tables: Tables, actor: Node | None) -> str | None:
    """Add a contributor and return the node id; None for a deleted user."""
    if not actor or not actor.get("id"):
        return None
    tables.setdefault("contributors", []).append(
        {
            "node_id": actor["id"],
            "type": actor.get("__typename", "User"),
            "github_id": actor.get("databaseId"),
            "login": actor.get("login") or actor.get("combinedSlug") or "",
            "avatar_url": actor.get("avatarUrl") or actor.get("teamAvatarUrl"),
            "url": actor.get("url"),
        }
    )
    return str(actor["id"])


def repository(node: Node) -> Row:
    """The row of ``repositories``."""
    return {
        "node_id": node["id"],
        "github_id": node["databaseId"],
        "owner": node["owner"]["login"],
        "name": node["name"],
        "url": node["url"],
        "is_private": node["isPrivate"],
        "is_fork": node["isFork"],
        "is_archived": node["isArchived"],
        "default_branch": (node["defaultBranchRef"] or {}).get("name"),
        "github_created_at": node["createdAt"],
    }


def listed(tables: Tables, node: Node) -> Row:
    """The list-level row of ``pull_requests``, with the size of every connection."""
    return {
        "number": node["number"],
        "node_id": node["id"],
        "github_id": _big(node["fullDatabaseId"]),
        "url": node["url"],
        "title": node["title"],
        "state": node["state"],
        "is_draft": node["isDraft"],
        "locked": node["locked"],
        "merged": node["merged"],
        "created_at": node["createdAt"],
        "updated_at": node["updatedAt"],
        "closed_at": node["closedAt"],
        "merged_at": node["mergedAt"],
        "additions": node["additions"],
        "deletions": node["deletions"],
        "changed_files": node["changedFiles"],
        "author_association": node["authorAssociation"],
        "author_id": person(tables, node["author"]),
        "base_ref_name": node["baseRefName"],
        "base_ref_oid": node["baseRefOid"],
        "head_ref_name": node["headRefName"],
        "head_ref_oid": node["headRefOid"],
        "is_cross_repository": node["isCrossRepository"],
        "head_repository": (node["headRepository"] or {}).get("nameWithOwner"),
        "total_comments_count": node["totalCommentsCount"],
        "labels_count": _count(node["labelsCount"]),
        "assignees_count": _count(node["assigneesCount"]),
        "review_requests_count": _count(node["reviewRequestsCount"]),
        "closing_issues_count": _count(node["closingIssuesCount"]),
        "comments_count": _count(node["commentsCount"]),
        "reviews_count": _count(node["reviewsCount"]),
        "review_threads_count": _count(node["reviewThreadsCount"]),
        "commits_count": _count(node["commitsCount"]),
        "files_count": node["changedFiles"],
    }


def detailed(tables: Tables, node: Node) -> Row:
    """The whole row of ``pull_requests``."""
    milestone = node["milestone"] or {}
    return {
        **listed(tables, node),
        "body": node["body"],
        "merged_by_id": person(tables, node["mergedBy"]),
        "merge_commit_oid": _oid(node["mergeCommit"]),
        "milestone_number": milestone.get("number"),
        "milestone_title": milestone.get("title"),
    }


def children(tables: Tables, number: int, connection: str, nodes: list[Node], offset: int) -> None:
    """Add the rows of one page of a connection; ``offset`` is how many nodes came on earlier pages."""
    add = _CHILDREN.get(connection)
    for position, node in enumerate(nodes, start=offset):
        if add is not None:
            add(tables, number, node, position)


def review_comment(tables: Tables, number: int, node: Node) -> None:
    """A comment on the diff, whether it was read from its review or from its thread."""
    reply = node["replyTo"] or {}
    review = node["pullRequestReview"] or {}
    tables.setdefault("comments", []).append(
        {
            **_comment(tables, number, node),
            "kind": "review_comment",
            "review_id": review.get("id"),
            "in_reply_to_id": _big(reply.get("fullDatabaseId")),
            "path": node["path"],
            "position": node["position"],
            "line": node["line"],
            "original_line": node["originalLine"],
            "diff_hunk": node["diffHunk"],
            "commit_oid": _oid(node["commit"]),
            "original_commit_oid": _oid(node["originalCommit"]),
            "outdated": node["outdated"],
        }
    )


def _issue_comment(tables: Tables, number: int, node: Node, position: int) -> None:
    tables.setdefault("comments", []).append({**_comment(tables, number, node), "kind": "issue_comment"})


def _comment(tables: Tables, number: int, node: Node) -> Row:
    return {
        "node_id": node["id"],
        "pull_request_number": number,
        "github_id": _big(node["fullDatabaseId"]),
        "body": node["body"],
        "author_id": person(tables, node["author"]),
        "author_association": node["authorAssociation"],
        "url": node["url"],
        "created_at": node["createdAt"],
        "updated_at": node["updatedAt"],
    }


def _review(tables: Tables, number: int, node: Node, position: int) -> None:
    tables.setdefault("reviews", []).append(
        {
            "node_id": node["id"],
            "pull_request_number": number,
            "github_id": _big(node["fullDatabaseId"]),
            "state": node["state"],
            "body": node["body"],
            "author_id": person(tables, node["author"]),
            "author_association": node["authorAssociation"],
            "commit_oid": _oid(node["commit"]),
            "url": node["url"],
            "created_at": node["createdAt"],
            "submitted_at": node["submittedAt"],
            "updated_at": node["updatedAt"],
        }
    )


def _commit(tables: Tables, number: int, node: Node, position: int) -> None:
    commit = node["commit"]
    author = commit["author"] or {}
    tables.setdefault("commits", []).append(
        {
            "pull_request_number": number,
            "oid": commit["oid"],
            "position": position,
            "message_headline": commit["messageHeadline"],
            "author_name": author.get("name"),
            "author_id": person(tables, author.get("user")),
            "authored_date": commit["authoredDate"],
            "committed_date": commit["committedDate"],
        }
    )


def _file(tables: Tables, number: int, node: Node, position: int) -> None:
    tables.setdefault("files", []).append(
        {
            "pull_request_number": number,
            "position": position,
            "path": node["path"],
            "change_type": node["changeType"],
            "additions": node["additions"],
            "deletions": node["deletions"],
        }
    )


def _label(tables: Tables, number: int, node: Node, position: int) -> None:
    tables.setdefault("labels", []).append({"node_id": node["id"], "name": node["name"], "color": node["color"]})
    tables.setdefault("pull_request_labels", []).append({"pull_request_number": number, "label_id": node["id"]})


def _assignee(tables: Tables, number: int, node: Node, position: int) -> None:
    tables.setdefault("pull_request_assignees", []).append(
        {"pull_request_number": number, "contributor_id": person(tables, node)}
    )


def _review_request(tables: Tables, number: int, node: Node, position: int) -> None:
    reviewer = person(tables, node["requestedReviewer"])
    if reviewer is not None:
        tables.setdefault("pull_request_review_requests", []).append(
            {"pull_request_number": number, "contributor_id": reviewer}
        )


def _closing_issue(tables: Tables, number: int, node: Node, position: int) -> None:
    tables.setdefault("pull_request_closing_issues", []).append(
        {
            "pull_request_number": number,
            "issue_repository": node["repository"]["nameWithOwner"],
            "issue_number": node["number"],
        }
    )


_CHILDREN = {
    "labels": _label,
    "assignees": _assignee,
    "reviewRequests": _review_request,
    "closingIssuesReferences": _closing_issue,
    "comments": _issue_comment,
    "reviews": _review,
    "commits": _commit,
    "files": _file,
}


def _count(connection: Node | None) -> int:
    return int((connection or {}).get("totalCount", 0))


def _oid(node: Node | None) -> str | None:
    return node["oid"] if node else None


def _big(value: Any) -> int | None:
    return None if value is None else int(value)
