"""Time passes for the product when every timestamp of its own is moved. GitHub's times and the hours of the plots stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backfill.store.connection import Database

_COLUMNS = """
    SELECT table_name, string_agg(format('%1$I = %1$I - make_interval(secs => %2$L)', column_name, CAST(:seconds AS text)), ', ')
        AS assignments
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type = 'timestamp with time zone'
      AND table_name NOT IN ('comments', 'commits', 'reviews')
      AND column_name <> 'hour'
      AND (table_name, column_name) NOT IN (
        ('pull_requests', 'closed_at'), ('pull_requests', 'created_at'), ('pull_requests', 'merged_at'),
        ('pull_requests', 'updated_at'), ('pull_requests', 'detail_updated_at'), ('repositories', 'github_created_at'),
        ('progressive_backfill_state', 'scan_until'), ('progressive_backfill_state', 'updates_watermark'))
    GROUP BY table_name ORDER BY table_name
"""


class Ageing:
    """``choices``: the seconds that will pass. Less than none puts the clock of the database back."""

    def __init__(self, db: Database, choices: Sequence[int]) -> None:
        self._db = db
        self._statements: dict[int, list[tuple[str, dict[str, Any]]]] = {
            seconds: [
                (f"UPDATE {row['table_name']} SET {row['assignments']}", {})
                for row in db.rows(_COLUMNS, seconds=str(seconds))
            ]
            for seconds in set(choices)
        }

    def age(self, seconds: int) -> None:
        """Let so much time pass. No trigger sees it."""
        with self._db.transaction():
            self._db.pipeline([("SET LOCAL session_replication_role = replica", {}), *self._statements[seconds]])
