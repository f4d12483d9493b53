"""Pull requests and everything below them: one jsonb_to_recordset statement per table and chunk.

Rows arrive keyed by column name. Rows of one statement are unique by key and written in key order, so that two
transactions take their locks in the same order: contributors, labels, pull requests, then what hangs on them. A pull request
is identified by its repository and number; store/identities.py says what identifies the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backfill import pull_request_fields
from backfill.error_codes import ErrorCode
from backfill.model import Backfill
from backfill.store.connection import Database, Row, RowsRefused, as_text
from backfill.store.identities import (
    AUTHORS,
    adopting_statements,
    contributor_statements,
    in_one_form,
    label_statements,
    people_parameter,
    under_stored_ids,
)

Rows = Sequence[Mapping[str, Any]]


class Refused(Protocol):
    """Why GitHub does not list a number."""

    @property
    def code(self) -> str: ...
    @property
    def reason(self) -> str: ...


# A pull request whose detail failed is tried again after this long, or as soon as it changes on GitHub.
FAILED_RETRY_HOURS = 24
# An incomplete pull request, or a number that GitHub does not list, is asked for again after each of these in turn, the last one
# again and again; an incomplete one also as soon as it changes.
ASK_AGAIN_AFTER = ("1 day", "7 days", "30 days")

# Columns that a listing page and the details write, with their types.
_COUNTS = (
    "labels_count",
    "assignees_count",
    "review_requests_count",
    "closing_issues_count",
    "comments_count",
    "reviews_count",
    "review_threads_count",
    "commits_count",
    "files_count",
)
_LISTED_COLUMNS: dict[str, str] = {
    **{field.column: field.type for field in pull_request_fields.LISTED},
    "author_id": "text",
    **dict.fromkeys(_COUNTS, "integer"),
}
_DETAILED_COLUMNS: dict[str, str] = {
    **_LISTED_COLUMNS,
    **{field.column: field.type for field in pull_request_fields.DETAILED},
    "merged_by_id": "text",
    "incomplete": "jsonb",
}


def _typed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def _assigned(columns: Iterable[str], new: str, old: str) -> str:
    """SET of an upsert. GitHub's number of an object, once known, stays known."""
    return ", ".join(
        f"{name} = COALESCE({new}.{name}, {old}.{name})" if name == "github_id" else f"{name} = {new}.{name}"
        for name in columns
        if name != "number"
    )


# Never backwards: a listing page that was read before the stored row does not replace it. A stored date in the future was
# wrong, so it outranks nothing; detail that was read under it is read again.
_LISTED = f"""
    INSERT INTO pull_requests (repository_id, {", ".join(_LISTED_COLUMNS)})
    SELECT CAST(:repository_id AS uuid),
        {", ".join("COALESCE(author.stored, author_id)" if name == "author_id" else name for name in _LISTED_COLUMNS)}
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS p({_typed(_LISTED_COLUMNS)})
    LEFT JOIN {AUTHORS} AS author ON author.given = author_id
    ORDER BY number
    ON CONFLICT (repository_id, number) DO UPDATE SET
        {_assigned(_LISTED_COLUMNS, "EXCLUDED", "pull_requests")},
        listed_at = now(), gone_at = NULL,
        detail_synced_at = CASE WHEN EXCLUDED.updated_at >= pull_requests.updated_at THEN pull_requests.detail_synced_at END,
        detail_updated_at = CASE WHEN EXCLUDED.updated_at >= pull_requests.updated_at THEN pull_requests.detail_updated_at END,
        detail_error = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.detail_error END,
        detail_error_code = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.detail_error_code END,
        detail_failed_at = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.detail_failed_at END
    WHERE EXCLUDED.updated_at >= LEAST(pull_requests.updated_at, now())
"""

# Locks the rows that may be written, and says which: detail read as of an older updated_at than the row has is not.
# The rows that the same transaction writes later are locked here too, before anything locks the backfill.
_ACCEPTED = """
    SELECT p.number, COALESCE(i.updated_at >= LEAST(p.updated_at, now())
               AND (p.detail_updated_at IS NULL OR i.updated_at >= LEAST(p.detail_updated_at, now())), false) AS is_accepted
    FROM pull_requests AS p
    LEFT JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(number integer, updated_at timestamptz) ON i.number = p.number
    WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.number = ANY(CAST(:numbers AS integer[]))
    ORDER BY p.number
    FOR UPDATE OF p
"""

_LOCK = """
    SELECT number FROM pull_requests
    WHERE repository_id = CAST(:repository_id AS uuid) AND number = ANY(CAST(:numbers AS integer[]))
    ORDER BY number FOR UPDATE
"""

_DETAILED = f"""
    UPDATE pull_requests AS p SET
        {_assigned(_DETAILED_COLUMNS, "i", "p")},
        listed_at = now(), gone_at = NULL, detail_synced_at = now(), detail_updated_at = i.updated_at,
        detail_error = NULL, detail_error_code = NULL, detail_failed_at = NULL,
        incomplete_reads = CASE WHEN i.incomplete IS NULL THEN 0 WHEN i.updated_at > p.updated_at THEN 1
                                ELSE p.incomplete_reads + 1 END,
        read_again_at = CASE WHEN i.incomplete IS NOT NULL THEN now() + (CAST(:waits AS interval[]))[
            LEAST(CASE WHEN i.updated_at > p.updated_at THEN 1 ELSE p.incomplete_reads + 1 END, 3)] END
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i({_typed(_DETAILED_COLUMNS)})
    WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.number = i.number
"""

_REVIEWS = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(
            node_id text, pull_request_number integer, github_id bigint, state text, body text, author_id text,
            author_association text, commit_oid text, url text, created_at timestamptz, submitted_at timestamptz,
            updated_at timestamptz)),
    gone AS (
        DELETE FROM reviews AS r
        WHERE r.repository_id = CAST(:repository_id AS uuid) AND r.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i WHERE i.node_id = r.node_id))
    INSERT INTO reviews (node_id, repository_id, pull_request_number, github_id, state, body, author_id,
                         author_association, commit_oid, url, created_at, submitted_at, updated_at)
    SELECT node_id, CAST(:repository_id AS uuid), pull_request_number, github_id, state, body, author_id,
           author_association, commit_oid, url, created_at, submitted_at, updated_at
    FROM incoming ORDER BY node_id
    ON CONFLICT (node_id) DO UPDATE SET
        repository_id = EXCLUDED.repository_id, pull_request_number = EXCLUDED.pull_request_number,
        github_id = COALESCE(EXCLUDED.github_id, reviews.github_id), state = EXCLUDED.state, body = EXCLUDED.body, author_id = EXCLUDED.author_id,
        author_association = EXCLUDED.author_association, commit_oid = EXCLUDED.commit_oid, url = EXCLUDED.url,
        created_at = EXCLUDED.created_at, submitted_at = EXCLUDED.submitted_at, updated_at = EXCLUDED.updated_at
    WHERE ROW(reviews.*) IS DISTINCT FROM ROW(EXCLUDED.*)
"""

_COMMENTS = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(
            node_id text, kind text, pull_request_number integer, github_id bigint, body text, author_id text,
            author_association text, url text, created_at timestamptz, updated_at timestamptz, review_id text,
            in_reply_to_id bigint, path text, position integer, line integer, original_line integer, diff_hunk text,
            commit_oid text, original_commit_oid text, outdated boolean)),
    gone AS (
        DELETE FROM comments AS c
        WHERE c.repository_id = CAST(:repository_id AS uuid) AND c.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i WHERE i.node_id = c.node_id))
    INSERT INTO comments (node_id, kind, repository_id, pull_request_number, github_id, body, author_id,
                          author_association, url, created_at, updated_at, review_id, in_reply_to_id, path, position,
                          line, original_line, diff_hunk, commit_oid, original_commit_oid, outdated)
    SELECT node_id, kind, CAST(:repository_id AS uuid), pull_request_number, github_id, body, author_id,
           author_association, url, created_at, updated_at, review_id, in_reply_to_id, path, position,
           line, original_line, diff_hunk, commit_oid, original_commit_oid, outdated
    FROM incoming ORDER BY node_id
    ON CONFLICT (node_id) DO UPDATE SET
        kind = EXCLUDED.kind, repository_id = EXCLUDED.repository_id, pull_request_number = EXCLUDED.pull_request_number,
        github_id = COALESCE(EXCLUDED.github_id, comments.github_id), body = EXCLUDED.body, author_id = EXCLUDED.author_id,
        author_association = EXCLUDED.author_association, url = EXCLUDED.url, created_at = EXCLUDED.created_at,
        updated_at = EXCLUDED.updated_at, review_id = EXCLUDED.review_id, in_reply_to_id = EXCLUDED.in_reply_to_id,
        path = EXCLUDED.path, position = EXCLUDED.position, line = EXCLUDED.line, original_line = EXCLUDED.original_line,
        diff_hunk = EXCLUDED.diff_hunk, commit_oid = EXCLUDED.commit_oid,
        original_commit_oid = EXCLUDED.original_commit_oid, outdated = EXCLUDED.outdated
    WHERE ROW(comments.*) IS DISTINCT FROM ROW(EXCLUDED.*)
"""

_COMMITS = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(
            pull_request_number integer, oid text, position integer, message_headline text, author_name text,
            author_id text, authored_date timestamptz, committed_date timestamptz)),
    gone AS (
        DELETE FROM commits AS c
        WHERE c.repository_id = CAST(:repository_id AS uuid) AND c.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i
                          WHERE i.pull_request_number = c.pull_request_number AND i.oid = c.oid))
    INSERT INTO commits (repository_id, pull_request_number, oid, position, message_headline, author_name, author_id,
                         authored_date, committed_date)
    SELECT CAST(:repository_id AS uuid), pull_request_number, oid, position, message_headline, author_name, author_id,
           authored_date, committed_date
    FROM incoming ORDER BY pull_request_number, oid
    ON CONFLICT (repository_id, pull_request_number, oid) DO UPDATE SET
        position = EXCLUDED.position, message_headline = EXCLUDED.message_headline, author_name = EXCLUDED.author_name,
        author_id = EXCLUDED.author_id, authored_date = EXCLUDED.authored_date, committed_date = EXCLUDED.committed_date
    WHERE ROW(commits.*) IS DISTINCT FROM ROW(EXCLUDED.*)
"""

# A path may stand twice in one pull request, deleted and added again, and may be longer than an index entry holds: the
# position is the key.
_FILES = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(
            pull_request_number integer, position integer, path text, change_type text, additions integer,
            deletions integer)),
    gone AS (
        DELETE FROM files AS f
        WHERE f.repository_id = CAST(:repository_id AS uuid) AND f.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i
                          WHERE i.pull_request_number = f.pull_request_number AND i.position = f.position))
    INSERT INTO files (repository_id, pull_request_number, position, path, change_type, additions, deletions)
    SELECT CAST(:repository_id AS uuid), pull_request_number, position, path, change_type, additions, deletions
    FROM incoming ORDER BY pull_request_number, position
    ON CONFLICT (repository_id, pull_request_number, position) DO UPDATE SET
        path = EXCLUDED.path, change_type = EXCLUDED.change_type, additions = EXCLUDED.additions,
        deletions = EXCLUDED.deletions
    WHERE ROW(files.*) IS DISTINCT FROM ROW(EXCLUDED.*)
"""

_PULL_REQUEST_LABELS = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(pull_request_number integer, label_id text)),
    gone AS (
        DELETE FROM pull_request_labels AS l
        WHERE l.repository_id = CAST(:repository_id AS uuid) AND l.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i
                          WHERE i.pull_request_number = l.pull_request_number AND i.label_id = l.label_id))
    INSERT INTO pull_request_labels (repository_id, pull_request_number, label_id)
    SELECT CAST(:repository_id AS uuid), pull_request_number, label_id
    FROM incoming ORDER BY pull_request_number, label_id
    ON CONFLICT DO NOTHING
"""

_PULL_REQUEST_ASSIGNEES = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(pull_request_number integer, contributor_id text)),
    gone AS (
        DELETE FROM pull_request_assignees AS a
        WHERE a.repository_id = CAST(:repository_id AS uuid) AND a.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i
                          WHERE i.pull_request_number = a.pull_request_number AND i.contributor_id = a.contributor_id))
    INSERT INTO pull_request_assignees (repository_id, pull_request_number, contributor_id)
    SELECT CAST(:repository_id AS uuid), pull_request_number, contributor_id
    FROM incoming ORDER BY pull_request_number, contributor_id
    ON CONFLICT DO NOTHING
"""

_PULL_REQUEST_REVIEW_REQUESTS = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(pull_request_number integer, contributor_id text)),
    gone AS (
        DELETE FROM pull_request_review_requests AS a
        WHERE a.repository_id = CAST(:repository_id AS uuid) AND a.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i
                          WHERE i.pull_request_number = a.pull_request_number AND i.contributor_id = a.contributor_id))
    INSERT INTO pull_request_review_requests (repository_id, pull_request_number, contributor_id)
    SELECT CAST(:repository_id AS uuid), pull_request_number, contributor_id
    FROM incoming ORDER BY pull_request_number, contributor_id
    ON CONFLICT DO NOTHING
"""

_PULL_REQUEST_CLOSING_ISSUES = """
    WITH incoming AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(
            pull_request_number integer, issue_repository text, issue_number integer)),
    gone AS (
        DELETE FROM pull_request_closing_issues AS c
        WHERE c.repository_id = CAST(:repository_id AS uuid) AND c.pull_request_number = ANY(CAST(:numbers AS integer[]))
          AND NOT EXISTS (SELECT FROM incoming AS i
                          WHERE i.pull_request_number = c.pull_request_number
                            AND i.issue_repository = c.issue_repository AND i.issue_number = c.issue_number))
    INSERT INTO pull_request_closing_issues (repository_id, pull_request_number, issue_repository, issue_number)
    SELECT CAST(:repository_id AS uuid), pull_request_number, issue_repository, issue_number
    FROM incoming ORDER BY pull_request_number, issue_repository, issue_number
    ON CONFLICT DO NOTHING
"""

# Tables whose rows belong to no single pull request: others name them.
_NAMED = ("contributors", "labels")
Key = Callable[[Mapping[str, Any]], Any]
_CHILDREN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("reviews", _REVIEWS, ("node_id",)),
    ("comments", _COMMENTS, ("node_id",)),
    ("commits", _COMMITS, ("pull_request_number", "oid")),
    ("files", _FILES, ("pull_request_number", "position")),
    ("pull_request_labels", _PULL_REQUEST_LABELS, ("pull_request_number", "label_id")),
    ("pull_request_assignees", _PULL_REQUEST_ASSIGNEES, ("pull_request_number", "contributor_id")),
    ("pull_request_review_requests", _PULL_REQUEST_REVIEW_REQUESTS, ("pull_request_number", "contributor_id")),
    (
        "pull_request_closing_issues",
        _PULL_REQUEST_CLOSING_ISSUES,
        ("pull_request_number", "issue_repository", "issue_number"),
    ),
)

# Work that is left, newest or oldest first; a pull request in an unfinished chunk is somebody's already.
_TO_DETAIL_NEWEST = """
    SELECT p.number, p.total_comments_count, p.labels_count, p.assignees_count, p.review_requests_count,
           p.closing_issues_count, p.comments_count, p.reviews_count, p.review_threads_count, p.commits_count, p.files_count
    FROM pull_requests AS p
    WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.gone_at IS NULL
      AND (p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at)
      AND (p.detail_failed_at IS NULL OR p.detail_failed_at < now() - make_interval(hours => :retry_hours))
      AND NOT EXISTS (SELECT FROM backfill_chunk_members AS m
                      WHERE m.backfill_state_id = CAST(:backfill_id AS uuid) AND m.number = p.number)
    ORDER BY p.created_at DESC, p.number DESC
    LIMIT :limit
"""
_TO_DETAIL_OLDEST = """
    SELECT p.number, p.total_comments_count, p.labels_count, p.assignees_count, p.review_requests_count,
           p.closing_issues_count, p.comments_count, p.reviews_count, p.review_threads_count, p.commits_count, p.files_count
    FROM pull_requests AS p
    WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.gone_at IS NULL
      AND (p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at)
      AND (p.detail_failed_at IS NULL OR p.detail_failed_at < now() - make_interval(hours => :retry_hours))
      AND NOT EXISTS (SELECT FROM backfill_chunk_members AS m
                      WHERE m.backfill_state_id = CAST(:backfill_id AS uuid) AND m.number = p.number)
    ORDER BY p.created_at, p.number
    LIMIT :limit
"""

_FAILED = """
    WITH locked AS (
        SELECT p.number, i.code, i.error FROM pull_requests AS p
        JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(number integer, code text, error text) ON i.number = p.number
        WHERE p.repository_id = CAST(:repository_id AS uuid)
        ORDER BY p.number FOR UPDATE OF p)
    UPDATE pull_requests AS p SET detail_error = l.error, detail_error_code = l.code, detail_failed_at = now()
    FROM locked AS l WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.number = l.number
"""

_GONE = """
    WITH locked AS (
        SELECT number FROM pull_requests
        WHERE repository_id = CAST(:repository_id AS uuid) AND number = ANY(CAST(:numbers AS integer[])) AND gone_at IS NULL
        ORDER BY number FOR UPDATE)
    UPDATE pull_requests AS p SET gone_at = now() FROM locked AS l
    WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.number = l.number
"""

_RETRY_FAILED = """
    WITH locked AS (
        SELECT number FROM pull_requests
        WHERE repository_id = CAST(:repository_id AS uuid) AND (detail_failed_at IS NOT NULL OR incomplete IS NOT NULL)
        ORDER BY number FOR UPDATE)
    UPDATE pull_requests AS p SET detail_error = NULL, detail_error_code = NULL, detail_failed_at = NULL,
           detail_synced_at = CASE WHEN incomplete IS NULL THEN detail_synced_at END,
           detail_updated_at = CASE WHEN incomplete IS NULL THEN detail_updated_at END, read_again_at = NULL
    FROM locked AS l WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.number = l.number
"""

# Incomplete pull requests whose time has come lack their detail again. What is stored of them stays until they are read.
_READ_AGAIN = """
    WITH locked AS (
        SELECT repository_id, number FROM pull_requests WHERE read_again_at <= now() AND gone_at IS NULL
        ORDER BY repository_id, number FOR UPDATE)
    UPDATE pull_requests AS p SET detail_synced_at = NULL, detail_updated_at = NULL, read_again_at = NULL
    FROM locked AS l WHERE p.repository_id = l.repository_id AND p.number = l.number
"""

# The backfill is locked first, as by the trigger on pull requests.
_REFUSED = """
    WITH backfill AS (
        SELECT id FROM progressive_backfill_state WHERE repository_id = CAST(:repository_id AS uuid) FOR NO KEY UPDATE)
    INSERT INTO pull_request_numbers (repository_id, number, refused_code, refused_reason, refusals, ask_again_at)
    SELECT CAST(:repository_id AS uuid), i.number, i.code, i.reason, 1, now() + (CAST(:waits AS interval[]))[1]
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS i(number integer, code text, reason text)
    WHERE (SELECT count(*) FROM backfill) >= 0
      AND NOT EXISTS (SELECT FROM pull_requests AS p WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.number = i.number)
    ORDER BY i.number
    ON CONFLICT (repository_id, number) DO UPDATE SET
        refused_code = EXCLUDED.refused_code, refused_reason = EXCLUDED.refused_reason,
        refusals = CASE WHEN :is_asked_again THEN pull_request_numbers.refusals + 1 ELSE GREATEST(1, pull_request_numbers.refusals) END,
        ask_again_at = CASE WHEN :is_asked_again OR pull_request_numbers.ask_again_at IS NULL
            THEN now() + (CAST(:waits AS interval[]))[LEAST(pull_request_numbers.refusals + 1, 3)]
            ELSE pull_request_numbers.ask_again_at END
"""
_TO_ASK_AGAIN = """
    SELECT number FROM pull_request_numbers
    WHERE repository_id = CAST(:repository_id AS uuid) AND ask_again_at <= now() ORDER BY number
"""
_FORGET_REFUSED = """
    DELETE FROM pull_request_numbers
    WHERE repository_id = CAST(:repository_id AS uuid) AND number = ANY(:numbers) AND refused_code IS NOT NULL
"""

# Rows that the listing, walked from its beginning to its end, did not show.
# A row that was listed in the future was so before the clock of the database was put back.
_NOT_LISTED = """
    SELECT p.number FROM pull_requests AS p JOIN progressive_backfill_state AS s ON s.repository_id = p.repository_id
    WHERE p.repository_id = CAST(:repository_id AS uuid) AND p.gone_at IS NULL
      AND (p.listed_at < s.listing_started_at OR p.listed_at > now() + interval '1 minute')
    ORDER BY p.number
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of pull requests: ``accepted`` were written, ``refused`` are those whose values Postgres does not take, with
    the reason. The others were read as of an older ``updated_at`` than the stored row has."""

    accepted: list[int]
    refused: dict[int, str]


@dataclass(frozen=True, slots=True)
class _ValueRefused:
    """Why a row of a listing page is not stored."""

    reason: str
    code: str = ErrorCode.VALUE_REFUSED


def store_listed(
    db: Database, repository_id: str, contributors: Rows, pull_requests: Rows, also_locked: Sequence[int] = ()
) -> dict[int, str]:
    """Upsert one listing page, in one round trip; numbers whose values Postgres does not take, with the reason.

    These are remembered as gaps. Call it inside the transaction that moves the cursor. ``also_locked`` are stored numbers
    that the transaction writes later.
    """
    numbers = sorted({*also_locked, *(row["number"] for row in pull_requests)})
    tables = {"contributors": contributors, "pull_requests": pull_requests}

    def store(some: Mapping[str, Rows]) -> list[int]:
        people = people_parameter(some["contributors"])
        db.pipeline(
            [
                *db.save(),
                *contributor_statements(some["contributors"]),
                (_LOCK, {"repository_id": repository_id, "numbers": numbers}),
                _of_rows(_LISTED, some["pull_requests"], ("number",), repository_id=repository_id, people=people),
            ]
        )
        return []

    refused = _divided(db, tables, store).refused
    if refused:
        reasons = {number: _ValueRefused(reason) for number, reason in refused.items()}
        record_failed(
            db, repository_id, {number: (ErrorCode.VALUE_REFUSED, reason) for number, reason in refused.items()}
        )
        note_refused(db, repository_id, reasons, is_asked_again=True)
    return refused


def store_divided(
    db: Database, repository_id: str, tables: Mapping[str, Rows], also_locked: Sequence[int] = ()
) -> Stored:
    """As ``store_details``; where Postgres refuses a value, the pull requests are divided until the guilty ones are left out."""
    numbers = [*also_locked, *(row["number"] for row in tables.get("pull_requests", ()))]
    return _divided(db, tables, lambda some: store_details(db, repository_id, some, numbers))


def store_details(
    db: Database, repository_id: str, tables: Mapping[str, Rows], also_locked: Sequence[int] = ()
) -> list[int]:
    """Store whole pull requests and replace what hangs on them, in two round trips; the numbers that were written.

    A number that is not returned was read as of an older ``updated_at`` than the stored row has. Call it inside the
    transaction that completes the chunk. ``also_locked`` are numbers that the transaction writes later.
    """
    pull_requests = tables.get("pull_requests", ())
    numbers = sorted({*also_locked, *(row["number"] for row in pull_requests)})
    as_of = [{"number": row["number"], "updated_at": row["updated_at"]} for row in pull_requests]
    *_, people, _, _, labels, found = db.pipeline(
        [
            *db.save(),
            *contributor_statements(tables.get("contributors", ())),
            *label_statements(repository_id, tables.get("labels", ())),
            _of_rows(_ACCEPTED, as_of, ("number",), repository_id=repository_id, numbers=numbers),
        ]
    )
    accepted = [row["number"] for row in found if row["is_accepted"]]
    if not accepted:
        return []
    chosen = set(accepted)
    children = {
        name: [row for row in tables.get(name, ()) if row["pull_request_number"] in chosen] for name, _, _ in _CHILDREN
    }
    children["files"] = _in_order(children["files"])
    children["reviews"], replaced = in_one_form(children["reviews"])
    children["comments"], _ = in_one_form(children["comments"])
    stored = {row["node_id"]: row["key"] for row in (*people, *labels)} | replaced
    statements = adopting_statements(repository_id, accepted, children["reviews"], children["comments"])
    for name, statement, key in _CHILDREN:
        rows = under_stored_ids(children[name], stored)
        statements.append(_of_rows(statement, rows, key, repository_id=repository_id, numbers=accepted))
    rows = under_stored_ids([row for row in pull_requests if row["number"] in chosen], stored)
    waits = list(ASK_AGAIN_AFTER)
    db.pipeline([*statements, _of_rows(_DETAILED, rows, ("number",), repository_id=repository_id, waits=waits)])
    return accepted


def to_detail(db: Database, backfill: Backfill, limit: int, *, oldest_first: bool) -> list[Row]:
    """Listed pull requests that have no current detail and are in no unfinished chunk, in the order of chunks."""
    return db.rows(
        _TO_DETAIL_OLDEST if oldest_first else _TO_DETAIL_NEWEST,
        repository_id=backfill.repository_id,
        backfill_id=backfill.id,
        retry_hours=FAILED_RETRY_HOURS,
        limit=limit,
    )


def by_numbers(db: Database, repository_id: str, numbers: Sequence[int]) -> list[Row]:
    """The stored rows of some numbers, by number."""
    return db.rows(
        "SELECT * FROM pull_requests WHERE repository_id = CAST(:repository_id AS uuid)"
        " AND number = ANY(CAST(:numbers AS integer[])) ORDER BY number",
        repository_id=repository_id,
        numbers=list(numbers),
    )


def record_failed(db: Database, repository_id: str, failed: Mapping[int, tuple[str, str]]) -> None:
    """Note per number why its detail cannot be read: ``{number: (code, message)}``."""
    rows = [{"number": number, "code": code, "error": as_text(message)} for number, (code, message) in failed.items()]
    if rows:
        db.pipeline([_of_rows(_FAILED, rows, ("number",), repository_id=repository_id)])


def note_refused(
    db: Database, repository_id: str, refused: Mapping[int, Refused], *, is_asked_again: bool = False
) -> None:
    """Remember numbers that GitHub has and does not list, and why; ``is_asked_again`` makes the next wait longer."""
    rows = [{"number": number, "code": each.code, "reason": each.reason} for number, each in refused.items()]
    if rows:
        waits = list(ASK_AGAIN_AFTER)
        statement, parameters = _of_rows(_REFUSED, rows, ("number",), repository_id=repository_id, waits=waits)
        db.pipeline([(statement, {**parameters, "is_asked_again": is_asked_again})])


def to_ask_again(db: Database, repository_id: str) -> list[int]:
    """Numbers that GitHub did not list, whose time to be asked for again has come."""
    return [row["number"] for row in db.rows(_TO_ASK_AGAIN, repository_id=repository_id)]


def forget_refused(db: Database, repository_id: str, numbers: Sequence[int]) -> None:
    """These are no pull requests any more."""
    if numbers:
        db.execute(_FORGET_REFUSED, repository_id=repository_id, numbers=list(numbers))


def read_again(db: Database) -> int:
    """Let incomplete pull requests whose time has come lack their detail; how many."""
    return db.execute(_READ_AGAIN)


def mark_gone(db: Database, repository_id: str, numbers: Sequence[int]) -> int:
    """GitHub does not have these any more. Their rows stay, and no longer count."""
    if not numbers:
        return 0
    return db.execute(_GONE, repository_id=repository_id, numbers=list(numbers))


def retry_failed(db: Database, repository_id: str) -> int:
    """Failed and incomplete ones lack their detail, so that the next planning cuts them into chunks again; how many."""
    return db.execute(_RETRY_FAILED, repository_id=repository_id)


def not_listed(db: Database, repository_id: str) -> list[int]:
    """Numbers that the present listing of the repository has not shown so far."""
    return [row["number"] for row in db.rows(_NOT_LISTED, repository_id=repository_id)]


def _divided(db: Database, tables: Mapping[str, Rows], store: Callable[[Mapping[str, Rows]], list[int]]) -> Stored:
    """Store all in one go; where Postgres refuses a value, find the pull requests that have one, and store the others in one go.

    Each attempt is undone, and its locks with it: the last one takes all locks in order.
    """
    try:
        return Stored(store(tables), {})
    except RowsRefused as error:
        db.undo()
        numbers = sorted({row["number"] for row in tables.get("pull_requests", ())})
        if not numbers:
            raise
        refused = _guilty(db, tables, store, str(error))
    if refused:
        return Stored(store(_of_numbers(tables, set(numbers) - set(refused))), refused)
    # They are too much for one statement: each half is stored by itself.
    half = len(numbers) // 2
    halves = [_divided(db, _of_numbers(tables, set(some)), store) for some in (numbers[:half], numbers[half:])]
    return Stored([*halves[0].accepted, *halves[1].accepted], {**halves[0].refused, **halves[1].refused})


def _guilty(
    db: Database, tables: Mapping[str, Rows], store: Callable[[Mapping[str, Rows]], list[int]], reason: str
) -> dict[int, str]:
    """Which of these pull requests, refused together for ``reason``, are refused alone, and why. Nothing stays stored."""
    numbers = sorted({row["number"] for row in tables.get("pull_requests", ())})
    if len(numbers) < 2:
        return dict.fromkeys(numbers, reason)
    half = len(numbers) // 2
    guilty: dict[int, str] = {}
    for some in (numbers[:half], numbers[half:]):
        part = _of_numbers(tables, set(some))
        try:
            store(part)
            db.undo()
        except RowsRefused as error:
            db.undo()
            guilty |= _guilty(db, part, store, str(error))
    return guilty


def _of_numbers(tables: Mapping[str, Rows], numbers: set[int]) -> dict[str, Rows]:
    """The rows of some pull requests, and the people and labels that these rows name."""
    some: dict[str, Rows] = {}
    for name, rows in tables.items():
        if name not in _NAMED:
            column = "number" if name == "pull_requests" else "pull_request_number"
            some[name] = [row for row in rows if row[column] in numbers]
    ids = {value for rows in some.values() for row in rows for column, value in row.items() if column.endswith("_id")}
    return some | {name: [row for row in tables.get(name, ()) if row["node_id"] in ids] for name in _NAMED}


def _in_order(files: Rows) -> list[Mapping[str, Any]]:
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


def _of_rows(sql: str, rows: Rows, key: Sequence[str], **parameters: Any) -> tuple[str, dict[str, Any]]:
    """A statement on rows made unique by ``key``; the last of equal keys wins."""
    unique = {tuple(row[name] for name in key): row for row in rows}
    return sql, {"rows": json.dumps(list(unique.values())), **parameters}
