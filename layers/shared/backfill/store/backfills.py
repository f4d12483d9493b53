"""Backfills: progressive_backfill_state, one row per repository. Adding, pausing, errors and booking."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backfill.errors import MOST_TEXT
from backfill.model import Backfill, Spent
from backfill.store.connection import Database

# Three errors in a row, whatever chunk they come from, pause the backfill (design section 5).
MAX_CONSECUTIVE_ERRORS = 3
# What several workers meet within this time is one outage. Chunks are retried after 30, 60 and 120 s: an outage that lasts
# pauses the backfill before it uses up the attempts of a chunk.
OUTAGE_SECONDS = 60.0

# A second add changes only what it names. The backfill continues where it is.
_ADD = """
    WITH before AS (
        SELECT chunk_size, metadata FROM progressive_backfill_state WHERE repository_id = :repository_id)
    INSERT INTO progressive_backfill_state (repository_id, total_prs, chunk_size, metadata)
    VALUES (:repository_id, :total_prs, COALESCE(CAST(:chunk_size AS integer), 25),
            CAST('{"priority": "normal"}' AS jsonb) || CAST(:metadata AS jsonb))
    ON CONFLICT (repository_id) DO UPDATE SET
        chunk_size = COALESCE(CAST(:chunk_size AS integer), progressive_backfill_state.chunk_size),
        metadata = progressive_backfill_state.metadata || CAST(:metadata AS jsonb)
    RETURNING *, (xmax = 0) AS created,
              (SELECT chunk_size FROM before) AS chunk_size_before, (SELECT metadata FROM before) AS metadata_before
"""

# A pause by the product has an end. The first function that runs after it makes the backfill active again.
_RESUME_DUE = """
    UPDATE progressive_backfill_state SET status = 'active'
    WHERE status = 'paused' AND paused_until <= now()
    RETURNING id
"""

# Points of attempts that failed or were deferred are spent too.
BOOK = """
    UPDATE progressive_backfill_state SET points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = :id AND (:points, :requests) <> (0, 0)
"""

_NOTE_ERROR = "UPDATE progressive_backfill_state SET last_error = :error, last_error_at = now() WHERE id = :id"

# Counts the error, then pauses at the limit, in one transaction. The second of two workers that fail at once waits for the
# first one's count, and cannot miss it. An UPDATE that names the status of a paused backfill is a person's pause (see
# _PAUSE), so the count alone does not name it.
_COUNT_ERROR = """
    UPDATE progressive_backfill_state SET last_error = :error, last_error_at = now(),
           consecutive_errors = consecutive_errors + CASE WHEN :is_outage AND outage_counted_at > now() - make_interval(secs => :outage_seconds)
                                                          THEN 0 ELSE 1 END,
           error_count = error_count + CASE WHEN :is_outage AND outage_counted_at > now() - make_interval(secs => :outage_seconds)
                                            THEN 0 ELSE 1 END,
           outage_counted_at = CASE WHEN NOT :is_outage OR outage_counted_at > now() - make_interval(secs => :outage_seconds)
                                    THEN outage_counted_at ELSE now() END
    WHERE id = :id
"""
_PAUSE_AT_LIMIT = """
    UPDATE progressive_backfill_state SET status = 'paused', pause_reason = 'consecutive_errors',
           paused_until = now() + make_interval(mins => :pause_minutes)
    WHERE id = :id AND status = 'active' AND consecutive_errors >= :max_errors
    RETURNING id
"""

# A person's pause has no end, and replaces one that has. The product's pause never replaces a person's. In plain SQL the
# trigger persons_pause_wins does the same.
_PAUSE = """
    UPDATE progressive_backfill_state SET status = 'paused', pause_reason = :reason,
           paused_until = now() + make_interval(mins => CAST(:minutes AS integer)),
           last_error = COALESCE(CAST(:error AS text), last_error),
           last_error_at = CASE WHEN CAST(:error AS text) IS NULL THEN last_error_at ELSE now() END
    WHERE id = :id
      AND (status <> 'paused' OR (CAST(:minutes AS integer) IS NULL AND paused_until IS NOT NULL))
"""

_RESUME = """
    UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0
    WHERE id = :id AND status = 'paused'
"""

# The runbook's jsonb_set.
_SET_PRIORITY = """
    UPDATE progressive_backfill_state SET metadata = jsonb_set(metadata, '{priority}', to_jsonb(CAST(:priority AS text)))
    WHERE id = :id
"""


@dataclass(frozen=True, slots=True)
class Added:
    """The backfill after an add; ``chunk_size_before`` and ``metadata_before`` if it existed."""

    backfill: Backfill
    created: bool
    chunk_size_before: int | None
    metadata_before: Mapping[str, str] | None


def add(
    db: Database, repository_id: str, *, total_prs: int, chunk_size: int | None, metadata: Mapping[str, str]
) -> Added:
    """Create a backfill, or change the named settings of an existing one."""
    row = db.one(
        _ADD,
        repository_id=repository_id,
        total_prs=total_prs,
        chunk_size=chunk_size,
        metadata=json.dumps(dict(metadata)),
    )
    if row is None:
        raise LookupError(f"no backfill was created for repository {repository_id}")
    return Added(Backfill.from_row(row), row["created"], row["chunk_size_before"], row["metadata_before"])


def get(db: Database, backfill_id: str) -> Backfill | None:
    """By uuid."""
    row = db.one("SELECT * FROM progressive_backfill_state WHERE id = :id", id=backfill_id)
    return None if row is None else Backfill.from_row(row)


def of_repository(db: Database, repository_id: str) -> Backfill | None:
    """The backfill of a repository."""
    row = db.one("SELECT * FROM progressive_backfill_state WHERE repository_id = :id", id=repository_id)
    return None if row is None else Backfill.from_row(row)


def resume_due(db: Database) -> list[str]:
    """Activate backfills whose pause has ended; their ids."""
    return [row["id"] for row in db.rows(_RESUME_DUE)]


def book(db: Database, backfill_id: str, spent: Spent) -> None:
    """Add the cost of work that did not succeed."""
    db.execute(BOOK, id=backfill_id, points=spent.points, requests=spent.requests)


def note_error(db: Database, backfill_id: str, error: str) -> None:
    """Show an error in the status. The backfill continues."""
    db.execute(_NOTE_ERROR, id=backfill_id, error=error[:MOST_TEXT])


def record_error(db: Database, backfill_id: str, error: str, *, pause_minutes: int, is_outage: bool = False) -> bool:
    """Count an error; True if it is the third in a row and paused the backfill, for ``pause_minutes``.

    ``is_outage``: GitHub as a whole does not answer. Within OUTAGE_SECONDS that is one error, however many workers meet it.
    """
    limit = {"max_errors": MAX_CONSECUTIVE_ERRORS, "pause_minutes": pause_minutes}
    outage = {"is_outage": is_outage, "outage_seconds": OUTAGE_SECONDS}
    _, paused = db.pipeline(
        [(_COUNT_ERROR, {"id": backfill_id, "error": error, **outage}), (_PAUSE_AT_LIMIT, {"id": backfill_id, **limit})]
    )
    return bool(paused)


def pause(db: Database, backfill_id: str, reason: str, *, minutes: int | None, error: str | None = None) -> bool:
    """Pause, for ``minutes`` or until an operator resumes; False if it was paused already, and as firmly."""
    return db.execute(_PAUSE, id=backfill_id, reason=reason, minutes=minutes, error=error) > 0


def resume(db: Database, backfill_id: str) -> bool:
    """Activate a paused backfill, with no errors counted; False if it was not paused."""
    return db.execute(_RESUME, id=backfill_id) > 0


def set_priority(db: Database, backfill_id: str, priority: str) -> None:
    """high, normal or low."""
    db.execute(_SET_PRIORITY, id=backfill_id, priority=priority)


def now(db: Database) -> datetime:
    """The database's clock, which decides."""
    row = db.one("SELECT now() AS now")
    if row is None:
        raise LookupError("Postgres gave no time")
    moment: datetime = row["now"]
    return moment
