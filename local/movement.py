"""How much planner, workers and recovery moved, and how many messages that takes at most (docs/architecture.md, "The brake")."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Movement:
    """Counted over runs. ``waits`` are those of the ``messages`` that were sent with a delay."""

    pages: int = 0
    created: int = 0
    """Chunks that were ever created."""
    ended: int = 0
    """Chunks that were completed or failed."""
    paused: int = 0
    """Chunks that went back to the outbox, because their backfill was paused."""
    recovered: int = 0
    """Chunks and letters that recovery or a heartbeat took back, and the outbox's rest that it sent."""
    heartbeats: int = 0
    messages: int = 0
    waits: int = 0

    @property
    def most_messages(self) -> int:
        """The bound. A loop without delay breaks it, because nothing on the right side grows with it."""
        moved = self.pages + self.created + self.ended + self.paused + self.recovered
        return moved + 2 * self.heartbeats + self.waits
