"""The product's own Queues over SQS in memory, as the template sets its queues, on a clock that a test moves."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, overload

from backfill.queues import DeadLetter, Queues, Source
from local.invocations import Functions
from local.sqs import TRACE, Clock, Message, Queue, Service, connected, url
from local.template import Deployment, deployed

# Logical ids in template.yaml.
CHUNKS, PLANS, DEAD_LETTERS = "ChunkQueue", "PlanQueue", "DeadLetterQueue"
URLS = [url(name) for name in (CHUNKS, PLANS, DEAD_LETTERS)]
_SOURCES = {Source.CHUNKS: CHUNKS, Source.PLANS: PLANS}


class MemoryQueues(Queues):
    """``chunks``, ``plans`` and ``dead`` hold the messages. ``functions`` is Lambda, which delivers them.

    Every other receive is empty, as SQS's may be. ``hidden`` has ids of dead letters that another receiver holds.
    """

    def __init__(self, dead: Iterable[DeadLetter] = (), settings: Deployment | None = None) -> None:
        super().__init__(*URLS)
        settings = settings or deployed()
        self.clock = Clock()
        queues = connected(settings.queues, self.clock)
        self.chunks, self.plans, letters = queues[CHUNKS], queues[PLANS], queues[DEAD_LETTERS]
        self.functions = Functions(settings, queues)
        self.service = Service({url(name): each for name, each in queues.items()}, self.clock.wait)
        self._client = Tracing(self.service, self.functions)
        self.hidden = letters.hidden
        self.dead: MutableSequence[DeadLetter] = Letters(letters, self._letter)
        self.dead += dead

    @property
    def now(self) -> float:
        """Seconds that have passed for the queues."""
        return self.clock.now

    @now.setter
    def now(self, seconds: float) -> None:
        self.clock.now = seconds

    @property
    def sent(self) -> int:
        """Messages ever sent to functions."""
        return self.chunks.sent + self.plans.sent

    @property
    def delayed(self) -> int:
        """Those of them with a delay."""
        return self.chunks.delayed + self.plans.delayed

    @property
    def refuse(self) -> int:
        """So many entries of the next batches are answered as failed."""
        return self.service.refuse

    @refuse.setter
    def refuse(self, entries: int) -> None:
        self.service.refuse = entries

    def drop(self, message: str, source: Source) -> None:
        """Its receives are used up: SQS itself moves it."""
        queue = self.plans if source is Source.PLANS else self.chunks
        if not any(each is message for each in queue):
            queue.append(message)
        (found,) = [each for each in queue.messages() if each is message or (each == message and not each.receives)][
            -1:
        ]
        queue.move(found)

    def next_due(self, rng: random.Random | None = None) -> tuple[Queue, Message] | None:
        """The first visible message: plans before chunks, oldest first. With ``rng`` any visible one of its queue."""
        waiting = [
            (max(each.due, self.now), queue, each) for queue in (self.plans, self.chunks) for each in queue.messages()
        ]
        if not waiting:
            return None
        due, queue, message = min(waiting, key=lambda each: each[0])
        if rng:
            message = rng.choice([each for _, among, each in waiting if among is queue and each.due <= due])
        return queue, message

    def pass_until(self, message: Message) -> None:
        """Let time pass until a message is visible."""
        self.now = max(self.now, message.due)


class Letters(MutableSequence[DeadLetter]):
    """The dead-letter queue as a person would like to see it: nothing is received by looking."""

    def __init__(self, queue: Queue, letter: Any) -> None:
        self._queue, self._letter = queue, letter

    def __len__(self) -> int:
        return len(self._queue.messages())

    @overload
    def __getitem__(self, index: int) -> DeadLetter: ...
    @overload
    def __getitem__(self, index: slice) -> MutableSequence[DeadLetter]: ...
    def __getitem__(self, index: int | slice) -> DeadLetter | MutableSequence[DeadLetter]:
        if isinstance(index, slice):
            return list(self)[index]
        return self._shown(self._queue.messages()[index])

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter([self._shown(each) for each in self._queue.messages()])

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a message in a queue does not change")

    def __delitem__(self, index: int | slice) -> None:
        del self._queue[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    def insert(self, index: int, value: DeadLetter) -> None:
        """A letter that is there already, from wherever."""
        told = {"reason": value.reason} if value.reason is not None else {}
        if value.source is not None and value.reason is not None:
            told["source"] = value.source.value
        if value.was_redriven:
            told["redriven"] = "yes"
        attributes = {name: {"DataType": "String", "StringValue": each} for name, each in told.items()}
        message = self._queue.put(value.body, attributes=attributes)
        message.message_id = value.message_id
        if value.source is not None and value.reason is None:
            message.moved_from = _SOURCES[value.source]
        self._queue.insert(index, self._queue.pop())

    def _shown(self, message: Message) -> DeadLetter:
        shown = self._letter(
            {
                "MessageId": message.message_id,
                "Body": str(message),
                "ReceiptHandle": "r",
                "MessageAttributes": message.attributes,
                "Attributes": {"DeadLetterQueueSourceArn": f"arn:aws:sqs:::{message.moved_from or ''}"},
            }
        )
        assert isinstance(shown, DeadLetter)  # noqa: S101
        return shown


class Tracing:
    """A client as botocore makes it within a function: with the trace header of the invocation on every message."""

    def __init__(self, service: Any, functions: Functions) -> None:
        self._service, self._functions = service, functions

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._service, operation)

    def send_message(self, **request: Any) -> Any:
        return self._service.send_message(**request, **self._header())

    def send_message_batch(self, Entries: list[dict[str, Any]], **request: Any) -> Any:
        return self._service.send_message_batch(Entries=[{**each, **self._header()} for each in Entries], **request)

    def _header(self) -> dict[str, Any]:
        trace = self._functions.trace
        return {"MessageSystemAttributes": {TRACE: {"DataType": "String", "StringValue": trace}}} if trace else {}
