"""Organisations that are followed: tracked_organisations, and the repositories of their lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from backfill.store.connection import Database

# A second add changes only what it names.
_CHANGE = """
    UPDATE tracked_organisations SET rule = rule || CAST(:rule AS jsonb), metadata = metadata || CAST(:metadata AS jsonb),
           chunk_size = COALESCE(CAST(:chunk_size AS integer), chunk_size), asked_at = NULL
    WHERE id = :id
    RETURNING *
"""
# What is named of the settings holds for the repositories that have joined, too.
_CHANGE_BACKFILLS = """
    UPDATE progressive_backfill_state AS s SET metadata = s.metadata || CAST(:metadata AS jsonb),
           chunk_size = COALESCE(CAST(:chunk_size AS integer), s.chunk_size)
    WHERE s.repository_id IN (SELECT repository_id FROM organisation_repositories WHERE organisation_id = :id)
      AND (CAST(:metadata AS jsonb) <> '{}' OR CAST(:chunk_size AS integer) IS NOT NULL)
"""
_ACCEPT = """
    INSERT INTO tracked_organisations (login, rule, chunk_size, metadata)
    VALUES (:login, CAST(:default_rule AS jsonb) || CAST(:rule AS jsonb), CAST(:chunk_size AS integer), CAST(:metadata AS jsonb))
    ON CONFLICT (lower(login)) WHERE node_id IS NULL DO NOTHING
    RETURNING *
"""
# Two rows have one login after a rename that only one of them knows of: the one that GitHub showed last counts.
_FIND = """
    SELECT * FROM tracked_organisations WHERE lower(login) = lower(:login) ORDER BY listed_at DESC NULLS LAST, created_at LIMIT 1
"""
# Each organisation once a round. A listing that a limit or the time interrupted continues first.
_DUE = """
    SELECT * FROM tracked_organisations WHERE asked_at IS NULL OR asked_at < CAST(:before AS timestamptz)
    ORDER BY listing_started_at NULLS LAST, asked_at NULLS FIRST, created_at
"""
_BEGIN_LISTING = """
    UPDATE tracked_organisations SET listing_number = listing_number + 1, listing_started_at = now(), listing_cursor = NULL
    WHERE id = :id AND listing_number = :listing_number
    RETURNING *
"""
# Compare and set: of two runs that read the same page, one stores it. A repository joins by the rule of this instant.
_MOVE_CURSOR = """
    UPDATE tracked_organisations SET listing_cursor = :cursor, node_id = :node_id, login = :login, is_user = :is_user,
           total_repositories = :total
    WHERE id = :id AND listing_number = :listing_number AND listing_started_at IS NOT NULL
      AND listing_cursor IS NOT DISTINCT FROM CAST(:from_cursor AS text)
    RETURNING *
"""
# The organisation was added under two logins: it has one row, with the rule that was given last.
_TAKE_OVER = """
    UPDATE organisation_repositories SET organisation_id = :id
    WHERE organisation_id = (SELECT id FROM tracked_organisations WHERE node_id = :node_id AND id <> :id)
"""
_DELETE_OTHER = "DELETE FROM tracked_organisations WHERE node_id = :node_id AND id <> :id"
_KNOWN = """
    SELECT github_id, joined_at IS NOT NULL AS has_joined, is_archived FROM organisation_repositories
    WHERE organisation_id = :id AND github_id = ANY(CAST(:github_ids AS bigint[]))
"""
_BEGIN_BACKFILLS = """
    INSERT INTO progressive_backfill_state (repository_id, total_prs, chunk_size, metadata)
    SELECT r.id, w.total_prs, COALESCE(CAST(:chunk_size AS integer), 25),
           CAST('{"priority": "normal"}' AS jsonb) || CAST(:metadata AS jsonb)
    FROM jsonb_to_recordset(CAST(:joining AS jsonb)) AS w(node_id text, total_prs integer)
    JOIN repositories AS r ON r.node_id = w.node_id
    ORDER BY r.id
    ON CONFLICT (repository_id) DO NOTHING
"""
_STORE = """
    INSERT INTO organisation_repositories AS o
        (organisation_id, github_id, repository_id, full_name, is_fork, is_archived, total_prs, left_out, listing_number, joined_at)
    SELECT :id, s.github_id, r.id, s.full_name, s.is_fork, s.is_archived, s.total_prs, s.left_out, :listing_number,
           CASE WHEN s.joins THEN now() END
    FROM jsonb_to_recordset(CAST(:shown AS jsonb)) AS s(github_id bigint, node_id text, full_name text, is_fork boolean,
        is_archived boolean, total_prs integer, left_out text, joins boolean)
    LEFT JOIN repositories AS r ON s.joins AND r.node_id = s.node_id
    ORDER BY s.github_id
    ON CONFLICT (organisation_id, github_id) DO UPDATE SET
        repository_id = COALESCE(EXCLUDED.repository_id, o.repository_id), full_name = EXCLUDED.full_name,
        is_fork = EXCLUDED.is_fork, is_archived = EXCLUDED.is_archived, total_prs = EXCLUDED.total_prs,
        left_out = EXCLUDED.left_out, listing_number = EXCLUDED.listing_number, gone_at = NULL,
        joined_at = COALESCE(o.joined_at, EXCLUDED.joined_at)
"""
_END_LISTING = """
    UPDATE tracked_organisations SET listing_cursor = NULL, listing_started_at = NULL, listed_at = now(), asked_at = now(),
           reason = NULL,
           hidden_repositories = GREATEST(0, total_repositories - (SELECT count(*) FROM organisation_repositories
                                                                  WHERE organisation_id = :id AND listing_number = :listing_number))
    WHERE id = :id
    RETURNING *
"""
_NOTE_GONE = """
    UPDATE organisation_repositories SET gone_at = now()
    WHERE organisation_id = :id AND listing_number <> :listing_number AND gone_at IS NULL
    RETURNING full_name
"""
_NOTE_ERROR = """
    UPDATE tracked_organisations SET reason = :reason, asked_at = CASE WHEN :is_final THEN now() ELSE asked_at END WHERE id = :id
"""
_FORGET = "DELETE FROM tracked_organisations WHERE id = :id"
_FORGET_UNKNOWN = "DELETE FROM tracked_organisations WHERE id = :id AND node_id IS NULL"
# The names of what somebody may want to know of, in a list of at most :limit each.
_SUMMARY = """
    SELECT count(*) FILTER (WHERE o.joined_at IS NOT NULL AND s.id IS NOT NULL) AS tracked,
           count(*) FILTER (WHERE o.joined_at IS NOT NULL AND s.id IS NULL) AS removed,
           count(*) FILTER (WHERE s.status = 'active') AS active, count(*) FILTER (WHERE s.status = 'paused') AS paused,
           count(*) FILTER (WHERE s.status = 'completed') AS completed,
           count(*) FILTER (WHERE o.joined_at IS NULL AND o.gone_at IS NULL AND o.left_out = 'fork') AS forks_left_out,
           count(*) FILTER (WHERE o.joined_at IS NULL AND o.gone_at IS NULL AND o.left_out = 'archived') AS archived_left_out,
           count(*) FILTER (WHERE o.joined_at IS NULL AND o.gone_at IS NULL AND o.left_out = 'name') AS names_left_out,
           count(*) FILTER (WHERE o.joined_at IS NOT NULL AND o.is_archived AND o.gone_at IS NULL) AS archived,
           count(*) FILTER (WHERE o.joined_at IS NOT NULL AND o.gone_at IS NOT NULL) AS gone,
           count(*) FILTER (WHERE s.status = 'paused' AND s.pause_reason <> 'manual') AS in_trouble,
           COALESCE(sum(s.total_prs), 0) AS total_prs, COALESCE(sum(s.processed_prs), 0) AS processed_prs,
           COALESCE(sum(s.points_spent), 0) AS points_spent,
           (SELECT COALESCE(array_agg(full_name), '{}') FROM (
                SELECT full_name FROM organisation_repositories
                WHERE organisation_id = :id AND joined_at IS NOT NULL AND is_archived AND gone_at IS NULL
                ORDER BY full_name LIMIT :limit) AS a) AS archived_names,
           (SELECT COALESCE(array_agg(full_name), '{}') FROM (
                SELECT full_name FROM organisation_repositories
                WHERE organisation_id = :id AND joined_at IS NOT NULL AND gone_at IS NOT NULL
                ORDER BY gone_at DESC, full_name LIMIT :limit) AS g) AS gone_names,
           (SELECT COALESCE(array_agg(name), '{}') FROM (
                SELECT r.owner || '/' || r.name AS name FROM organisation_repositories AS m
                JOIN progressive_backfill_state AS b ON b.repository_id = m.repository_id AND b.status = 'paused'
                JOIN repositories AS r ON r.id = m.repository_id
                WHERE m.organisation_id = :id ORDER BY name LIMIT :limit) AS p) AS paused_names
    FROM organisation_repositories AS o LEFT JOIN progressive_backfill_state AS s ON s.repository_id = o.repository_id
    WHERE o.organisation_id = :id
"""
_JOINED_SINCE = """
    SELECT count(*) AS joined FROM organisation_repositories
    WHERE organisation_id = :id AND joined_at >= CAST(:since AS timestamptz)
"""
_ALL = "SELECT * FROM tracked_organisations ORDER BY lower(login) LIMIT :limit"
# Names of each kind in a summary.
MOST_NAMES = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """What an add names: parts of the rule, and what the backfills of repositories that join get."""

    rule: Mapping[str, Any]
    metadata: Mapping[str, str]
    chunk_size: int | None


@dataclass(frozen=True, slots=True)
class Organisation:
    """A row of tracked_organisations; ``node_id`` None: GitHub has not answered yet."""

    id: str
    node_id: str | None
    login: str
    is_user: bool | None
    rule: Mapping[str, Any]
    chunk_size: int | None
    metadata: Mapping[str, str]
    listing_number: int
    listing_cursor: str | None
    listing_started_at: datetime | None
    listed_at: datetime | None
    asked_at: datetime | None
    total_repositories: int | None
    hidden_repositories: int | None
    reason: str | None
    created_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a whole row of the table."""
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def is_refused(self) -> bool:
        """Whether the last listing ended with an error. One that waits for a limit did not end."""
        return self.asked_at is not None and self.asked_at != self.listed_at


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier listing has stored of a repository."""

    has_joined: bool
    is_archived: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A repository of a page, and what the rule makes of it. ``joins``: its backfill begins now."""

    github_id: int
    node_id: str
    full_name: str
    is_fork: bool
    is_archived: bool
    total_prs: int
    left_out: str | None
    joins: bool

    def as_row(self) -> dict[str, Any]:
        """For jsonb_to_recordset."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Moved:
    """Where GitHub's answer to a page moves a listing."""

    from_cursor: str | None
    cursor: str | None
    node_id: str
    login: str
    is_user: bool
    total: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The organisation after a whole listing, and the names that were shown before and are not any more."""

    organisation: Organisation
    gone: list[str]


@dataclass(frozen=True, slots=True)
class Summary:
    """The repositories of one organisation: ``tracked`` by status, ``removed`` by an operator, the rest by what the rule says."""

    tracked: int
    removed: int
    active: int
    paused: int
    completed: int
    forks_left_out: int
    archived_left_out: int
    names_left_out: int
    archived: int
    gone: int
    in_trouble: int
    total_prs: int
    processed_prs: int
    points_spent: int
    archived_names: list[str]
    gone_names: list[str]
    paused_names: list[str]


def accept(db: Database, login: str, settings: Settings, default_rule: Mapping[str, Any]) -> Organisation | None:
    """Follow an organisation that is not followed yet; None if another command has just accepted it."""
    return _one(db, _ACCEPT, login=login, default_rule=json.dumps(dict(default_rule)), **_as_parameters(settings))


def change(db: Database, organisation_id: str, settings: Settings) -> Organisation | None:
    """Change what is named, also of the backfills that have begun; None if it is not followed any more."""
    with db.transaction():
        found = _one(db, _CHANGE, id=organisation_id, **_as_parameters(settings))
        metadata = json.dumps(dict(settings.metadata))
        db.execute(_CHANGE_BACKFILLS, id=organisation_id, metadata=metadata, chunk_size=settings.chunk_size)
    return found


def find(db: Database, login: str) -> Organisation | None:
    """By login; case does not matter."""
    return _one(db, _FIND, login=login)


def get(db: Database, organisation_id: str) -> Organisation | None:
    """By id."""
    return _one(db, "SELECT * FROM tracked_organisations WHERE id = :id", id=organisation_id)


def due(db: Database, before: datetime) -> list[Organisation]:
    """Those that this round has not listed yet."""
    return [Organisation.from_row(row) for row in db.rows(_DUE, before=before)]


def begin_listing(db: Database, organisation: Organisation) -> Organisation | None:
    """From the first page on; None if another run has begun meanwhile."""
    return _one(db, _BEGIN_LISTING, id=organisation.id, listing_number=organisation.listing_number)


def move_cursor(db: Database, organisation: Organisation, moved: Moved) -> Organisation | None:
    """The row as of now, locked until the transaction ends; None if another run has stored the page."""
    if organisation.node_id is None:
        db.execute(_TAKE_OVER, id=organisation.id, node_id=moved.node_id)
        db.execute(_DELETE_OTHER, id=organisation.id, node_id=moved.node_id)
    return _one(
        db,
        _MOVE_CURSOR,
        id=organisation.id,
        listing_number=organisation.listing_number,
        **{name: getattr(moved, name) for name in moved.__slots__},
    )


def known(db: Database, organisation_id: str, github_ids: Sequence[int]) -> dict[int, Known]:
    """What is stored of these repositories."""
    rows = db.rows(_KNOWN, id=organisation_id, github_ids=list(github_ids))
    return {row["github_id"]: Known(row["has_joined"], row["is_archived"]) for row in rows}


def store(db: Database, organisation: Organisation, shown: Sequence[Shown]) -> None:
    """Store a page, and begin the backfills of what joins; their rows of ``repositories`` are there."""
    joining = [{"node_id": each.node_id, "total_prs": each.total_prs} for each in shown if each.joins]
    if joining:
        db.execute(
            _BEGIN_BACKFILLS,
            joining=json.dumps(joining),
            chunk_size=organisation.chunk_size,
            metadata=json.dumps(dict(organisation.metadata)),
        )
    rows = json.dumps([each.as_row() for each in shown])
    db.execute(_STORE, id=organisation.id, listing_number=organisation.listing_number, shown=rows)


def end_listing(db: Database, organisation: Organisation) -> Ended:
    """The last page is stored."""
    ended = _one(db, _END_LISTING, id=organisation.id, listing_number=organisation.listing_number)
    gone = db.rows(_NOTE_GONE, id=organisation.id, listing_number=organisation.listing_number)
    return Ended(ended or organisation, sorted(row["full_name"] for row in gone))


def note_error(db: Database, organisation_id: str, reason: str, *, is_final: bool) -> None:
    """A listing could not go on; ``is_final``: not before the next round."""
    db.execute(_NOTE_ERROR, id=organisation_id, reason=reason, is_final=is_final)


def forget(db: Database, organisation_id: str) -> bool:
    """Follow it no more. Its backfills go on."""
    return db.execute(_FORGET, id=organisation_id) > 0


def forget_unknown(db: Database, organisation_id: str) -> None:
    """GitHub does not show it, and never did."""
    db.execute(_FORGET_UNKNOWN, id=organisation_id)


def summary(db: Database, organisation_id: str) -> Summary:
    """Its repositories, summed up."""
    row = db.one(_SUMMARY, id=organisation_id, limit=MOST_NAMES)
    if row is None:
        raise LookupError("an aggregate has one row")
    return Summary(**row)


def joined_since(db: Database, organisation_id: str, since: datetime) -> int:
    """How many repositories have joined."""
    row = db.one(_JOINED_SINCE, id=organisation_id, since=since)
    return 0 if row is None else int(row["joined"])


def followed(db: Database, limit: int = 1000) -> list[Organisation]:
    """All of them, by login."""
    return [Organisation.from_row(row) for row in db.rows(_ALL, limit=limit)]


def _one(db: Database, statement: str, **parameters: Any) -> Organisation | None:
    row = db.one(statement, **parameters)
    return None if row is None else Organisation.from_row(row)


def _as_parameters(settings: Settings) -> dict[str, Any]:
    return {
        "rule": json.dumps(dict(settings.rule)),
        "metadata": json.dumps(dict(settings.metadata)),
        "chunk_size": settings.chunk_size,
    }
