"""From a name to a backfill: GitHub is asked for up to a hundred names at once. What it cannot answer yet is asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backfill.errors import Permanent, Retryable
from backfill.github.client import GitHub
from backfill.github.errors import Forbidden, TooLarge, Unexplained, UnknownField
from backfill.queues import Queues
from backfill.store import backfills, names, repositories
from backfill.store.backfills import Added
from backfill.store.connection import Database
from backfill.store.names import Wanted

# Names of one request.
MOST_NAMES = 100
# Names that GitHub cannot answer for, without a word on when it can, are asked for again after this.
AGAIN_SECONDS = 60.0

Found = tuple[dict[str, Any], int]
Refusal = Permanent | Retryable


def find(github: GitHub, wanted: Sequence[Wanted]) -> dict[str, Found | Refusal]:
    """What GitHub says about each name; one that spoils the answer for the others is found by halves.

    Raises Deferred and whatever concerns GitHub or the token as a whole.
    """
    try:
        return dict(github.find([(each.owner, each.name) for each in wanted]))
    except (Forbidden, TooLarge, Unexplained) as error:
        if len(wanted) == 1:
            return {wanted[0].full_name: error}
        half = len(wanted) // 2
        return {**find(github, wanted[:half]), **find(github, wanted[half:])}


def track(
    db: Database, queues: Queues, wanted: Wanted, found: Found, unsupported: UnknownField | None = None
) -> Mapping[str, Any]:
    """Begin the backfill of a repository that GitHub knows, or change what is named of it.

    ``unsupported``: the server cannot answer the queries. The backfill is paused with that reason, until it is resumed.
    """
    row, total = found
    repository = repositories.upsert(db, row)
    added = backfills.add(db, repository.id, total_prs=total, chunk_size=wanted.chunk_size, metadata=wanted.metadata)
    names.forget(db, wanted.owner, wanted.name)
    paused: dict[str, str] = {}
    if unsupported is None:
        queues.request_plan(repository.id)
    else:
        backfills.pause(db, added.backfill.id, unsupported.code, minutes=None, error=str(unsupported)[:2000])
        paused = {"paused": str(unsupported)}
    return {
        **paused,
        "repository": repository.full_name,
        "repository_id": repository.id,
        "created": added.created,
        "changed": _changed(added),
        "total_prs": added.backfill.total_prs,
    }


def _changed(added: Added) -> dict[str, dict[str, Any]]:
    """Which settings of a tracked repository are others now: ``{"priority": {"from": "normal", "to": "high"}}``."""
    if added.created:
        return {}
    before, now = added.metadata_before or {}, added.backfill.metadata
    pairs = {
        "chunk_size": (added.chunk_size_before, added.backfill.chunk_size),
        "priority": (before.get("priority", "normal"), now.get("priority", "normal")),
        "order": (before.get("order", "newest_first"), now.get("order", "newest_first")),
    }
    return {name: {"from": old, "to": new} for name, (old, new) in pairs.items() if old != new}
