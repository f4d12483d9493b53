"""Values that several parts of the product speak of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """Points and requests. What failed counts too: GitHub takes points for a query that it could not finish."""

    points: int = 0
    requests: int = 0

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(self.points - earlier.points, self.requests - earlier.requests)
