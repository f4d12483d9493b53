"""Repositories, keyed by GitHub's node id: a rename or a transfer changes the name, never the key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backfill.errors import Retryable
from backfill.model import Repository
from backfill.outcomes import LOOK_AGAIN_SECONDS
from backfill.store.connection import Database

# GitHub's node ids change their form; the number behind them stays. A row with the number gets the node id of today.
_ADOPT = """
    UPDATE repositories AS r SET node_id = i.node_id, updated_at = now()
    FROM (SELECT DISTINCT ON (github_id) node_id, github_id
          FROM jsonb_to_recordset(:repositories) AS i(node_id text, github_id bigint)
          WHERE github_id IS NOT NULL ORDER BY github_id, node_id) AS i
    WHERE r.github_id = i.github_id AND r.node_id <> i.node_id
      AND NOT EXISTS (SELECT FROM repositories AS other WHERE other.node_id = i.node_id)
      AND r.id = ANY(ARRAY(
            SELECT first.id
            FROM jsonb_to_recordset(:repositories) AS wanted(github_id bigint)
            CROSS JOIN LATERAL (SELECT id FROM repositories AS same WHERE same.github_id = wanted.github_id
                                ORDER BY created_at, id LIMIT 1) AS first))
"""

# A name belongs to the repository that GitHub gave it to last: deleted and created again, or renamed onto another.
_TAKE_NAMES = """
    UPDATE repositories AS r SET name_taken_at = now(), updated_at = now()
    WHERE r.name_taken_at IS NULL
      AND r.id = ANY(ARRAY(
            SELECT namesake.id
            FROM jsonb_to_recordset(:repositories) AS i(node_id text, owner text, name text)
            CROSS JOIN LATERAL (SELECT id FROM repositories AS n
                                WHERE lower(n.owner) = lower(i.owner) AND lower(n.name) = lower(i.name)
                                  AND n.node_id <> i.node_id OFFSET 0) AS namesake
            WHERE (SELECT true FROM repositories AS owner WHERE owner.node_id = i.node_id)))
      AND NOT EXISTS (SELECT FROM jsonb_to_recordset(:repositories) AS also(node_id text)
                      WHERE also.node_id = r.node_id)
"""

# The old name is kept when a rename or a transfer shows, so that messages with the old name still find it.
_UPSERT = """
    INSERT INTO repositories (node_id, github_id, owner, name, url, is_private, is_fork, is_archived, default_branch,
                              github_created_at)
    SELECT node_id, github_id, owner, name, url, is_private, is_fork, is_archived, default_branch, github_created_at
    FROM jsonb_to_recordset(:repositories) AS i(
        node_id text, github_id bigint, owner text, name text, url text, is_private boolean, is_fork boolean,
        is_archived boolean, default_branch text, github_created_at timestamptz)
    WHERE (SELECT (r.owner, r.name, r.url, r.is_private, r.is_fork, r.is_archived, r.default_branch, r.unavailable_since,
                   r.name_taken_at)
               IS NOT DISTINCT FROM (i.owner, i.name, i.url, i.is_private, i.is_fork, i.is_archived, i.default_branch, NULL,
                   NULL)
           FROM repositories AS r WHERE r.node_id = i.node_id) IS NOT TRUE
      AND (:may_insert OR EXISTS (SELECT FROM repositories AS r WHERE r.node_id = i.node_id))
    ORDER BY node_id
    ON CONFLICT (node_id) DO UPDATE SET
        previous_names = CASE
            WHEN (repositories.owner, repositories.name) = (EXCLUDED.owner, EXCLUDED.name) THEN repositories.previous_names
            ELSE array_append(array_remove(repositories.previous_names, repositories.owner || '/' || repositories.name),
                              repositories.owner || '/' || repositories.name) END,
        owner = EXCLUDED.owner, name = EXCLUDED.name, url = EXCLUDED.url, is_private = EXCLUDED.is_private,
        is_fork = EXCLUDED.is_fork, is_archived = EXCLUDED.is_archived, default_branch = EXCLUDED.default_branch,
        unavailable_since = NULL, name_taken_at = NULL, updated_at = now()
    WHERE (repositories.owner, repositories.name, repositories.url, repositories.is_private, repositories.is_fork,
           repositories.is_archived, repositories.default_branch, repositories.unavailable_since,
           repositories.name_taken_at)
        IS DISTINCT FROM (EXCLUDED.owner, EXCLUDED.name, EXCLUDED.url, EXCLUDED.is_private, EXCLUDED.is_fork,
           EXCLUDED.is_archived, EXCLUDED.default_branch, NULL, NULL)
"""

_FIND = """
    SELECT * FROM repositories
    WHERE (lower(owner) = lower(:owner) AND lower(name) = lower(:name))
       OR EXISTS (SELECT FROM unnest(previous_names) AS p WHERE lower(p) = lower(:full_name))
    ORDER BY (lower(owner) = lower(:owner) AND lower(name) = lower(:name)) DESC, name_taken_at IS NOT NULL,
             unavailable_since IS NOT NULL, updated_at DESC
    LIMIT 1
"""

_TRACKED = """
    SELECT r.github_id FROM repositories AS r JOIN progressive_backfill_state AS s ON s.repository_id = r.id
    WHERE r.github_id = ANY(CAST(:github_ids AS bigint[]))
"""

# The first NOT_FOUND is only noted. A second look decides, minutes later; a success in between forgets the first.
_NOTE_UNAVAILABLE = """
    WITH before AS (SELECT id, unavailable_since FROM repositories
                    WHERE id = ANY(:ids) ORDER BY id FOR UPDATE),
         noted AS (UPDATE repositories AS r SET unavailable_since = now(), updated_at = now()
                   FROM before WHERE r.id = before.id AND before.unavailable_since IS NULL)
    SELECT id FROM before WHERE unavailable_since < now() - make_interval(secs => :look_again_seconds)
"""
_NOTE_AVAILABLE = "UPDATE repositories SET unavailable_since = NULL WHERE id = :id"


def upsert(db: Database, repository: Mapping[str, Any]) -> Repository:
    """Insert or refresh a repository from GitHub's answer; the stored row.

    Raises Retryable if an operator's removal deleted it in the same moment.
    """
    _write(db, [repository], may_insert=True)
    found = db.one("SELECT * FROM repositories WHERE node_id = :node_id", node_id=repository["node_id"])
    if found is None:
        raise Retryable(f"{repository['owner']}/{repository['name']} was removed while it was added; add it again")
    return Repository.from_row(found)


def upsert_all(db: Database, repositories: Sequence[Mapping[str, Any]]) -> None:
    """Insert or refresh several, in one round trip."""
    _write(db, repositories, may_insert=True)


def refresh(db: Database, repositories: Sequence[Mapping[str, Any]]) -> None:
    """Refresh repositories from GitHub's answer, in one round trip; what has not changed is not even locked. One that was
    removed meanwhile does not come back."""
    _write(db, repositories, may_insert=False)


def _write(db: Database, repositories: Sequence[Mapping[str, Any]], *, may_insert: bool) -> None:
    rows = {"repositories": json.dumps([dict(each) for each in repositories])}
    db.pipeline([(_ADOPT, rows), (_UPSERT, {**rows, "may_insert": may_insert}), (_TAKE_NAMES, rows)])


def find(db: Database, owner: str, name: str) -> Repository | None:
    """By present name, else by an earlier one; case does not matter, as on GitHub."""
    row = db.one(_FIND, owner=owner, name=name, full_name=f"{owner}/{name}")
    return Repository.from_row(row) if row else None


def get(db: Database, repository_id: str) -> Repository | None:
    """By uuid."""
    row = db.one("SELECT * FROM repositories WHERE id = :id", id=repository_id)
    return Repository.from_row(row) if row else None


def tracked(db: Database, github_ids: Sequence[int]) -> set[int]:
    """Those of GitHub's numbers that have a backfill."""
    return {row["github_id"] for row in db.rows(_TRACKED, github_ids=list(github_ids))}


def note_available(db: Database, repository_id: str) -> None:
    """GitHub shows the repository: an earlier NOT_FOUND was a hiccup."""
    db.execute(_NOTE_AVAILABLE, id=repository_id)


def note_unavailable(db: Database, repository_ids: Sequence[str]) -> set[str]:
    """Record GitHub's NOT_FOUND. Returns the repositories with an earlier NOT_FOUND, for which the trouble is lasting."""
    return {
        row["id"] for row in db.rows(_NOTE_UNAVAILABLE, ids=list(repository_ids), look_again_seconds=LOOK_AGAIN_SECONDS)
    }


def request_size(db: Database, repository_id: str) -> float | None:
    """The learned size of a detail request; None while GitHub has refused none."""
    found = get(db, repository_id)
    return None if found is None or found.detail_request_ceiling is None else found.detail_request_size


def set_request_size(db: Database, repository_id: str, size: float, ceiling: float | None) -> None:
    """Remember the learned size of a detail request, and what was too much (backfill.github.request_size)."""
    db.execute(
        "UPDATE repositories SET detail_request_size = :size, detail_request_ceiling = :ceiling"
        " WHERE id = :id AND (detail_request_size, detail_request_ceiling) IS DISTINCT FROM (:size, :ceiling)",
        size=size,
        ceiling=ceiling,
        id=repository_id,
    )
