"""Work: what is left of one backfill, in pull requests, chunks, points and requests."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backfill.github import cost, packing
from backfill.github.packing import Prediction
from backfill.priority import Marks


@dataclass(frozen=True, slots=True)
class Work:
    """``share`` weighs it against other active backfills of its identity. ``basis`` says how sure it is."""

    owner: str
    name: str
    repository_id: str | None
    status: str
    share: int
    to_list: int = 0
    to_detail: int = 0
    chunks: int = 0
    chunks_now: int = 0
    points: int = 0
    requests: int = 0
    basis: str = "averages"

    @property
    def pages(self) -> int:
        """Pages of the listing."""
        return -(-self.to_list // packing.PAGE)

    @property
    def server_seconds(self) -> float:
        """GitHub's time, by the published figures."""
        details = self.requests * cost.seconds() + cost.seconds(detailed=self.to_detail) - cost.seconds()
        return details + self.pages * (cost.seconds(listed=packing.PAGE) - cost.seconds())

    def with_details(self, count: int, predicted: Prediction, basis: str) -> Work:
        """And the details of ``count`` pull requests."""
        return replace(
            self,
            to_detail=self.to_detail + count,
            chunks=self.chunks + predicted.chunks,
            points=self.points + predicted.points,
            requests=self.requests + predicted.requests,
            basis=basis,
        )

    def with_listing(self, to_list: int) -> Work:
        """And the pages of a listing, with the last question: whether anything has changed meanwhile."""
        questions = -(-to_list // packing.PAGE) + 1
        return replace(self, to_list=to_list, points=self.points + questions, requests=self.requests + questions)


def average(count: int, marks: Marks, timeline: bool) -> Prediction:
    """The details of pull requests whose sizes are not known: each request costs a point."""
    some = round(count * (cost.AVERAGE_POINTS + (cost.TIMELINE_POINTS if timeline else 0)))
    return Prediction(some, some, -(-count // marks.chunk_size))
