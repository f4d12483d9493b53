"""Sizes of pull requests that are not listed yet: all of them where a few pages show them, else evenly spread numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from backfill.errors import Deferred, Permanent, Retryable
from backfill.github import packing
from backfill.github.client import GitHub
from backfill.github.packing import Prediction
from backfill.github.records import Listed
from backfill.store import forecasts
from backfill.store.connection import Database

# Sizes that a prediction packs exactly. Of more it takes every n-th.
SAMPLE = 2000
# Requests that a dry run may spend on repositories that are not listed: for each of them, and in all.
SAMPLE_REQUESTS, MOST_SAMPLE_REQUESTS = 5, 20
# Fewer sampled pull requests say less than the averages do.
LEAST_SAMPLE = 50
# With less of the function's time left, GitHub is not asked.
LEAST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Unlisted:
    """``count`` pull requests of a repository that come after ``cursor``, with their ``timeline`` or without."""

    owner: str
    node_id: str
    repository_id: str | None
    cursor: str | None
    count: int
    timeline: bool

    @property
    def pages(self) -> int:
        """Pages of the listing."""
        return -(-self.count // packing.PAGE)


@dataclass(slots=True)
class Sampler:
    """The samples of one dry run. The GitHub client's governor must only look at the budget (ObservedBudget)."""

    db: Database
    github: GitHub
    seconds_left: Callable[[], float]
    requests_left: int = MOST_SAMPLE_REQUESTS

    def sizes(self, unlisted: Unlisted) -> Sequence[Listed]:
        """Empty where GitHub cannot be asked now."""
        requests = min(SAMPLE_REQUESTS, self.requests_left)
        if requests < 2 or self.seconds_left() < LEAST_SECONDS:
            return []
        self.requests_left -= min(requests, unlisted.pages)
        try:
            found = self._first_pages(unlisted) if unlisted.pages <= requests else self._spread(unlisted, requests - 1)
        except (Deferred, Retryable, Permanent):
            return []
        return [packing.with_timeline(row, unlisted.timeline) for row in found]

    def _first_pages(self, unlisted: Unlisted) -> Sequence[Listed]:
        cursor, found = unlisted.cursor, list[Listed]()
        for _ in range(unlisted.pages):
            page = self.github.of(unlisted.owner).list_pull_requests(unlisted.node_id, cursor)
            cursor = page.end_cursor
            found += page.pull_requests
            if not page.has_next_page:
                break
        return found

    def _spread(self, unlisted: Unlisted, requests: int) -> Sequence[Listed]:
        """Pull requests and issues share their numbers: the numbers of issues fall out of the sample."""
        newest = self.github.of(unlisted.owner).list_updated(unlisted.node_id, None).pull_requests
        last = max((each["number"] for each in newest), default=0)
        known = unlisted.repository_id
        first = forecasts.largest_number(self.db, known) if known else 0
        count = requests * packing.PAGE
        step = max(1.0, (last - first) / count)
        numbers = [first + 1 + int(index * step) for index in range(count)]
        found = self.github.of(unlisted.owner).list_numbers(
            unlisted.node_id, [number for number in numbers if number <= last]
        )
        return found.pull_requests if len(found.pull_requests) >= LEAST_SAMPLE else []


def scaled(sizes: Sequence[Listed], count: int, chunk_size: int) -> Prediction:
    """The prediction for ``count`` pull requests of which these are a sample."""
    if not sizes or not count:
        return Prediction(0, 0, 0)
    packed = min(count, max(SAMPLE, len(sizes)))
    rows = [{**row, "number": number} for number, row in enumerate(islice(cycle(sizes), packed))]
    found = packing.predict(rows, chunk_size)
    return Prediction(*(round(value * count / packed) for value in found))
