"""Turn the reading of timelines on or off, as the backfill's setting or the stack's default says by now."""

from __future__ import annotations

from backfill.planner.lease import Held
from backfill.store import timelines


def bring_up_to_date(held: Held) -> bool:
    """Let workers read timelines or not, and mark what was read without one; False if the time ended before that."""
    db, wish = held.means.db, held.backfill.wants_timeline(held.means.timeline)
    if wish != held.backfill.reads_timeline:
        held.lease = timelines.set_wish(db, held.lease, wish)
    while held.backfill.timeline_to_mark:
        if not held.means.has_time_for_page():
            return False
        held.lease = timelines.mark_some(db, held.lease)
    return True
