"""pull_request_gaps: what GitHub has and the database lacks, in whole or in part."""

from __future__ import annotations

from dataclasses import dataclass

from backfill.store.connection import Database

# What is neither failed nor incomplete nor refused is only not read yet. A number that GitHub refuses to show has a code.
_IS_A_FAULT = "(reason IN ('failed', 'incomplete') OR error_code IS NOT NULL)"

# An address is GitHub's own where the row is stored, and made of the repository's where it is not.
_PAGE = f"""
    SELECT g.number, g.reason, g.error_code, g.error, COALESCE(p.url, r.url || '/pull/' || g.number) AS url
    FROM pull_request_gaps AS g
    JOIN repositories AS r ON r.id = g.repository_id
    LEFT JOIN pull_requests AS p ON p.repository_id = g.repository_id AND p.number = g.number
    WHERE g.repository_id = :repository_id AND g.number > :after AND (:unread OR {_IS_A_FAULT})
    ORDER BY g.number LIMIT :limit
"""
_COUNTS = f"""
    SELECT count(*) FILTER (WHERE reason = 'failed') AS failed,
           count(*) FILTER (WHERE reason = 'incomplete') AS incomplete,
           count(*) FILTER (WHERE reason NOT IN ('failed', 'incomplete') AND error_code IS NOT NULL) AS refused,
           count(*) FILTER (WHERE NOT {_IS_A_FAULT}) AS unread
    FROM pull_request_gaps WHERE repository_id = :repository_id
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """One pull request; ``error_code`` is a word of docs/operations.md, or None."""

    number: int
    reason: str
    error_code: str | None
    error: str | None
    url: str | None


def of_repository(db: Database, repository_id: str, *, after: int, limit: int, unread: bool) -> list[Gap]:
    """Gaps after a number, in the order of their numbers; without ``unread`` only those that ask for something."""
    rows = db.rows(_PAGE, repository_id=repository_id, after=after, limit=limit, unread=unread)
    return [Gap(**row) for row in rows]


def counts(db: Database, repository_id: str) -> dict[str, int]:
    """How many are ``failed``, ``incomplete``, ``refused`` (GitHub does not show them) and ``unread``."""
    return dict(db.one(_COUNTS, repository_id=repository_id) or {})
