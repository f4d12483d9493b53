"""What a planner run works with, and how far a part of its round came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backfill.errors import Deferred, Permanent, Retryable
from backfill.github.client import GitHub
from backfill.limits import CHECK_SHARE
from backfill.queues import Queues
from backfill.store.connection import Database

# A planner stops this long before its function ends: a page may wait for its turn, and take GitHub's ten seconds.
PAGE_SECONDS = 20.0
# The check of a completed repository is a request, and perhaps a page of its changes.
CHECK_SECONDS = 40.0
# No margin takes a larger part of the function's time, or a function with a short timeout would never begin. The shortest
# timeout is WorkerTimeout's in template.yaml: a run that begins with less begins too late.
LARGEST_MARGIN = 2 / 3
SHORTEST_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Margins:
    """With less time left, a run begins no ``page``, and no ``check`` of completed repositories. In seconds."""

    page: float = PAGE_SECONDS
    check: float = CHECK_SECONDS

    @classmethod
    def of(cls, timeout_seconds: float) -> Margins:
        """The margins of a run that begins with so much time."""
        most = max(timeout_seconds, SHORTEST_TIMEOUT_SECONDS) * LARGEST_MARGIN
        return cls(min(PAGE_SECONDS, most), min(CHECK_SECONDS, most))


@dataclass(frozen=True, slots=True)
class Means:
    """What one invocation works with. ``seconds_left`` is the function's remaining time; ``check_share`` is what checks for
    changes may take of GitHub's points in an hour; ``timeline`` the stack's default."""

    db: Database
    github: GitHub
    queues: Queues
    seconds_left: Callable[[], float]
    margins: Margins = Margins()
    check_share: float = CHECK_SHARE
    timeline: bool = False

    def identity(self, owner: str) -> str | None:
        """Whose limits count for an owner's repositories; None if GitHub does not tell now."""
        try:
            return self.github.of(owner).identity()
        except (Deferred, Permanent, Retryable):
            return None

    def has_time_for_page(self) -> bool:
        """Whether to begin another page, backfill or chunk."""
        return self.seconds_left() >= self.margins.page

    def has_time_for_check(self) -> bool:
        """Whether to begin another check of completed repositories."""
        return self.seconds_left() >= self.margins.check


@dataclass(frozen=True, slots=True)
class Part:
    """How far one part of a round came: whether it is done, else after how long to continue, and how many things it moved."""

    is_done: bool
    wait_seconds: float = 0.0
    moved: int = 0
