"""Refresh a listed repository: read what changed since the watermark, newest first."""

from __future__ import annotations

from datetime import UTC, datetime

from backfill.github.errors import InvalidQuery, RepositoryUnavailable, TooLarge, Unexplained
from backfill.github.finding import RepositoryState
from backfill.observability import count, event
from backfill.planner import listing
from backfill.planner.changes import (
    counts_differ,
    has_moved,
    is_far_enough,
    is_more_hidden,
    known_until,
    moment,
)
from backfill.planner.lease import Held
from backfill.store import backfills, listings, pull_requests, repositories

# Changes that come during a refresh are read by another one at once, so often. Later ones are found by the next check.
ROUNDS = 3


def refresh(held: Held) -> None:
    """Read every change since the watermark. If the totals still differ, begin a whole listing.

    If the time ends first, ``scan_until`` stays set, and the next refresh continues with the next page.
    """
    if not _read_changes(held):
        return
    backfill = held.backfill
    if backfill.is_listed and counts_differ(backfill.total_prs, backfill.listed_prs, backfill.unlisted_prs):
        difference = backfill.total_prs - backfill.listed_prs
        event("listed and counted pull requests differ", listed=backfill.listed_prs, counted=backfill.total_prs)
        db = held.means.db
        if is_more_hidden(backfill, backfills.now(db)):
            held.lease = listings.note_unlisted(db, held.lease, difference)
        else:
            held.lease = listings.start(db, held.lease, difference)


def _read_changes(held: Held) -> bool:
    """Refresh until nothing moves any more; False if the time ended first."""
    has_time = held.turn()
    for _ in range(ROUNDS):
        if not held.backfill.is_refreshing:
            _ask(held)
        has_moved = held.backfill.is_refreshing
        while held.backfill.is_refreshing:
            if not has_time():
                return False
            _read_page(held)
        backfill = held.backfill
        if not has_moved or not counts_differ(backfill.total_prs, backfill.listed_prs, backfill.unlisted_prs):
            break
    return True


def _ask(held: Held) -> None:
    """Ask GitHub for its total and its newest change. A newer one than the watermark begins a refresh."""
    with held.booking() as spent:
        now = _state_of(held)
        latest = moment(now.latest_updated_at)
        until = known_until(latest, datetime.now(UTC)) if has_moved(latest, held.backfill.updates_watermark) else None
        held.lease = listings.begin_refresh(
            held.means.db, held.lease, until=until, total_prs=now.total_prs, spent=spent()
        )


def _read_page(held: Held) -> None:
    """The next page by UPDATED_AT. The last is the one that reaches the watermark and a little further."""
    db, backfill, repository = held.means.db, held.backfill, held.repository
    with held.booking() as spent:
        try:
            page = held.github.list_updated(
                repository.node_id, backfill.scan_cursor, page_size=backfill.listing_page_size
            )
        except TooLarge as error:
            held.shrink_page(error, spent())
            return
        except InvalidQuery:
            if backfill.scan_cursor is None:
                raise
            # GitHub refuses the cursor, which is opaque: begin again without one.
            held.lease = listings.begin_refresh(
                db, held.lease, until=backfill.scan_until, total_prs=backfill.total_prs, spent=spent()
            )
            return
        seen = [moment(row["updated_at"]) for row in page.pull_requests]
        is_last = not page.has_next_page or is_far_enough(seen, backfill.updates_watermark)
        with db.transaction():
            pull_requests.store_listed(db, repository.id, page.contributors, page.pull_requests)
            listing.note_refused(held, page)
            stored = listings.Page(page.end_cursor, is_last, page.total_prs, spent())
            held.lease = listings.move_refresh(db, held.lease, stored)
    held.pages += 1
    count("PagesListed")


def _state_of(held: Held) -> RepositoryState:
    """GitHub's word on this repository now. Raises what stands in the way."""
    repository = held.repository
    now = held.github.check_for_changes([repository.node_id])[repository.node_id]
    if isinstance(now, Unexplained):
        raise now
    if now is None:
        raise RepositoryUnavailable(f"GitHub has no {repository.full_name} for this token")
    repositories.refresh(held.means.db, [now.repository])
    return now
