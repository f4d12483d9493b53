"""What a forecast reads: sizes of what is left, the pace of the last hour, what else is active. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backfill.model import Backfill
from backfill.store.connection import Database, Row

# Every n-th of what is left, so that young and old pull requests have their part in the sample.
_SIZES_LEFT = """
    WITH remaining AS (
        SELECT number, total_comments_count, labels_count, assignees_count, review_requests_count, closing_issues_count,
               comments_count, reviews_count, review_threads_count, commits_count, files_count,
               row_number() OVER (ORDER BY created_at DESC, number DESC) AS place, count(*) OVER () AS remaining
        FROM pull_requests_lacking_detail WHERE repository_id = :repository_id)
    SELECT * FROM remaining WHERE place % ((remaining + :sample - 1) / :sample) = 0 ORDER BY place
"""

_LARGEST_NUMBER = """
    SELECT COALESCE(max(number), 0) AS number FROM pull_requests WHERE repository_id = :repository_id
"""

# Chunks overlap, as several workers run: the time in which at least one of them did, and what they read in it.
_PACE = """
    WITH recent AS (
        SELECT started_at, completed_at, cardinality(pr_numbers) AS pull_requests,
               max(completed_at) OVER (ORDER BY started_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
        FROM backfill_chunks AS c
        WHERE status = 'completed' AND completed_at > now() - interval '1 hour'
          AND (SELECT lower(r.owner) = ANY(:owners) FROM progressive_backfill_state AS s
               JOIN repositories AS r ON r.id = s.repository_id WHERE s.id = c.backfill_state_id) = :is_theirs)
    SELECT COALESCE(sum(pull_requests), 0) AS pull_requests,
           CAST(COALESCE(sum(EXTRACT(epoch FROM GREATEST(interval '0', completed_at - GREATEST(started_at, busy_until)))), 0)
                AS float8) AS seconds
    FROM recent
"""

_ACTIVE = """
    SELECT s.*, r.owner, r.name, r.node_id FROM progressive_backfill_state AS s
    JOIN repositories AS r ON r.id = s.repository_id
    WHERE s.status = 'active' OR s.id = :backfill_id
    ORDER BY (s.id = :backfill_id) DESC NULLS LAST, s.planned_at NULLS FIRST
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """Pull requests that were detailed within the last hour, and the seconds in which a worker detailed any."""

    pull_requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Active:
    """A backfill with the present name and node id of its repository."""

    backfill: Backfill
    owner: str
    name: str
    node_id: str

    @property
    def full_name(self) -> str:
        """OWNER/NAME."""
        return f"{self.owner}/{self.name}"


def sizes_left(db: Database, repository_id: str, sample: int) -> list[Row]:
    """Connection sizes of listed pull requests without current detail, at most about ``sample`` of them; every row says
    how many there are as ``remaining``."""
    return db.rows(_SIZES_LEFT, repository_id=repository_id, sample=sample)


def largest_number(db: Database, repository_id: str) -> int:
    """The largest number of a stored pull request, 0 if there is none."""
    return int((db.one(_LARGEST_NUMBER, repository_id=repository_id) or {"number": 0})["number"])


def pace(db: Database, owners: Sequence[str], is_theirs: bool) -> Pace:
    """The pace of the last hour in the repositories of these owners, or of all others. ``owners`` in lower case."""
    return Pace(**db.only(_PACE, owners=list(owners), is_theirs=is_theirs))


def active(db: Database, backfill_id: str | None) -> list[Active]:
    """Active backfills, and the named one whatever its state, first."""
    return [
        Active(Backfill.from_row(row), row["owner"], row["name"], row["node_id"])
        for row in db.rows(_ACTIVE, backfill_id=backfill_id)
    ]
