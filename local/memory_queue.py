"""A queue in memory with SQS's manners: at least once, no order promised, delays that a test can pass."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from backfill.queues import DeadLetter, Source, collect


@dataclass
class MemoryQueues:
    """Messages as bodies; ``refuse`` makes the next batches answer with failures, as SendMessageBatch may.

    Every other receive of dead letters comes back empty, as SQS's may. Those whose ids are in ``hidden`` were received by
    somebody else: they are counted and not seen.
    """

    chunks: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    refuse: int = 0
    hidden: set[str] = field(default_factory=set)
    # Messages ever sent, and those of them with a delay.
    sent: int = 0
    delayed: int = 0

    def send_chunks(self, dispatches: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
        accepted = []
        for chunk, dispatch, delay in dispatches:
            if self.refuse:
                self.refuse -= 1
                continue
            self.chunks.append(json.dumps({"schema_version": 1, "chunk_id": chunk, "dispatch_id": dispatch}))
            accepted.append((chunk, dispatch))
            self._count(delay)
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        self.chunks.append(body)
        self._count(delay_seconds)

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        self.plans.append(
            json.dumps({"schema_version": 1, **({"repository_id": repository_id} if repository_id else {})})
        )
        self._count(delay_seconds)

    def _count(self, delay_seconds: float) -> None:
        self.sent += 1
        # SQS takes whole seconds.
        self.delayed += round(delay_seconds) > 0

    def bury(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        self.dead.append(DeadLetter(f"m{len(self.dead)}", body, "r", reason, source))

    def redrive(self, letter: DeadLetter) -> None:
        (self.plans if letter.queue is Source.PLANS else self.chunks).append(letter.body)

    def dead_letters(self, most: int, *, hidden_seconds: int = 60) -> list[DeadLetter]:
        seen = [each for each in self.dead if each.message_id not in self.hidden]
        receives = 0

        def receive(count: int) -> list[DeadLetter]:
            nonlocal receives
            receives += 1
            if receives % 2:
                return []
            taken = seen[:count]
            del seen[:count]
            return taken

        return collect(receive, most)

    def delete_dead_letter(self, letter: DeadLetter) -> None:
        self.dead.remove(letter)

    def chunks_waiting(self) -> int:
        return len(self.chunks)

    def dead_letters_waiting(self) -> int:
        return len(self.dead)
