"""Names of repositories that were accepted before GitHub could answer for them: requested_names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backfill.store.connection import Database

# A name that GitHub does not know is asked for again after this, and so long after it was requested no more.
ASK_AGAIN_SECONDS = 3600
ASKED_FOR_HOURS = 24

_ACCEPT = """
    INSERT INTO requested_names (owner, name, chunk_size, metadata, reason, ask_at)
    VALUES (:owner, :name, :chunk_size, :metadata, :reason,
            now() + make_interval(secs => :wait_seconds))
    ON CONFLICT (lower(owner), lower(name)) DO UPDATE SET
        chunk_size = COALESCE(EXCLUDED.chunk_size, requested_names.chunk_size),
        metadata = requested_names.metadata || EXCLUDED.metadata, reason = EXCLUDED.reason, ask_at = EXCLUDED.ask_at,
        requested_at = now(), is_refused = false, given_up_at = NULL
"""
_DUE = """
    SELECT id, owner, name, chunk_size, metadata FROM requested_names
    WHERE given_up_at IS NULL AND ask_at <= now() ORDER BY ask_at LIMIT :limit
"""
_POSTPONE = """
    UPDATE requested_names SET ask_at = now() + make_interval(secs => :wait_seconds), reason = :reason
    WHERE id = ANY(:ids)
"""
_REFUSE = """
    UPDATE requested_names SET reason = :reason, is_refused = true, ask_at = now() + make_interval(secs => :again_seconds),
           given_up_at = CASE WHEN requested_at < now() - make_interval(hours => :hours) THEN now() END
    WHERE id = :id
"""
_DELETE = "DELETE FROM requested_names WHERE lower(owner) = lower(:owner) AND lower(name) = lower(:name)"
_ALL = """
    SELECT owner || '/' || name AS repository, requested_at, ask_at, reason, is_refused, given_up_at
    FROM requested_names ORDER BY requested_at, owner, name LIMIT :limit
"""

# Backfills alone: a name that GitHub does not know yet is not completed.
_BEGINNING = """
    SELECT r.owner || '/' || r.name AS name
    FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id
    WHERE starts_with(lower(r.owner || '/' || r.name), lower(:prefix)) ORDER BY 1 LIMIT :limit
"""
# More than a person reads to complete a word.
MOST_COMPLETED = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repository to track, and how."""

    owner: str
    name: str
    chunk_size: int | None
    metadata: Mapping[str, str]
    id: str | None = None

    @property
    def full_name(self) -> str:
        """OWNER/NAME."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Requested:
    """A name that is not a backfill yet, and why. ``given_up_at``: it is not asked for any more."""

    repository: str
    requested_at: datetime
    ask_at: datetime
    reason: str | None
    is_refused: bool
    given_up_at: datetime | None


def accept(db: Database, wanted: Wanted, reason: str, wait_seconds: float) -> None:
    """Keep a name; the planner asks GitHub for it after the wait."""
    db.execute(
        _ACCEPT,
        owner=wanted.owner,
        name=wanted.name,
        chunk_size=wanted.chunk_size,
        metadata=json.dumps(dict(wanted.metadata)),
        reason=reason,
        wait_seconds=wait_seconds,
    )


def due(db: Database, limit: int) -> list[Wanted]:
    """Names to ask for now."""
    return [Wanted(**row) for row in db.rows(_DUE, limit=limit)]


def postpone(db: Database, wanted: Sequence[Wanted], reason: str, wait_seconds: float) -> None:
    """GitHub could not answer: ask again after the wait."""
    db.execute(_POSTPONE, ids=[each.id for each in wanted], reason=reason, wait_seconds=wait_seconds)


def refuse(db: Database, wanted: Wanted, reason: str) -> None:
    """GitHub does not know the name, or may not show it: ask less and less, and after a day no more."""
    db.execute(_REFUSE, id=wanted.id, reason=reason, again_seconds=ASK_AGAIN_SECONDS, hours=ASKED_FOR_HOURS)


def forget(db: Database, owner: str, name: str) -> bool:
    """The name is a backfill by now, or nobody wants it any more; False if it was not there."""
    return db.execute(_DELETE, owner=owner, name=name) > 0


def requested(db: Database, limit: int = 1000) -> list[Requested]:
    """What is not a backfill yet, the oldest first."""
    return [Requested(**row) for row in db.rows(_ALL, limit=limit)]


def beginning_with(db: Database, prefix: str, limit: int = MOST_COMPLETED) -> list[str]:
    """OWNER/NAME of tracked repositories that begin so, whatever their case."""
    return [row["name"] for row in db.rows(_BEGINNING, prefix=prefix, limit=limit)]
