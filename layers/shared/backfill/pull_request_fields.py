"""The plain fields of a pull request, each said once: the queries, the rows and the statements that store them follow from it.

A plain field is a value, or the value of an object that the pull request has at most one of. People, counts of connections and
connections have rules of their own, in github/records.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Type = Literal["text", "integer", "bigint", "boolean", "timestamptz"]


@dataclass(frozen=True, slots=True)
class Field:
    """A column of ``pull_requests``, its type, and the path of GitHub's field below PullRequest."""

    column: str
    path: str
    type: Type


# Read by every listing page, and again with the details.
LISTED = (
    Field("number", "number", "integer"),
    Field("node_id", "id", "text"),
    Field("github_id", "fullDatabaseId", "bigint"),
    Field("url", "url", "text"),
    Field("title", "title", "text"),
    Field("state", "state", "text"),
    Field("is_draft", "isDraft", "boolean"),
    Field("locked", "locked", "boolean"),
    Field("merged", "merged", "boolean"),
    Field("created_at", "createdAt", "timestamptz"),
    Field("updated_at", "updatedAt", "timestamptz"),
    Field("closed_at", "closedAt", "timestamptz"),
    Field("merged_at", "mergedAt", "timestamptz"),
    Field("additions", "additions", "integer"),
    Field("deletions", "deletions", "integer"),
    Field("changed_files", "changedFiles", "integer"),
    Field("author_association", "authorAssociation", "text"),
    Field("base_ref_name", "baseRefName", "text"),
    Field("base_ref_oid", "baseRefOid", "text"),
    Field("head_ref_name", "headRefName", "text"),
    Field("head_ref_oid", "headRefOid", "text"),
    Field("is_cross_repository", "isCrossRepository", "boolean"),
    Field("head_repository", "headRepository.nameWithOwner", "text"),
    Field("total_comments_count", "totalCommentsCount", "integer"),
)
# Read with the details alone.
DETAILED = (
    Field("body", "body", "text"),
    Field("merge_commit_oid", "mergeCommit.oid", "text"),
    Field("milestone_number", "milestone.number", "integer"),
    Field("milestone_title", "milestone.title", "text"),
)


def selection(fields: Iterable[Field]) -> str:
    """What a query selects of a pull request for these fields."""
    below: dict[str, list[str]] = {}
    for field in fields:
        name, _, rest = field.path.partition(".")
        below.setdefault(name, []).extend([rest] if rest else [])
    return " ".join(f"{name} {{ {' '.join(names)} }}" if names else name for name, names in below.items())


def values(fields: Iterable[Field], node: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of GitHub's node as GitHub gave them. Raises KeyError or TypeError where the reply lacks a field."""
    return {field.column: _at(node, field.path) for field in fields}


def _at(node: Mapping[str, Any], path: str) -> Any:
    value: Any = node
    for step in path.split("."):
        if value is None:
            return None
        value = value[step]
    return value
