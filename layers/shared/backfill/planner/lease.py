"""One backfill under the lease of a planner run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backfill.errors import DatabaseUnavailable, Deferred, Permanent, Retryable
from backfill.github.client import GitHub
from backfill.github.errors import TooLarge
from backfill.model import Backfill, Lease, Repository, Spent
from backfill.observability import problem
from backfill.planner.means import Means
from backfill.priority import Marks
from backfill.store import backfills, leases, listings

# A lease outlasts the function's time by this much.
MARGIN_SECONDS = 30.0
# A run lists one repository no longer than this. Then other backfills have their turn, and the plan queue brings it back.
LISTING_SECONDS = 10.0


@dataclass(slots=True)
class Held:
    """A backfill that this run holds, and what the run did for it. ``lease`` carries the backfill as it is now."""

    means: Means
    lease: Lease
    repository: Repository
    marks: Marks
    pages: int = 0
    chunks: int = 0
    sent: int = 0
    unsent: int = 0
    is_completed: bool = False

    @property
    def github(self) -> GitHub:
        """GitHub as the identity that reads the repository."""
        return self.means.github.of(self.repository.owner)

    @property
    def backfill(self) -> Backfill:
        """As it is now."""
        return self.lease.backfill

    @property
    def is_listing(self) -> bool:
        """Whether pages are left of its listing or of a refresh."""
        return not self.backfill.is_listed or self.backfill.is_refreshing

    @property
    def has_progressed(self) -> bool:
        """Whether the run moved the backfill."""
        return bool(self.pages or self.chunks or self.is_completed)

    def turn(self) -> Callable[[], bool]:
        """Begin a turn of listing; the function says whether time is left for another page of it."""
        begin = self.means.seconds_left()

        def has_time() -> bool:
            left = self.means.seconds_left()
            return left >= self.means.margins.page and begin - left < LISTING_SECONDS

        return has_time

    @contextmanager
    def booking(self) -> Iterator[Callable[[], Spent]]:
        """Requests inside are booked by the statement that stores the answers: ``spent()`` so far. If an error ends the
        block, they are booked here."""
        before = self.means.github.spent
        try:
            yield lambda: self.means.github.spent - before
        except (DatabaseUnavailable, Deferred, Permanent, Retryable):
            backfills.book(self.means.db, self.backfill.id, self.means.github.spent - before)
            raise

    def shrink_page(self, error: TooLarge, spent: Spent) -> None:
        """GitHub could not answer for a page: the next one has half as many. Raises the error if it was a single pull
        request."""
        size = self.backfill.listing_page_size
        if size == 1:
            raise error
        problem("a listing page was too large for GitHub", error=str(error), page_size=size)
        self.lease = listings.shrink_page(self.means.db, self.lease, spent)


def take(means: Means, backfill_id: str) -> Lease | None:
    """Lease a backfill for as long as this run can live; None if it is paused, or another run has the lease."""
    return leases.take(means.db, backfill_id, max(1.0, means.seconds_left()) + MARGIN_SECONDS)
