"""List a repository: every pull request, oldest first, without details."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from backfill.github.errors import TooLarge
from backfill.github.listing import ListingPage
from backfill.observability import count, problem
from backfill.planner import cutting
from backfill.planner.changes import known_until, moment
from backfill.planner.lease import Held
from backfill.store import backfills, listings, pull_requests, refused_numbers, repositories


def list_pages(held: Held) -> None:
    """List for a turn, and cut chunks after each page."""
    has_time = held.turn()
    while not held.backfill.is_listed and has_time():
        _list_page(held)
        cutting.fill(held)


def ask_again(held: Held) -> None:
    """Ask for numbers that GitHub has and did not list, once their time has come."""
    db, repository = held.means.db, held.repository
    for some in cutting.pieces(refused_numbers.to_ask_again(db, repository.id)):
        with held.booking() as spent:
            found = held.github.list_numbers(repository.node_id, some)
            with db.transaction():
                pull_requests.store_listed(db, repository.id, found.contributors, found.pull_requests)
                backfills.book(db, held.backfill.id, spent())
                refused_numbers.forget_refused(db, repository.id, found.missing)
                refused_numbers.note_refused(db, repository.id, found.refused, is_asked_again=True)
        held.pages += 1


def note_refused(held: Held, page: ListingPage) -> None:
    """A number that a page does not show becomes a gap with its reason. The status tells of a row without a number."""
    refused_numbers.note_refused(held.means.db, held.repository.id, page.refused)
    for refusal in page.unplaced:
        problem("GitHub does not show a row of its listing", reason=refusal.reason)
        error = f"GitHub does not show a pull request of its listing: {refusal.reason}"
        backfills.note_error(held.means.db, held.backfill.id, error)


def _list_page(held: Held) -> None:
    db, backfill, repository = held.means.db, held.backfill, held.repository
    with held.booking() as spent:
        try:
            page = held.github.list_pull_requests(
                repository.node_id, backfill.last_processed_cursor, page_size=backfill.listing_page_size
            )
        except TooLarge as error:
            held.shrink_page(error, spent())
            return
        if not page.has_next_page:
            # Before the end is stored: a planner that is interrupted here reads the last page again, and asks again.
            _find_gone(held, {row["number"] for row in page.pull_requests})
        watermark = known_until(moment(page.latest_updated_at), datetime.now(UTC))
        with db.transaction():
            pull_requests.store_listed(db, repository.id, page.contributors, page.pull_requests)
            note_refused(held, page)
            stored = listings.Page(page.end_cursor, not page.has_next_page, page.total_prs, spent())
            held.lease = listings.move_cursor(db, held.lease, stored, watermark)
    repositories.refresh(db, [page.repository])
    held.pages += 1
    count("PagesListed")


def _find_gone(held: Held, last_page: Collection[int]) -> None:
    """Ask by number for pull requests that a whole listing did not show. GitHub's answer alone makes them gone."""
    db, repository = held.means.db, held.repository
    unseen = pull_requests.not_listed(db, repository.id)
    for some in cutting.pieces([number for number in unseen if number not in last_page]):
        # Stored at once: if this run ends half way, the next planner asks for the rest.
        found = held.github.list_numbers(repository.node_id, some)
        with db.transaction():
            pull_requests.store_listed(db, repository.id, found.contributors, found.pull_requests, found.missing)
            pull_requests.mark_gone(db, repository.id, found.missing)
            if found.missing:
                # They explain the difference of the counts. A difference that remains has another cause.
                held.lease = listings.note_unlisted(db, held.lease, 0)
