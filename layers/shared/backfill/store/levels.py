"""What the heartbeat finds: one statement over what is unfinished, named as the metrics are (observability.LEVELS)."""

from __future__ import annotations

from backfill.store.chunks import MAY_RUN
from backfill.store.connection import Database, Row
from backfill.store.progress import STALLED_HOURS

# The partial indexes keep completed backfills and chunks out of it, however many there are. Of the completed ones it reads
# the one whose check for changes is the most overdue, which is the first of an index.
_LEVELS = f"""
    SELECT b.*, c.*, COALESCE(r."CheckLag", 0) AS "CheckLag"
    FROM (
        SELECT count(*) FILTER (WHERE status = 'active') AS "ActiveBackfills",
               count(*) FILTER (WHERE status = 'active' AND progressed_at < now() - make_interval(hours => :stalled_hours))
                   AS "StalledBackfills",
               count(*) FILTER (WHERE status = 'paused' AND pause_reason <> 'manual') AS "BackfillsInTrouble",
               count(*) FILTER (WHERE status = 'paused'
                                  AND pause_reason IN ('bad_credentials', 'forbidden', 'repository_unavailable'))
                   AS "BackfillsWithoutAccess",
               COALESCE(sum(GREATEST(total_prs - processed_prs, 0)) FILTER (WHERE status = 'active'), 0) AS "PullRequestsLeft",
               COALESCE(max(EXTRACT(epoch FROM now() - COALESCE(last_processed_at, created_at)))
                        FILTER (WHERE status = 'active'), 0) AS "PlannerLag"
        FROM progressive_backfill_state WHERE status <> 'completed') AS b
    CROSS JOIN (
        SELECT count(*) AS "UnfinishedChunks",
               count(*) FILTER (WHERE c.status = 'processing' AND c.lease_expires_at < now()) AS "ExpiredLeases",
               GREATEST(0, COALESCE(max(EXTRACT(epoch FROM now() - c.available_at))
                                    FILTER (WHERE c.status = 'pending' AND {MAY_RUN}), 0))
                   AS "OldestPendingChunk"
        FROM backfill_chunks AS c JOIN progressive_backfill_state AS s ON s.id = c.backfill_state_id
        WHERE c.status IN ('pending', 'processing')) AS c
    LEFT JOIN (
        SELECT GREATEST(0, EXTRACT(epoch FROM now() - next_check_at)) AS "CheckLag"
        FROM progressive_backfill_state WHERE status = 'completed' ORDER BY next_check_at LIMIT 1) AS r ON true
"""


def read(db: Database) -> Row:
    """Counts and ages (seconds) at this moment, by name of the metric."""
    return db.one(_LEVELS, stalled_hours=STALLED_HOURS) or {}
