"""What was done in each hour: backfill_hours and github_hours, read for the plots of the page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backfill.store.connection import Database

# Of all backfills: GitHub's time is known by identity, not by backfill. Deleted chunks are not counted.
_OF_ALL = """
    SELECT date_trunc(:unit, hour, 'UTC') AS at, CAST(sum(pull_requests) AS integer) AS pull_requests,
           CAST(sum(points) AS integer) AS points, CAST(sum(server_seconds) AS float8) AS server_seconds, 0 AS chunks
    FROM (SELECT hour, pull_requests, points, 0 AS server_seconds FROM backfill_hours WHERE hour >= :since
          UNION ALL
          SELECT hour, 0, 0, server_seconds FROM github_hours WHERE hour >= :since) AS worked
    GROUP BY 1 ORDER BY 1
"""
_OF_ONE = """
    SELECT date_trunc(:unit, hour, 'UTC') AS at, CAST(sum(pull_requests) AS integer) AS pull_requests,
           CAST(sum(points) AS integer) AS points, NULL AS server_seconds, CAST(sum(chunks) AS integer) AS chunks
    FROM (SELECT hour, pull_requests, points, 0 AS chunks FROM backfill_hours
          WHERE backfill_state_id = :id AND hour >= :since
          UNION ALL
          SELECT completed_at, 0, 0, 1 FROM backfill_chunks
          WHERE backfill_state_id = :id AND completed_at >= :since) AS worked
    GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Worked:
    """What was done in the hour or day that begins ``at``. ``server_seconds`` is None for one backfill."""

    at: datetime
    pull_requests: int
    points: int
    server_seconds: float | None
    chunks: int


def worked(db: Database, unit: str, since: datetime, backfill_id: str | None = None) -> list[Worked]:
    """By ``hour`` or ``day`` of UTC, of one backfill or of all; a time without work has no row."""
    found = db.rows(
        _OF_ONE if backfill_id else _OF_ALL, unit=unit, since=since, **({"id": backfill_id} if backfill_id else {})
    )
    return [Worked(**row) for row in found]
