"""GitHub's nodes as rows, keyed by the columns of migrations/versions/0001_core.sql (without repository_id)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backfill import pull_request_fields
from backfill.github import timeline
from backfill.pull_request_fields import Field

Node = dict[str, Any]
Row = dict[str, Any]
# A list-level row, with the size of every connection.
Listed = Mapping[str, Any]
Tables = dict[str, list[Row]]

# A count that GitHub does not tell.
UNKNOWN = 1
# The largest values of Postgres' integer and bigint, and the columns that are such.
_INTEGER, _BIGINT = 2**31 - 1, 2**63 - 1
_FIELDS = (*pull_request_fields.LISTED, *pull_request_fields.DETAILED)
_BIGINTS = frozenset(field.column for field in _FIELDS if field.type == "bigint") | {"in_reply_to_id"}
# Without the number: a row is nothing without it. The files' columns have names that a pull request's have too.
_INTEGERS = frozenset(field.column for field in _FIELDS if field.type == "integer") - {"number"} | {
    "position",
    "line",
    "original_line",
    "issue_number",
}
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
    """Add a contributor and return the key; None for a deleted user.

    The key is the node id. An actor of a type that has none is known by type and login.
    """
    if not actor or not (actor.get("id") or actor.get("login")):
        return None
    key = str(actor.get("id") or f"{actor.get('__typename')}:{actor['login']}")
    tables.setdefault("contributors", []).append(
        {
            "node_id": key,
            "type": actor.get("__typename", "User"),
            "github_id": actor.get("databaseId"),
            "login": actor.get("login") or actor.get("combinedSlug") or "",
            "avatar_url": actor.get("avatarUrl") or actor.get("teamAvatarUrl"),
            "url": actor.get("url"),
        }
    )
    return key


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
        **_plain(pull_request_fields.LISTED, node),
        "author_id": person(tables, node["author"]),
        "labels_count": _count(node["labelsCount"]),
        "assignees_count": _count(node["assigneesCount"]),
        "review_requests_count": _count(node["reviewRequestsCount"]),
        "closing_issues_count": _count(node["closingIssuesCount"]),
        "comments_count": _count(node["commentsCount"]),
        "reviews_count": _count(node["reviewsCount"]),
        "review_threads_count": _count(node["reviewThreadsCount"]),
        "commits_count": _count(node["commitsCount"]),
        "files_count": _count({"totalCount": node["changedFiles"]}),
    }


def detailed(tables: Tables, node: Node) -> Row:
    """The whole row of ``pull_requests``."""
    return {
        **listed(tables, node),
        **_plain(pull_request_fields.DETAILED, node),
        "merged_by_id": person(tables, node["mergedBy"]),
    }


def _plain(fields: Sequence[Field], node: Node) -> Row:
    row = pull_request_fields.values(fields, node)
    return row | {field.column: _big(row[field.column]) for field in fields if field.type == "bigint"}


def child(tables: Tables, number: int, connection: str, node_at: tuple[Node, int]) -> None:
    """Add the row of one node of a connection, and its position in it."""
    add = _CHILDREN.get(connection)
    if add is not None:
        add(tables, number, *node_at)


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


def _thread(tables: Tables, number: int, node: Node, position: int) -> None:
    if "isResolved" not in node:
        # It only leads to its comments.
        return
    tables.setdefault("review_threads", []).append(
        {
            "pull_request_number": number,
            "position": position,
            "node_id": node["id"],
            "is_resolved": node["isResolved"],
            "resolved_by_id": person(tables, node["resolvedBy"]),
            "is_outdated": node["isOutdated"],
            "path": node["path"],
            "line": node["line"],
            "original_line": node["originalLine"],
        }
    )


def _event(tables: Tables, number: int, node: Node, position: int) -> None:
    subject = node.get("requestedReviewer") or node.get("assignee") or {}
    label = node.get("label") or {}
    tables.setdefault("timeline_events", []).append(
        {
            "pull_request_number": number,
            "position": position,
            "node_id": node["id"],
            "kind": timeline.KINDS[node["__typename"]],
            "actor_id": person(tables, node["actor"]),
            "subject_id": person(tables, subject),
            "subject": label.get("name") or subject.get("login") or subject.get("combinedSlug"),
            "before_oid": _oid(node.get("beforeCommit")),
            "after_oid": _oid(node.get("afterCommit")),
            "created_at": node["createdAt"],
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
    "reviewThreads": _thread,
    "timelineItems": _event,
}


def _count(connection: Node | None) -> int:
    """How many nodes; one where GitHub does not say, so that the connection is asked for."""
    total = UNKNOWN if connection is None else connection["totalCount"]
    return total if isinstance(total, int) and 0 <= total <= _INTEGER else UNKNOWN


def _oid(node: Node | None) -> str | None:
    return node["oid"] if node else None


def _big(value: Any) -> Any:
    """A BigInt, which GitHub writes as text. Any other value stays unchanged, and ``fit`` finds it."""
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return value


def fit(row: Row) -> list[str]:
    """Put null in place of values that Postgres cannot hold (dates and numbers); the columns that had one.

    Git stores any date that somebody wrote into a commit.
    """
    bad = [column for column, value in row.items() if value is not None and not _fits(column, value)]
    row.update(dict.fromkeys(bad))
    return bad


def _fits(column: str, value: Any) -> bool:
    if column.endswith(("_at", "_date")):
        return _is_date(value)
    if column in _BIGINTS:
        return isinstance(value, int) and abs(value) <= _BIGINT
    if column in _INTEGERS:
        return isinstance(value, int) and abs(value) <= _INTEGER
    return True


def _is_date(value: Any) -> bool:
    try:
        return bool(datetime.fromisoformat(value.replace("Z", "+00:00")))
    except (AttributeError, TypeError, ValueError):
        return False
