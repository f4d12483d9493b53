"""SQS: sending chunks and plan requests, and reading the dead-letter queue."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from backfill import aws

# The longest delay that SQS gives a message.
LONGEST_DELAY_SECONDS = 900
# The most messages of one request.
BATCH = 10


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the dead-letter queue; ``receipt`` deletes it.

    ``reason`` is why it was buried there; SQS itself gives none when it moves a message that was received too often.
    """

    message_id: str
    body: str
    receipt: str
    reason: str | None = None


class Queues(Protocol):
    """What the use cases need of SQS."""

    def send_chunks(self, dispatches: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
        """Send ``(chunk_id, dispatch_id, delay seconds)``; the pairs that SQS accepted."""

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        """Send a chunk message again as it is."""

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        """Ask for a planner run of one repository, or of all."""

    def bury(self, body: str, reason: str) -> None:
        """Put a message that can never succeed into the dead-letter queue."""

    def dead_letters(self, most: int, *, hidden_seconds: int = 60) -> list[DeadLetter]:
        """Receive dead letters; those that are not deleted appear again after ``hidden_seconds``."""

    def delete_dead_letter(self, letter: DeadLetter) -> None:
        """Remove a dead letter that has been dealt with."""

    def chunks_waiting(self) -> int:
        """Messages in the chunk queue: visible, in flight and delayed. Approximate, as SQS says."""

    def dead_letters_waiting(self) -> int:
        """Messages in the dead-letter queue, counted without receiving them. Approximate, as SQS says."""


class Sqs:
    """The Queues of SQS. Raises botocore's ClientError."""

    def __init__(self, chunk_queue_url: str, plan_queue_url: str, dead_letter_queue_url: str) -> None:
        self._chunks, self._plans, self._dead = chunk_queue_url, plan_queue_url, dead_letter_queue_url
        self._client: Any = None

    @property
    def _sqs(self) -> Any:
        if self._client is None:
            self._client = aws.client("sqs")
        return self._client

    def send_chunks(self, dispatches: Iterable[tuple[str, str, float]]) -> list[tuple[str, str]]:
        """SendMessageBatch answers 200 with a list of failures: only what it names successful was accepted."""
        waiting = list(dispatches)
        accepted = []
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            entries = [
                {
                    "Id": str(index),
                    "MessageBody": json.dumps({"schema_version": 1, "chunk_id": chunk, "dispatch_id": dispatch}),
                    "DelaySeconds": _delay(delay),
                }
                for index, (chunk, dispatch, delay) in enumerate(batch)
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._chunks, Entries=entries)
            accepted += [batch[int(each["Id"])][:2] for each in answer.get("Successful", [])]
        return accepted

    def send_body(self, body: str, delay_seconds: float = 0) -> None:
        self._sqs.send_message(QueueUrl=self._chunks, MessageBody=body, DelaySeconds=_delay(delay_seconds))

    def request_plan(self, repository_id: str | None, delay_seconds: float = 0) -> None:
        body = {"schema_version": 1, **({"repository_id": repository_id} if repository_id else {})}
        self._sqs.send_message(QueueUrl=self._plans, MessageBody=json.dumps(body), DelaySeconds=_delay(delay_seconds))

    def bury(self, body: str, reason: str) -> None:
        attributes = {"reason": {"DataType": "String", "StringValue": reason[:1000]}}
        self._sqs.send_message(QueueUrl=self._dead, MessageBody=body, MessageAttributes=attributes)

    def dead_letters(self, most: int, *, hidden_seconds: int = 60) -> list[DeadLetter]:
        found: dict[str, DeadLetter] = {}
        while len(found) < most:
            answer = self._sqs.receive_message(
                QueueUrl=self._dead,
                MaxNumberOfMessages=min(BATCH, most - len(found)),
                MessageAttributeNames=["reason"],
                VisibilityTimeout=hidden_seconds,
            )
            fresh = [m for m in answer.get("Messages", []) if m["MessageId"] not in found]
            if not fresh:
                break
            for each in fresh:
                reason = each.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
                found[each["MessageId"]] = DeadLetter(each["MessageId"], each["Body"], each["ReceiptHandle"], reason)
        return list(found.values())

    def delete_dead_letter(self, letter: DeadLetter) -> None:
        self._sqs.delete_message(QueueUrl=self._dead, ReceiptHandle=letter.receipt)

    def chunks_waiting(self) -> int:
        return self._waiting(self._chunks)

    def dead_letters_waiting(self) -> int:
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
