"""How many pull requests one request may hold: learned from what GitHub could answer, per repository."""

from __future__ import annotations

from dataclasses import dataclass

# About 0.1 s of GitHub's 10 s for each; a new repository begins with a quarter of the largest page.
START = 25.0
LARGEST = 100.0
# A request as full as the size allows proves the size, and the next may be larger by this.
GROWTH = 1.1
# While nothing was ever refused, it grows faster beyond its start, also after requests that are full by weight before they are full
# by number: the larger the choice, the fewer points.
FIRST_GROWTH, FIRST_FULL = 1.5, 0.3
# A smaller one proves little: the size returns to its start, and no further.
RECOVERY = 1.02
FULL = 0.8
# What GitHub refused once is not tried again soon: below it, each full request brings the size nearer by so much of it.
NEAR, APPROACH = 0.95, 0.001
# A ceiling that was lifted.
UNLIMITED = 2 * LARGEST


@dataclass(frozen=True, slots=True)
class RequestSize:
    """The learned size, 1 at least; ``ceiling`` pull requests were too many when they were last tried, None: none ever were."""

    value: float = START
    ceiling: float | None = None

    @property
    def most(self) -> int:
        """Pull requests that a request may hold."""
        return max(1, int(self.value))

    def grown(self, asked: int) -> RequestSize:
        """After GitHub has answered for ``asked`` pull requests."""
        is_first = self.ceiling is None and self.value >= START
        if asked >= (FIRST_FULL if is_first else FULL) * self.most:
            return self._larger()
        if self.value < START:
            return RequestSize(max(self.value, min(START, self.value * RECOVERY, self._near)), self.ceiling)
        return self

    def _larger(self) -> RequestSize:
        if self.ceiling is None:
            growth = GROWTH if self.value < START else FIRST_GROWTH
            return RequestSize(min(LARGEST, self.value * growth))
        if self.value < self._near:
            return RequestSize(min(LARGEST, self.value * GROWTH, self._near), self.ceiling)
        if self.ceiling > LARGEST:
            return self
        nearer = self.value + self.ceiling * APPROACH
        # The ceiling is reached: GitHub may have more time by now.
        return RequestSize(nearer, self.ceiling) if nearer < self.ceiling else RequestSize(self.ceiling, UNLIMITED)

    @property
    def _near(self) -> float:
        return LARGEST if self.ceiling is None else max(1.0, NEAR * self.ceiling)

    def halved(self, asked: int) -> RequestSize:
        """After ``asked`` pull requests were too many."""
        return RequestSize(max(1.0, min(self.value, asked / 2)), float(asked))
