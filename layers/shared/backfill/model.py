"""Values that several parts of the product share. A row of Postgres becomes one of them where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from backfill.error_codes import ErrorCode


@dataclass(frozen=True, slots=True)
class Spent:
    """Points and requests. Failed requests count too: GitHub takes points for a query that it could not finish."""

    points: int = 0
    requests: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.points + other.points, self.requests + other.requests)

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(self.points - earlier.points, self.requests - earlier.requests)


class Origin(StrEnum):
    """Who asked for a chunk: the planner, or a person with a sync request."""

    PLANNER = "planner"
    MESSAGE = "message"


class ChunkStatus(StrEnum):
    """A chunk's state (docs/architecture.md draws the transitions)."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What one chunk message says. A newer dispatch of the chunk makes it stale."""

    chunk_id: str
    dispatch_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is not sent yet. ``wait_seconds``: until the chunk may be claimed."""

    dispatch: Dispatch
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of backfill_chunks. ``claim_token`` is the worker's proof; ``error`` is the last attempt's.

    ``error_code`` is a plain string: a newer version may have written a word that ErrorCode does not have here.
    """

    id: str
    backfill_id: str
    repository_id: str
    chunk_number: int
    pr_numbers: tuple[int, ...]
    status: ChunkStatus
    origin: Origin
    dispatch_id: str
    claim_token: str | None
    sent_at: datetime | None
    attempts: int
    points: int
    requests: int
    error: str | None
    error_code: str | None
    # Known of a claimed chunk: whether its backfill reads timelines.
    reads_timeline: bool = False

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a whole row of the table."""
        typed = {
            "pr_numbers": tuple(row["pr_numbers"]),
            "status": ChunkStatus(row["status"]),
            "origin": Origin(row["origin"]),
        }
        plain = {name: row[name] for name in cls.__slots__ if name in row}
        return cls(**{**plain, **typed, "backfill_id": row["backfill_state_id"]})

    @property
    def dispatch(self) -> Dispatch:
        """The message that may claim it."""
        return Dispatch(self.id, self.dispatch_id)

    @property
    def was_deferred(self) -> bool:
        """Whether a limit of GitHub ended its last attempt."""
        return self.error_code == ErrorCode.DEFERRED


@dataclass(frozen=True, slots=True)
class Repository:
    """A row of repositories. ``unavailable_since`` is the first NOT_FOUND of GitHub since its last answer.

    ``detail_request_size`` and ``detail_request_ceiling`` are what backfill.github.request_size has learned.
    """

    id: str
    node_id: str
    owner: str
    name: str
    unavailable_since: datetime | None
    detail_request_size: float | None
    detail_request_ceiling: float | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a whole row of the table."""
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def full_name(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


class BackfillStatus(StrEnum):
    """The column status of progressive_backfill_state."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Backfill:
    """One repository's backfill, as a statement returned it. docs/data.md explains each column."""

    id: str
    repository_id: str
    status: BackfillStatus
    metadata: Mapping[str, str]
    chunk_size: int
    max_chunks: int
    total_prs: int
    listed_prs: int
    unlisted_prs: int
    processed_prs: int
    last_processed_cursor: str | None
    listing_page_size: int
    listing_started_at: datetime | None
    listing_completed_at: datetime | None
    scan_cursor: str | None
    scan_until: datetime | None
    updates_watermark: datetime | None
    examined_at: datetime | None
    pause_reason: str | None
    paused_until: datetime | None
    reads_timeline: bool
    timeline_to_mark: bool

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a whole row of progressive_backfill_state."""
        return cls(**{**{name: row[name] for name in cls.__slots__}, "status": BackfillStatus(row["status"])})

    @property
    def priority(self) -> str:
        """high, normal or low."""
        return self.metadata.get("priority") or "normal"

    @property
    def is_oldest_first(self) -> bool:
        """Whether chunks begin with the oldest pull requests."""
        return self.metadata.get("order") == "oldest_first"

    def wants_timeline(self, default: bool) -> bool:
        """Whether timelines are to be read: by its own setting, else the stack's."""
        return {"on": True, "off": False}.get(self.metadata.get("timeline", ""), default)

    @property
    def is_listed(self) -> bool:
        """Whether its listing has ended."""
        return self.listing_completed_at is not None

    @property
    def is_refreshing(self) -> bool:
        """Whether a refresh is under way."""
        return self.scan_until is not None


@dataclass(frozen=True, slots=True)
class Lease:
    """A planner's exclusive right to a backfill, and the backfill as it is under this lease."""

    token: str
    backfill: Backfill
