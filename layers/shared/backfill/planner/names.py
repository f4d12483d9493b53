"""Ask GitHub for names that `add` accepted before GitHub could answer for them."""

from __future__ import annotations

from collections.abc import Sequence

from backfill import naming
from backfill.errors import MOST_TEXT, Deferred, Permanent, Retryable
from backfill.github.errors import InvalidQuery
from backfill.github.finding import Found
from backfill.observability import problem
from backfill.planner.means import Means, Part
from backfill.store import names
from backfill.store.names import Wanted


def resolve(means: Means) -> Part:
    """Ask for the names that are due, up to a hundred in one request, and begin their backfills."""
    wanted = names.due(means.db, naming.MOST_NAMES)
    if not wanted or not means.has_time_for_page():
        return Part(not wanted)
    done = Part(len(wanted) < naming.MOST_NAMES, moved=len(wanted))
    try:
        found = naming.find(means.github, wanted)
    except Deferred as limit:
        names.postpone(means.db, wanted, str(limit)[:MOST_TEXT], limit.seconds)
        return Part(False, limit.seconds)
    except InvalidQuery as error:
        # The server does not even know how to name a repository. It stays so until an operator replaces it.
        problem("names cannot be asked for", error=str(error))
        _refuse(means, wanted, error)
        return done
    except (Retryable, Permanent) as error:
        problem("names could not be asked for", error=str(error))
        names.postpone(means.db, wanted, str(error)[:MOST_TEXT], naming.AGAIN_SECONDS)
        return Part(True)
    limits: list[float] = []
    for each in wanted:
        answer = found[each.full_name]
        if isinstance(answer, Deferred):
            names.postpone(means.db, [each], str(answer)[:MOST_TEXT], answer.seconds)
            limits.append(answer.seconds)
        else:
            _track(means, each, answer)
    return Part(False, min(limits), len(wanted) - len(limits)) if limits else done


def _track(means: Means, wanted: Wanted, answer: Found | Permanent | Retryable) -> None:
    """Begin the backfill of one name, or keep the reason why GitHub does not give it."""
    if isinstance(answer, (Permanent, Retryable)):
        problem("GitHub does not answer for a name", repository=wanted.full_name, error=str(answer))
        _refuse(means, [wanted], answer)
        return
    try:
        naming.track(means.db, means.queues, wanted, answer, means.github.unsupported)
    except Retryable as error:
        names.postpone(means.db, [wanted], str(error)[:MOST_TEXT], naming.AGAIN_SECONDS)


def _refuse(means: Means, wanted: Sequence[Wanted], error: Exception) -> None:
    for each in wanted:
        names.refuse(means.db, each, str(error)[:MOST_TEXT])
