"""List the organisations that are followed, once a round, so that new repositories join."""

from __future__ import annotations

from datetime import datetime

from backfill import following
from backfill.errors import Deferred, Permanent, Retryable
from backfill.observability import problem
from backfill.planner.means import Means, Part
from backfill.store import organisations


def follow(means: Means, began: datetime) -> Part:
    """List each organisation that this round has not listed. A limit of GitHub ends the listings of its identity.

    An organisation that GitHub does not show, or cannot list now, keeps the reason and is listed again in the next round.
    """
    pages = 0
    limits: dict[str | None, float] = {}
    for organisation in organisations.due(means.db, began):
        if limits and means.identity(organisation.login) in limits:
            continue
        if not means.has_time_for_page():
            return Part(False, moved=pages)
        try:
            listed = following.list_organisation(means.db, means.github, organisation, means.has_time_for_page)
        except Deferred as limit:
            organisations.note_error(means.db, organisation.id, following.reason_of(limit), is_final=False)
            limits[means.identity(organisation.login)] = limit.seconds
            continue
        except (Retryable, Permanent) as error:
            problem("an organisation could not be listed", organisation=organisation.login, error=str(error))
            organisations.note_error(means.db, organisation.id, following.reason_of(error), is_final=True)
            continue
        pages += listed.pages
        if not listed.is_done:
            return Part(False, moved=pages)
    return Part(not limits, min(limits.values(), default=0.0), pages)
