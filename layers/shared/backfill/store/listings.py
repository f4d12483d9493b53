"""How far a planner has listed and refreshed a backfill. Each statement holds only under the planner's lease.

All raise LeaseLost if another planner took over the lease, or moved the cursor.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backfill.model import Lease, Spent
from backfill.store.connection import Database
from backfill.store.leases import under

_START = """
    UPDATE progressive_backfill_state SET listing_started_at = now(), listing_completed_at = NULL,
           last_processed_cursor = NULL, unlisted_prs = :unlisted_prs
    WHERE id = :id AND planner_token = :token
    RETURNING *
"""

# Compare and set: the cursor moves only from where this planner read it. The first page of the first listing brings the
# watermark: later changes are newer. The page grows by a tenth with each that GitHub answers, as detail requests do. A
# listing that ends with another difference to GitHub's count than it began with has explained that difference. The next
# difference, even one as large, is another.
_MOVE_CURSOR = """
    UPDATE progressive_backfill_state SET last_processed_cursor = COALESCE(:cursor, last_processed_cursor),
           total_prs = :total_prs, last_processed_at = now(),
           listing_completed_at = CASE WHEN :is_last THEN now() END,
           unlisted_prs = CASE WHEN :is_last AND :total_prs - listed_prs <> unlisted_prs THEN 0 ELSE unlisted_prs END,
           listing_page_size = LEAST(100, ceil(listing_page_size * 1.1)),
           updates_watermark = COALESCE(updates_watermark, CAST(:watermark AS timestamptz)),
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = :id AND planner_token = :token AND last_processed_cursor IS NOT DISTINCT FROM CAST(:from_cursor AS text)
    RETURNING *
"""

_NOTE_UNLISTED = """
    UPDATE progressive_backfill_state SET unlisted_prs = :unlisted_prs WHERE id = :id AND planner_token = :token RETURNING *
"""

_SHRINK_PAGE = """
    UPDATE progressive_backfill_state SET listing_page_size = GREATEST(1, listing_page_size / 2),
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = :id AND planner_token = :token
    RETURNING *
"""

_BEGIN_REFRESH = """
    UPDATE progressive_backfill_state SET total_prs = :total_prs, scan_cursor = NULL,
           scan_until = CAST(:until AS timestamptz),
           unlisted_prs = CASE WHEN :total_prs = listed_prs THEN 0 ELSE unlisted_prs END,
           examined_at = CASE WHEN CAST(:until AS timestamptz) IS NULL THEN now() ELSE examined_at END,
           asked_at = CASE WHEN CAST(:until AS timestamptz) IS NULL THEN now() ELSE asked_at END,
           next_check_at = CASE WHEN CAST(:until AS timestamptz) IS NULL THEN GREATEST(next_check_at, now()) ELSE next_check_at END,
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = :id AND planner_token = :token
    RETURNING *
"""

# The next page of the refresh begins after this one, whichever planner reads it. A pull request that changes meanwhile moves
# to the front, which this refresh does not read again. The next refresh does: the watermark is the time at which this one began.
_MOVE_REFRESH = """
    UPDATE progressive_backfill_state SET total_prs = :total_prs, last_processed_at = now(),
           scan_cursor = CASE WHEN NOT :is_last THEN :cursor END, scan_until = CASE WHEN NOT :is_last THEN scan_until END,
           updates_watermark = CASE WHEN :is_last THEN scan_until ELSE updates_watermark END,
           examined_at = CASE WHEN :is_last THEN now() ELSE examined_at END,
           asked_at = CASE WHEN :is_last THEN now() ELSE asked_at END,
           next_check_at = CASE WHEN :is_last THEN GREATEST(next_check_at, now()) ELSE next_check_at END,
           listing_page_size = LEAST(100, ceil(listing_page_size * 1.1)),
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = :id AND planner_token = :token AND scan_cursor IS NOT DISTINCT FROM CAST(:from_cursor AS text)
    RETURNING *
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is stored in the same transaction: the cursor after it, whether it is the last, GitHub's count, its cost."""

    cursor: str | None
    is_last: bool
    total_prs: int
    spent: Spent


def start(db: Database, lease: Lease, unlisted_prs: int = 0) -> Lease:
    """Begin the listing (again) at its first page.

    ``unlisted_prs`` is the difference between GitHub's count and its listing that causes this listing. If the whole listing
    ends with the same difference, GitHub counts pull requests that it hides. The difference is permanent, and the listing is
    not repeated.
    """
    return under(db, lease, _START, unlisted_prs=unlisted_prs)


def note_unlisted(db: Database, lease: Lease, unlisted_prs: int) -> Lease:
    """GitHub counts so many more pull requests than it shows."""
    return under(db, lease, _NOTE_UNLISTED, unlisted_prs=unlisted_prs)


def move_cursor(db: Database, lease: Lease, page: Page, watermark: datetime | None) -> Lease:
    """Move the listing past a page. ``watermark``: every change up to then was known when the page was read."""
    return under(
        db,
        lease,
        _MOVE_CURSOR,
        from_cursor=lease.backfill.last_processed_cursor,
        cursor=page.cursor,
        is_last=page.is_last,
        total_prs=page.total_prs,
        watermark=watermark,
        **_cost(page.spent),
    )


def shrink_page(db: Database, lease: Lease, spent: Spent) -> Lease:
    """GitHub could not answer for a page of ``listing_page_size``: the next one has half as many."""
    return under(db, lease, _SHRINK_PAGE, **_cost(spent))


def begin_refresh(db: Database, lease: Lease, *, until: datetime | None, total_prs: int, spent: Spent) -> Lease:
    """Begin a refresh at its first page. When it ends, every change up to ``until`` is known. None: nothing has changed."""
    return under(db, lease, _BEGIN_REFRESH, until=until, total_prs=total_prs, **_cost(spent))


def move_refresh(db: Database, lease: Lease, page: Page) -> Lease:
    """Move the refresh past a page."""
    return under(
        db,
        lease,
        _MOVE_REFRESH,
        from_cursor=lease.backfill.scan_cursor,
        cursor=page.cursor,
        is_last=page.is_last,
        total_prs=page.total_prs,
        **_cost(page.spent),
    )


def _cost(spent: Spent) -> dict[str, int]:
    return {"points": spent.points, "requests": spent.requests}
