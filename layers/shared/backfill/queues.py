"""SQS: sending chunks and plan requests, and reading the dead-letter queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backfill import aws
from backfill.messages import dispatch_body, plan_body, plan_request
from backfill.model import Dispatch, Waiting

# The longest delay that SQS gives a message.
LONGEST_DELAY_SECONDS = 900
# The most messages of one request.
BATCH = 10
# A receive that waits asks all of SQS's servers; one that does not asks some, and may come back empty though there are
# messages. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
LONG_POLL_SECONDS = 1
# So many empty receives in a row are taken for the end.
EMPTY_RECEIVES = 2


class Source(StrEnum):
    """The queue in which a dead letter was."""

    CHUNKS = "chunks"
    PLANS = "plans"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the dead-letter queue; ``receipt`` deletes it.

    ``reason`` is why the product gave up on it; SQS itself gives none when it moves a message that was received too often.
    ``source`` is the queue that it comes from; None where neither SQS nor the letter tells.
    ``was_redriven``: it was in the dead-letter queue before, and was sent again.
    """

    message_id: str
    body: str
    receipt: str
    reason: str | None = None
    source: Source | None = None
    was_redriven: bool = False

    @property
    def queue(self) -> Source:
        """The queue that it is for; of unknown source, by what it says."""
        return self.source or (Source.PLANS if plan_request(self.body) else Source.CHUNKS)


def collect(receive: Callable[[int], list[DeadLetter]], most: int) -> list[DeadLetter]:
    """Up to ``most`` letters. ``receive`` gets so many at most, and may come back empty though there are some."""
    found: dict[tuple[str, str], DeadLetter] = {}
    empty = 0
    while len(found) < most and empty < EMPTY_RECEIVES:
        received = receive(min(BATCH, most - len(found)))
        fresh = {(each.message_id, each.body): each for each in received if (each.message_id, each.body) not in found}
        empty = 0 if fresh else empty + 1
        found |= fresh
    return list(found.values())


class Queues:
    """What the use cases need of SQS. Raises botocore's ClientError."""

    def __init__(self, chunk_queue_url: str, plan_queue_url: str, dead_letter_queue_url: str) -> None:
        self._chunks, self._plans, self._dead = chunk_queue_url, plan_queue_url, dead_letter_queue_url
        self._client: Any = None

    @property
    def _sqs(self) -> Any:
        if self._client is None:
            self._client = aws.client("sqs")
        return self._client

    def send_chunks(self, waiting: Iterable[Waiting]) -> list[Dispatch]:
        """Send chunk messages; those that SQS accepted. SendMessageBatch answers 200 with a list of failures."""
        messages, accepted = list(waiting), []
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            entries = [
                {
                    "Id": str(index),
                    "MessageBody": dispatch_body(each.dispatch),
                    "DelaySeconds": _delay(each.wait_seconds),
                }
                for index, each in enumerate(batch)
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._chunks, Entries=entries)
            accepted += [batch[int(each["Id"])].dispatch for each in answer.get("Successful", [])]
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        """Send a chunk message again as it is."""
        self._sqs.send_message(QueueUrl=self._chunks, MessageBody=body, DelaySeconds=_delay(delay_seconds))

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        """Ask for a planner run of one repository, or of all."""
        body = plan_body(repository_id)
        self._sqs.send_message(QueueUrl=self._plans, MessageBody=body, DelaySeconds=_delay(delay_seconds))

    def redrive(self, letter: DeadLetter) -> None:
        """Send a dead letter again as it is, to the queue that it comes from. It stays until it is deleted."""
        url = self._plans if letter.queue is Source.PLANS else self._chunks
        # The attribute stays with the message when SQS moves it to the dead-letter queue once more.
        redriven = {"redriven": {"DataType": "String", "StringValue": "yes"}}
        self._sqs.send_message(QueueUrl=url, MessageBody=letter.body, MessageAttributes=redriven)

    def add_dead_letter(self, body: str, reason: str, source: Source = Source.CHUNKS) -> None:
        """Put a message that can never succeed into the dead-letter queue; ``source`` is the queue that it comes from."""
        attributes = {
            "reason": {"DataType": "String", "StringValue": reason[:1000]},
            "source": {"DataType": "String", "StringValue": source.value},
        }
        self._sqs.send_message(QueueUrl=self._dead, MessageBody=body, MessageAttributes=attributes)

    def dead_letters(self, most: int, *, hidden_seconds: int = 60) -> list[DeadLetter]:
        """Receive dead letters; those that are not deleted appear again after ``hidden_seconds``."""

        def receive(count: int) -> list[DeadLetter]:
            answer = self._sqs.receive_message(
                QueueUrl=self._dead,
                MaxNumberOfMessages=count,
                MessageAttributeNames=["reason", "source", "redriven"],
                MessageSystemAttributeNames=["DeadLetterQueueSourceArn"],
                VisibilityTimeout=hidden_seconds,
                WaitTimeSeconds=LONG_POLL_SECONDS,
            )
            return [self._letter(each) for each in answer.get("Messages", [])]

        return collect(receive, most)

    def _letter(self, message: Mapping[str, Any]) -> DeadLetter:
        told = {name: each.get("StringValue") for name, each in message.get("MessageAttributes", {}).items()}
        source = Source(told["source"]) if told.get("source") in list(Source) else None
        # SQS says where it moved a message from that was received too often.
        queue = message.get("Attributes", {}).get("DeadLetterQueueSourceArn", "").rsplit(":", 1)[-1]
        for each, url in ((Source.CHUNKS, self._chunks), (Source.PLANS, self._plans)):
            if queue and queue == url.rsplit("/", 1)[-1]:
                source = each
        return DeadLetter(
            message["MessageId"],
            message["Body"],
            message["ReceiptHandle"],
            told.get("reason"),
            source,
            was_redriven="redriven" in told,
        )

    def delete_dead_letter(self, letter: DeadLetter) -> None:
        """Remove a dead letter whose work is safe."""
        self._sqs.delete_message(QueueUrl=self._dead, ReceiptHandle=letter.receipt)

    def chunks_waiting(self) -> int:
        """Messages in the chunk queue: visible, in flight and delayed. SQS says that its counts are approximate."""
        return self._waiting(self._chunks)

    def dead_letters_waiting(self) -> int:
        """Messages in the dead-letter queue, counted without receiving them."""
        return self._waiting(self._dead)

    def _waiting(self, queue_url: str) -> int:
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        answer = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)


def _delay(seconds: float) -> int:
    return max(0, min(LONGEST_DELAY_SECONDS, round(seconds)))
