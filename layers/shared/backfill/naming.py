"""From a name to a backfill: one request for up to a hundred names, repeated later for names without an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backfill.errors import MOST_TEXT, Deferred, Permanent, Retryable
from backfill.github.client import GitHub
from backfill.github.errors import Forbidden, TooLarge, Unexplained, UnknownField
from backfill.github.finding import Found
from backfill.model import Repository
from backfill.queues import Queues
from backfill.store import backfills, names, repositories
from backfill.store.backfills import Added
from backfill.store.connection import Database
from backfill.store.names import Wanted

# Names of one request.
MOST_NAMES = 100
# Wait before a name is asked for again, if GitHub does not say when it can answer.
AGAIN_SECONDS = 60.0

# Of one name. Deferred: the limit of the identity that reads it.
Refusal = Permanent | Retryable | Deferred


@dataclass(frozen=True, slots=True)
class Tracked:
    """A tracked repository. ``changed``: settings that are others now, with the value before and the present one.

    ``paused``: what the server's schema lacks, so that its backfill waits for a newer server.
    """

    repository: Repository
    created: bool
    changed: Mapping[str, tuple[object, object]]
    total_prs: int
    paused: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A name that GitHub has not answered for yet, and why. The planner asks again."""

    why: str


def add(db: Database, github: GitHub, queues: Queues, wanted: Sequence[Wanted]) -> list[Tracked | Accepted | Permanent]:
    """What became of each name: tracked, accepted until GitHub answers, or refused by GitHub.

    Raises Permanent for what concerns the token or GitHub as a whole.
    """
    try:
        found = find(github, wanted)
    except (Deferred, Retryable) as error:
        found = dict.fromkeys((each.full_name for each in wanted), error)
    fates: list[Tracked | Accepted | Permanent] = []
    waits: list[float] = []
    for each in wanted:
        answer = found[each.full_name]
        if isinstance(answer, Permanent):
            fates.append(answer)
        elif isinstance(answer, (Deferred, Retryable)):
            wait, reason = (
                (answer.seconds, answer.reason) if isinstance(answer, Deferred) else (AGAIN_SECONDS, str(answer))
            )
            names.accept(db, each, reason[:MOST_TEXT], wait)
            fates.append(Accepted(reason))
            waits.append(wait)
        else:
            fates.append(track(db, queues, each, answer, github.unsupported))
    if waits:
        queues.request_plan(None, min(waits))
    return fates


def find(github: GitHub, wanted: Sequence[Wanted]) -> dict[str, Found | Refusal]:
    """GitHub's answer for each name, asked as the identity that reads it.

    Raises Deferred and whatever concerns GitHub or the token as a whole. What concerns one of several identities is the answer
    for its names.
    """
    groups = github.by_identity(wanted, lambda each: each.owner)
    if len(groups) == 1:
        return _find(*groups.popitem())
    found: dict[str, Found | Refusal] = {}
    for reader, its in groups.items():
        try:
            found |= _find(reader, its)
        except (Deferred, Permanent, Retryable) as error:
            found |= dict.fromkeys((each.full_name for each in its), error)
    return found


def _find(github: GitHub, wanted: Sequence[Wanted]) -> dict[str, Found | Refusal]:
    """A name that makes the request of the others fail is found by dividing the request."""
    try:
        return dict(github.find([(each.owner, each.name) for each in wanted]))
    except (Forbidden, TooLarge, Unexplained) as error:
        if len(wanted) == 1:
            return {wanted[0].full_name: error}
        half = len(wanted) // 2
        return {**_find(github, wanted[:half]), **_find(github, wanted[half:])}


def track(
    db: Database, queues: Queues, wanted: Wanted, found: Found, unsupported: UnknownField | None = None
) -> Tracked:
    """Begin the backfill of a repository that GitHub knows, or change its named settings.

    ``unsupported``: the server cannot answer the queries. The backfill is paused with that reason, until it is resumed.
    """
    row, total = found
    repository = repositories.upsert(db, row)
    added = backfills.add(db, repository.id, total_prs=total, chunk_size=wanted.chunk_size, metadata=wanted.metadata)
    names.forget(db, wanted.owner, wanted.name)
    if unsupported is None:
        queues.request_plan(repository.id)
    else:
        backfills.pause(db, added.backfill.id, unsupported.code, minutes=None, error=str(unsupported)[:MOST_TEXT])
    paused = None if unsupported is None else str(unsupported)
    return Tracked(repository, added.created, _changed(added), added.backfill.total_prs, paused)


def _changed(added: Added) -> Mapping[str, tuple[object, object]]:
    """Settings of a repository that was tracked before, where they are others now."""
    if added.created:
        return {}
    before, now = added.metadata_before or {}, added.backfill.metadata
    pairs = {
        "chunk_size": (added.chunk_size_before, added.backfill.chunk_size),
        "priority": (before.get("priority", "normal"), now.get("priority", "normal")),
        "order": (before.get("order", "newest_first"), now.get("order", "newest_first")),
        "timeline": (before.get("timeline", "default"), now.get("timeline", "default")),
    }
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}
