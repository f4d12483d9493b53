"""What hangs on pull requests: of each table, the rows of a reply replace those that are stored, in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backfill.store.identities import adopting_statements, in_one_form, under_stored_ids
from backfill.store.rows import Rows, Statement, assigned, of_rows


@dataclass(frozen=True, slots=True)
class Child:
    """A table. Its ``key`` identifies a row in a repository; a node id alone identifies one anywhere."""

    name: str
    key: tuple[str, ...]
    others: tuple[str, ...] = ()

    def statement(self) -> str:
        """Delete the stored rows that did not arrive, and write those that did, if they differ. Columns are named, because a newer
        schema may have more."""
        columns = (*self.key, *self.others)
        target = ("node_id",) if self.key == ("node_id",) else ("repository_id", *self.key)
        changed = assigned((*(("repository_id",) if target == self.key else ()), *self.others), "EXCLUDED", self.name)
        update = f"UPDATE SET {changed} WHERE ROW({self.name}.*) IS DISTINCT FROM ROW(EXCLUDED.*)"
        return f"""
    WITH incoming AS (SELECT * FROM jsonb_populate_recordset(CAST(NULL AS {self.name}), :rows)),
    gone AS (
        DELETE FROM {self.name} AS stored
        WHERE stored.repository_id = :repository_id AND stored.pull_request_number = ANY(:numbers)
          AND NOT EXISTS (SELECT FROM incoming AS i WHERE {" AND ".join(f"i.{each} = stored.{each}" for each in self.key)}))
    INSERT INTO {self.name} (repository_id, {", ".join(columns)})
    SELECT :repository_id, {", ".join(columns)} FROM incoming ORDER BY {", ".join(self.key)}
    ON CONFLICT ({", ".join(target)}) DO {update if self.others else "NOTHING"}
"""


_OF_COMMENTS = (
    "review_id",
    "in_reply_to_id",
    "path",
    "position",
    "line",
    "original_line",
    "diff_hunk",
    "commit_oid",
    "original_commit_oid",
    "outdated",
)
_WRITTEN = (
    "pull_request_number",
    "github_id",
    "body",
    "author_id",
    "author_association",
    "url",
    "created_at",
    "updated_at",
)
CHILDREN = (
    Child("reviews", ("node_id",), (*_WRITTEN, "state", "commit_oid", "submitted_at")),
    Child("comments", ("node_id",), (*_WRITTEN, "kind", *_OF_COMMENTS)),
    Child(
        "commits",
        ("pull_request_number", "oid"),
        ("position", "message_headline", "author_name", "author_id", "authored_date", "committed_date"),
    ),
    # A path may stand twice in one pull request, deleted and added again, and may be longer than an index entry holds: the position
    # is the key.
    Child("files", ("pull_request_number", "position"), ("path", "change_type", "additions", "deletions")),
    Child("pull_request_labels", ("pull_request_number", "label_id")),
    Child("pull_request_assignees", ("pull_request_number", "contributor_id")),
    Child("pull_request_review_requests", ("pull_request_number", "contributor_id")),
    Child("pull_request_closing_issues", ("pull_request_number", "issue_repository", "issue_number")),
)
# Replaced only of pull requests whose timeline was read: of others, what was read earlier stays.
OF_TIMELINES = (
    Child(
        "timeline_events",
        ("pull_request_number", "position"),
        ("node_id", "kind", "actor_id", "subject_id", "subject", "before_oid", "after_oid", "created_at"),
    ),
    Child(
        "review_threads",
        ("pull_request_number", "position"),
        ("node_id", "is_resolved", "resolved_by_id", "is_outdated", "path", "line", "original_line"),
    ),
)
STATEMENTS = {each.name: each.statement() for each in (*CHILDREN, *OF_TIMELINES)}


def replacing(
    repository_id: str, numbers: Sequence[int], tables: Mapping[str, Rows], stored_ids: Mapping[str, str]
) -> list[Statement]:
    """Statements that replace everything below some pull requests. ``stored_ids``: by node id, the one that is stored."""
    chosen = set(numbers)
    children = {
        each.name: [row for row in tables.get(each.name, ()) if row["pull_request_number"] in chosen]
        for each in CHILDREN
    }
    children["files"] = in_order(children["files"])
    children["reviews"], replaced = in_one_form(children["reviews"])
    children["comments"], _ = in_one_form(children["comments"])
    stored = {**stored_ids, **replaced}
    statements = adopting_statements(repository_id, numbers, children["reviews"], children["comments"])
    for each in CHILDREN:
        rows = under_stored_ids(children[each.name], stored)
        statements.append(
            of_rows(STATEMENTS[each.name], rows, each.key, repository_id=repository_id, numbers=list(numbers))
        )
    return statements + _timelines(repository_id, chosen, tables, stored_ids)


def _timelines(
    repository_id: str, chosen: set[int], tables: Mapping[str, Rows], stored_ids: Mapping[str, str]
) -> list[Statement]:
    read = {row["number"] for row in tables["pull_requests"] if row.get("timeline_updated_at")} & chosen
    statements = []
    for each in OF_TIMELINES if read else ():
        rows = [row for row in tables.get(each.name, ()) if row["pull_request_number"] in read]
        rows = list(under_stored_ids(rows, stored_ids))
        statements.append(
            of_rows(STATEMENTS[each.name], rows, each.key, repository_id=repository_id, numbers=sorted(read))
        )
    return statements


def in_order(files: Rows) -> list[Mapping[str, Any]]:
    """Files numbered within their pull request, in GitHub's order. Pages that overlap where GitHub's count is wrong give two
    files one position: both are kept."""
    unique: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for index, row in enumerate(files):
        unique[row["pull_request_number"], row.get("position", index), row["path"], row["change_type"]] = row
    next_position: dict[int, int] = {}
    ordered: list[Mapping[str, Any]] = []
    for key in sorted(unique):
        position = next_position.get(key[0], 0)
        next_position[key[0]] = position + 1
        ordered.append({**unique[key], "position": position})
    return ordered
