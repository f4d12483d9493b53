"""A queue in memory with SQS's manners: at least once, no order promised, delays that a test can pass."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from backfill.queues import DeadLetter, Source, collect

# Lambda runs a function so often in one chain of requests, and drops the next invocation.
MOST_IN_A_CHAIN = 16


class Traced(str):
    """A body with the lineage that botocore's trace header carries: how often each function ran before it."""

    lineage: Mapping[str, int] = {}
    was_redriven = False


class RecursiveInvocation(Exception):
    """Lambda does not invoke the function for this message."""


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
    # Functions whose loops Lambda stops, and the lineage of the invocation that runs now.
    stopped: frozenset[str] = frozenset()
    lineage: Mapping[str, int] = field(default_factory=dict)

    @contextmanager
    def invocation(self, function: str, message: str) -> Iterator[None]:
        """What is sent meanwhile continues the message's chain. Raises RecursiveInvocation in place of one too many."""
        chain = Counter(message.lineage if isinstance(message, Traced) else {})
        chain[function] += 1
        if function in self.stopped and chain[function] > MOST_IN_A_CHAIN:
            raise RecursiveInvocation(function)
        self.lineage = chain
        try:
            yield
        finally:
            self.lineage = {}

    def drop(self, message: str, source: Source) -> None:
        """Its receives are used up, and no function said why: the queue itself moves it."""
        was_redriven = isinstance(message, Traced) and message.was_redriven
        self.dead.append(DeadLetter(f"m{len(self.dead)}", str(message), "r", None, source, was_redriven))

    def _traced(self, body: str) -> Traced:
        message = Traced(body)
        message.lineage = self.lineage
        return message

    def send_chunks(self, dispatches: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
        accepted = []
        for chunk, dispatch, delay in dispatches:
            if self.refuse:
                self.refuse -= 1
                continue
            body = json.dumps({"schema_version": 1, "chunk_id": chunk, "dispatch_id": dispatch})
            self.chunks.append(self._traced(body))
            accepted.append((chunk, dispatch))
            self._count(delay)
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        self.chunks.append(self._traced(body))
        self._count(delay_seconds)

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        named = {"repository_id": repository_id} if repository_id else {}
        self.plans.append(self._traced(json.dumps({"schema_version": 1, **named})))
        self._count(delay_seconds)

    def _count(self, delay_seconds: float) -> None:
        self.sent += 1
        # SQS takes whole seconds.
        self.delayed += round(delay_seconds) > 0

    def bury(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        self.dead.append(DeadLetter(f"m{len(self.dead)}", body, "r", reason, source))

    def redrive(self, letter: DeadLetter) -> None:
        message = self._traced(letter.body)
        message.was_redriven = True
        (self.plans if letter.queue is Source.PLANS else self.chunks).append(message)

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
