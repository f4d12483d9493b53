"""What the product does when it pauses a backfill."""

from __future__ import annotations

from backfill.observability import count, note_levels
from backfill.store import levels
from backfill.store.connection import Database


def note_pause(db: Database) -> None:
    """Tell the alarms of a pause now, not at the next heartbeat."""
    count("BackfillsPaused")
    note_levels(levels.read(db))
