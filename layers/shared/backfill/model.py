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
