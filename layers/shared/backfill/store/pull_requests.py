"""Pull requests and everything below them: one statement per table and chunk.

Rows arrive keyed by column name (store/rows.py). Rows of one statement are unique by key and written in key order, so that two
transactions take their locks in the same order: contributors, labels, pull requests, then what hangs on them (store/children.py).
A pull request is identified by its repository and number; store/identities.py says what identifies the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backfill import pull_request_fields
from backfill.error_codes import ErrorCode
from backfill.model import Backfill
from backfill.store import children, dividing
from backfill.store.connection import Database, Row
from backfill.store.dividing import Stored, Tables
from backfill.store.driver import as_text
from backfill.store.identities import (
    AUTHORS,
    contributor_statements,
    label_statements,
    people_parameter,
    under_stored_ids,
)
from backfill.store.refused_numbers import ASK_AGAIN_AFTER, note_refused
from backfill.store.rows import Rows, assigned, of_rows

# Columns that a listing page and the details write.
_LISTED_COLUMNS = (
    *(field.column for field in pull_request_fields.LISTED),
    "author_id",
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
_DETAILED_COLUMNS = (
    *_LISTED_COLUMNS,
    *(field.column for field in pull_request_fields.DETAILED),
    "merged_by_id",
    "incomplete",
)

# Never backwards: a listing page that was read before the stored row does not replace it. A stored date in the future was
# wrong, so it outranks nothing; detail that was read under it is read again.
_LISTED = f"""
    INSERT INTO pull_requests (repository_id, {", ".join(_LISTED_COLUMNS)})
    SELECT :repository_id,
        {", ".join("COALESCE(author.stored, p.author_id)" if name == "author_id" else f"p.{name}" for name in _LISTED_COLUMNS)}
    FROM jsonb_populate_recordset(CAST(NULL AS pull_requests), :rows) AS p
    LEFT JOIN {AUTHORS} AS author ON author.given = p.author_id
    ORDER BY p.number
    ON CONFLICT (repository_id, number) DO UPDATE SET
        {assigned(_LISTED_COLUMNS, "EXCLUDED", "pull_requests")},
        listed_at = now(), gone_at = NULL,
        detail_synced_at = CASE WHEN EXCLUDED.updated_at >= pull_requests.updated_at THEN pull_requests.detail_synced_at END,
        detail_updated_at = CASE WHEN EXCLUDED.updated_at >= pull_requests.updated_at THEN pull_requests.detail_updated_at END,
        detail_error = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.detail_error END,
        detail_error_code = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.detail_error_code END,
        detail_failed_at = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.detail_failed_at END,
        denied_at = CASE WHEN EXCLUDED.updated_at = pull_requests.updated_at THEN pull_requests.denied_at END
    WHERE EXCLUDED.updated_at >= LEAST(pull_requests.updated_at, now())
"""

# Locks the rows that may be written, and says which: detail read as of an older updated_at than the row has is not.
# The rows that the same transaction writes later are locked here too, before anything locks the backfill.
_ACCEPTED = """
    SELECT p.number, COALESCE(i.updated_at >= LEAST(p.updated_at, now())
               AND (p.detail_updated_at IS NULL OR i.updated_at >= LEAST(p.detail_updated_at, now())), false) AS is_accepted
    FROM pull_requests AS p
    LEFT JOIN jsonb_populate_recordset(CAST(NULL AS pull_requests), :rows) AS i ON i.number = p.number
    WHERE p.repository_id = :repository_id AND p.number = ANY(:numbers)
    ORDER BY p.number
    FOR UPDATE OF p
"""

_LOCK = """
    SELECT number FROM pull_requests
    WHERE repository_id = :repository_id AND number = ANY(:numbers)
    ORDER BY number FOR UPDATE
"""

_DETAILED = f"""
    UPDATE pull_requests AS p SET
        {assigned(_DETAILED_COLUMNS, "i", "p")},
        listed_at = now(), gone_at = NULL, detail_synced_at = now(), detail_updated_at = i.updated_at,
        detail_error = NULL, detail_error_code = NULL, detail_failed_at = NULL, denied_at = NULL,
        timeline_updated_at = COALESCE(i.timeline_updated_at, p.timeline_updated_at),
        incomplete_reads = CASE WHEN i.incomplete IS NULL THEN 0 WHEN i.updated_at > p.updated_at THEN 1
                                ELSE p.incomplete_reads + 1 END,
        read_again_at = CASE WHEN i.incomplete IS NOT NULL THEN now() + (CAST(:waits AS interval[]))[
            LEAST(CASE WHEN i.updated_at > p.updated_at THEN 1 ELSE p.incomplete_reads + 1 END, 3)] END
    FROM jsonb_populate_recordset(CAST(NULL AS pull_requests), :rows) AS i
    WHERE p.repository_id = :repository_id AND p.number = i.number
"""

# In the order of chunks. A pull request in an unfinished chunk belongs to that chunk.
_TO_DETAIL = """
    SELECT p.* FROM pull_requests_lacking_detail AS p
    WHERE p.repository_id = :repository_id
      AND NOT EXISTS (SELECT FROM backfill_chunk_members AS m WHERE m.backfill_state_id = :backfill_id AND m.number = p.number)
    ORDER BY {} LIMIT :limit
"""
_TO_DETAIL_NEWEST = _TO_DETAIL.format("p.created_at DESC, p.number DESC")
_TO_DETAIL_OLDEST = _TO_DETAIL.format("p.created_at, p.number")

_FAILED = """
    WITH locked AS (
        SELECT p.number, i.code, i.error FROM pull_requests AS p
        JOIN jsonb_to_recordset(:rows) AS i(number integer, code text, error text) ON i.number = p.number
        WHERE p.repository_id = :repository_id
        ORDER BY p.number FOR UPDATE OF p)
    UPDATE pull_requests AS p SET detail_error = l.error, detail_error_code = l.code, detail_failed_at = now()
    FROM locked AS l WHERE p.repository_id = :repository_id AND p.number = l.number
"""

_GONE = """
    WITH locked AS (
        SELECT number FROM pull_requests
        WHERE repository_id = :repository_id AND number = ANY(:numbers) AND gone_at IS NULL
        ORDER BY number FOR UPDATE)
    UPDATE pull_requests AS p SET gone_at = now() FROM locked AS l
    WHERE p.repository_id = :repository_id AND p.number = l.number
"""

# A listing clears gone_at. Shown by it and denied again, a pull request has failed: otherwise the two answers would undo each
# other for ever.
_DENIED = """
    WITH locked AS (
        SELECT number, denied_at IS NOT NULL AS is_denied_again FROM pull_requests
        WHERE repository_id = :repository_id AND number = ANY(:numbers) AND gone_at IS NULL
        ORDER BY number FOR UPDATE)
    UPDATE pull_requests AS p SET denied_at = now(),
        gone_at = CASE WHEN NOT l.is_denied_again THEN now() END,
        detail_failed_at = CASE WHEN l.is_denied_again THEN now() ELSE p.detail_failed_at END,
        detail_error_code = CASE WHEN l.is_denied_again THEN :code ELSE p.detail_error_code END,
        detail_error = CASE WHEN l.is_denied_again THEN :error ELSE p.detail_error END
    FROM locked AS l WHERE p.repository_id = :repository_id AND p.number = l.number
"""

_RETRY_FAILED = """
    WITH locked AS (
        SELECT number FROM pull_requests
        WHERE repository_id = :repository_id AND (detail_failed_at IS NOT NULL OR incomplete IS NOT NULL)
        ORDER BY number FOR UPDATE)
    UPDATE pull_requests AS p SET detail_error = NULL, detail_error_code = NULL, detail_failed_at = NULL,
           detail_synced_at = CASE WHEN incomplete IS NULL THEN detail_synced_at END,
           detail_updated_at = CASE WHEN incomplete IS NULL THEN detail_updated_at END, read_again_at = NULL
    FROM locked AS l WHERE p.repository_id = :repository_id AND p.number = l.number
"""

# Rows that the listing, walked from its beginning to its end, did not show.
# A row that was listed in the future was so before the clock of the database was put back.
_NOT_LISTED = """
    SELECT p.number FROM pull_requests AS p JOIN progressive_backfill_state AS s ON s.repository_id = p.repository_id
    WHERE p.repository_id = :repository_id AND p.gone_at IS NULL
      AND (p.listed_at < s.listing_started_at OR p.listed_at > now() + interval '1 minute')
    ORDER BY p.number
"""


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

    def store(some: Tables) -> list[int]:
        people = people_parameter(some["contributors"])
        db.pipeline(
            [
                *db.save(),
                *contributor_statements(some["contributors"]),
                (_LOCK, {"repository_id": repository_id, "numbers": numbers}),
                of_rows(_LISTED, some["pull_requests"], ("number",), repository_id=repository_id, people=people),
            ]
        )
        return []

    refused = dividing.store_divided(db, tables, store).refused
    if refused:
        reasons = {number: _ValueRefused(reason) for number, reason in refused.items()}
        record_failed(
            db, repository_id, {number: (ErrorCode.VALUE_REFUSED, reason) for number, reason in refused.items()}
        )
        note_refused(db, repository_id, reasons, is_asked_again=True)
    return refused


def store_divided(db: Database, repository_id: str, tables: Tables, also_locked: Sequence[int] = ()) -> Stored:
    """As ``store_details``; where Postgres refuses a value, the pull requests are divided until the guilty ones are left out."""
    numbers = [*also_locked, *(row["number"] for row in tables.get("pull_requests", ()))]
    return dividing.store_divided(db, tables, lambda some: store_details(db, repository_id, some, numbers))


def store_details(db: Database, repository_id: str, tables: Tables, also_locked: Sequence[int] = ()) -> list[int]:
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
            of_rows(_ACCEPTED, as_of, ("number",), repository_id=repository_id, numbers=numbers),
        ]
    )
    accepted = [row["number"] for row in found if row["is_accepted"]]
    if not accepted:
        return []
    chosen, stored_ids = set(accepted), {row["node_id"]: row["key"] for row in (*people, *labels)}
    rows = under_stored_ids([row for row in pull_requests if row["number"] in chosen], stored_ids)
    db.pipeline(
        [
            *children.replacing(repository_id, accepted, tables, stored_ids),
            of_rows(_DETAILED, rows, ("number",), repository_id=repository_id, waits=list(ASK_AGAIN_AFTER)),
        ]
    )
    return accepted


def to_detail(db: Database, backfill: Backfill, limit: int, *, oldest_first: bool) -> list[Row]:
    """Listed pull requests that have no current detail and are in no unfinished chunk, in the order of chunks."""
    return db.rows(
        _TO_DETAIL_OLDEST if oldest_first else _TO_DETAIL_NEWEST,
        repository_id=backfill.repository_id,
        backfill_id=backfill.id,
        limit=limit,
    )


def by_numbers(db: Database, repository_id: str, numbers: Sequence[int]) -> list[Row]:
    """The stored rows of some numbers, by number."""
    return db.rows(
        "SELECT * FROM pull_requests WHERE repository_id = :repository_id AND number = ANY(:numbers) ORDER BY number",
        repository_id=repository_id,
        numbers=list(numbers),
    )


def record_failed(db: Database, repository_id: str, failed: Mapping[int, tuple[str, str]]) -> None:
    """Note per number why its detail cannot be read: ``{number: (code, message)}``."""
    rows = [{"number": number, "code": code, "error": as_text(message)} for number, (code, message) in failed.items()]
    if rows:
        db.pipeline([of_rows(_FAILED, rows, ("number",), repository_id=repository_id)])


def mark_gone(db: Database, repository_id: str, numbers: Sequence[int]) -> int:
    """GitHub does not have these any more. Their rows stay, and no longer count."""
    if not numbers:
        return 0
    return db.execute(_GONE, repository_id=repository_id, numbers=list(numbers))


def mark_denied(db: Database, repository_id: str, numbers: Sequence[int]) -> None:
    """GitHub answers NOT_FOUND for these: they are gone. One that it has listed since it said so before has failed."""
    if numbers:
        db.execute(
            _DENIED,
            repository_id=repository_id,
            numbers=list(numbers),
            code=ErrorCode.NOT_FOUND,
            error="GitHub lists it, and answers NOT_FOUND when it is read",
        )


def retry_failed(db: Database, repository_id: str) -> int:
    """Failed and incomplete ones lack their detail, so that the next planning cuts them into chunks again; how many."""
    return db.execute(_RETRY_FAILED, repository_id=repository_id)


def not_listed(db: Database, repository_id: str) -> list[int]:
    """Numbers that the present listing of the repository has not shown so far."""
    return [row["number"] for row in db.rows(_NOT_LISTED, repository_id=repository_id)]
