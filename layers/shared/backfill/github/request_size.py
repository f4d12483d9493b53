"""How many pull requests one request may hold: learned from what GitHub could answer, per repository.

From any state the size returns to its start within 140 answers to requests that are as full as it allows, and within 240 to others.
A number that GitHub refused is tried again after about a hundred answers near it. A try that fails costs one refused request.
"""

from __future__ import annotations

from dataclasses import dataclass

# About 0.1 s of GitHub's 10 s for each; a new repository begins with a quarter of the largest page.
START = 25.0
LARGEST = 100.0
# A request as full as the size allows proves the size, and the next may be larger by this.
GROWTH, FULL = 1.1, 0.8
# Beyond the start, while GitHub has refused nothing, requests are full by weight before they are full by number. They count too,
# and the size grows faster: the larger the choice, the fewer points.
FIRST_GROWTH, FIRST_FULL = 2.0, 0.3
# A smaller one proves little: the size returns to its start, and no further.
RECOVERY = 1.02
# Below a number that was refused the size stops, and each answer brings it nearer by so much of that number.
NEAR, APPROACH = 0.95, 0.0005
# Instead of a number that was refused, and passed when it was tried again.
UNLIMITED = 2 * LARGEST


@dataclass(frozen=True, slots=True)
class RequestSize:
    """The learned size, 1 at least; ``ceiling`` pull requests were too many when they were last tried, None: none ever were.

    A size that has reached its ceiling tries it again.
    """

    value: float = START
    ceiling: float | None = None

    @property
    def most(self) -> int:
        """Pull requests that a request may hold."""
        return max(1, int(self.value))

    def grown(self, asked: int) -> RequestSize:
        """After GitHub has answered for ``asked`` pull requests."""
        if self.ceiling is None and self.value >= START:
            is_full = asked >= FIRST_FULL * self.most
            return RequestSize(min(LARGEST, self.value * FIRST_GROWTH)) if is_full else self
        if asked >= FULL * self.most:
            return self._towards(LARGEST, GROWTH)
        return self._towards(START, RECOVERY) if self.value < START else self

    def _towards(self, end: float, growth: float) -> RequestSize:
        larger = min(end, self.value * growth)
        if self.ceiling is None:
            return RequestSize(larger)
        if self.value >= self.ceiling:
            return RequestSize(larger, UNLIMITED)
        if self.value < self._near:
            return RequestSize(min(larger, self._near), self.ceiling)
        return RequestSize(min(end, self.ceiling, self.value + APPROACH * self.ceiling), self.ceiling)

    @property
    def _near(self) -> float:
        return max(1.0, NEAR * (self.ceiling or UNLIMITED))

    def halved(self, asked: int) -> RequestSize:
        """After ``asked`` pull requests were too many."""
        if self.ceiling is not None and asked >= self.ceiling:
            # It was a try: what lies just below was answered a hundred times.
            return RequestSize(min(self.value, self._near), self.ceiling)
        return RequestSize(max(1.0, min(self.value, asked / 2)), float(asked))
