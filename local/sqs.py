"""SQS in memory, as AWS documents it: at least once, in no order, with delays, visibility timeouts, retention and redrive.

``Service`` takes the requests of boto3's client and refuses what botocore or SQS would refuse. Where the documents leave
SQS a choice, it takes the one that is harder for its user. All figures and rules:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from botocore.exceptions import ClientError, ParamValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

MOST_MESSAGE_BYTES = 1_048_576
LONGEST_VISIBILITY_SECONDS = 43_200
LONGEST_RETENTION_SECONDS = 1_209_600
LONGEST_DELAY_SECONDS = 900
LONGEST_POLL_SECONDS = 20
MOST_IN_A_BATCH = 10
MOST_ATTRIBUTES = 10
# A short poll asks some of SQS's servers. Here each message is on one of so many, and a short poll asks one.
SERVERS = 3
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NOT_ALLOWED = re.compile("[^\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TRACE = "AWSTraceHeader"
Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The attributes of a queue. Without ``most_receives`` a message is received until it is deleted or expires."""

    visibility_seconds: int = 30
    retention_seconds: int = 345_600
    delay_seconds: int = 0
    wait_seconds: int = 0
    most_bytes: int = MOST_MESSAGE_BYTES
    most_receives: int | None = None
    dead_letter_queue: str | None = None

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("VisibilityTimeout", self.visibility_seconds, 0, LONGEST_VISIBILITY_SECONDS),
            ("MessageRetentionPeriod", self.retention_seconds, 60, LONGEST_RETENTION_SECONDS),
            ("DelaySeconds", self.delay_seconds, 0, LONGEST_DELAY_SECONDS),
            ("ReceiveMessageWaitTimeSeconds", self.wait_seconds, 0, LONGEST_POLL_SECONDS),
            ("MaximumMessageSize", self.most_bytes, 1024, MOST_MESSAGE_BYTES),
            ("maxReceiveCount", self.most_receives or 1, 1, 1000),
        ):
            if not least <= value <= most:
                raise ValueError(f"SQS takes a {name} from {least} to {most}, not {value}")


class Message(str):
    """A body in a queue, and SQS's own data about it. ``due`` is when it is visible, ``moved_from`` a queue's name."""

    message_id: str = ""
    number: int = 0
    sent_at: float = 0.0
    due: float = 0.0
    receives: int = 0
    receipt: str = ""
    trace: str | None = None
    attributes: Mapping[str, Mapping[str, str]] = {}
    moved_from: str | None = None
    is_in_flight: bool = False


class Time(Protocol):
    """Whatever tells a queue the time."""

    @property
    def now(self) -> float: ...


@dataclass
class Clock:
    """A clock that only tests move."""

    now: float = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Queue(list[str]):
    """All messages of a queue: visible, delayed and in flight. A plain string that is put in is a message sent just now.

    ``hidden`` holds ids of messages that another receiver holds: they are counted and not received.
    """

    def __init__(self, name: str, settings: QueueSettings, clock: Time) -> None:
        super().__init__()
        self.name, self.settings, self.clock = name, settings, clock
        self.dead_letters: Queue | None = None
        self.hidden: set[str] = set()
        # Messages ever sent to it, and those of them with a delay.
        self.sent = self.delayed = 0
        self._numbers = 0

    def put(
        self,
        body: str,
        *,
        delay_seconds: float | None = None,
        attributes: Mapping[str, Mapping[str, str]] | None = None,
        trace: str | None = None,
    ) -> Message:
        """Send a message."""
        message = Message(body)
        delay = self.settings.delay_seconds if delay_seconds is None else delay_seconds
        self._name(message)
        message.due += delay
        message.attributes, message.trace = attributes or {}, trace
        self.append(message)
        self.sent += 1
        self.delayed += delay > 0
        return message

    def messages(self) -> list[Message]:
        """The messages now, without expired ones."""
        kept: list[Message] = []
        for each in self:
            if not isinstance(each, Message):
                message = Message(each)
                self._name(message)
                kept.append(message)
            elif self.clock.now - each.sent_at < self.settings.retention_seconds:
                kept.append(each)
        self[:] = kept
        return kept

    def visible(self) -> list[Message]:
        """The messages that a receive may return."""
        return [each for each in self.messages() if each.due <= self.clock.now and each.message_id not in self.hidden]

    def take(self, message: Message, hidden_seconds: float | None = None) -> bool:
        """Receive one message; False if its receives are used up: then it goes to the dead-letter queue instead."""
        most = self.settings.most_receives
        if most is not None and message.receives >= most:
            self.move(message)
            return False
        message.receives += 1
        message.receipt = f"{message.message_id}#{message.receives}"
        message.is_in_flight = True
        message.due = self.clock.now + (self.settings.visibility_seconds if hidden_seconds is None else hidden_seconds)
        return True

    def move(self, message: Message) -> None:
        """To the dead-letter queue. SQS keeps the id and the time of sending, from which retention goes on."""
        if self.dead_letters is None:
            raise LookupError(f"{self.name} has no dead-letter queue")
        self._remove(message)
        message.receives, message.is_in_flight, message.moved_from = 0, False, self.name
        message.due = self.clock.now
        self.dead_letters.append(message)

    def delete(self, receipt: str) -> None:
        """Delete by the newest receipt. An older receipt, or one of a deleted message, is accepted without effect."""
        for each in self.messages():
            if each.receipt == receipt:
                self._remove(each)

    def duplicate(self, message: Message) -> None:
        """Show a message twice: one of SQS's servers was away when it was received."""
        copy = Message(message)
        copy.__dict__.update(message.__dict__)
        copy.due, copy.is_in_flight = self.clock.now, False
        self.append(copy)

    def _remove(self, message: Message) -> None:
        # Bodies may be equal: list.remove would take another one.
        self[:] = [each for each in self if each is not message]

    def _name(self, message: Message) -> None:
        self._numbers += 1
        message.number, message.message_id = self._numbers, f"{self.name}-{self._numbers}"
        message.sent_at = message.due = self.clock.now


@dataclass
class Service:
    """boto3's client of SQS, as far as the product uses it. ``refuse`` entries of the next batches are answered as failed.

    Every other receive is empty though there are messages: a short poll asks some of the servers, and people report it
    of long polls too.
    """

    queues: Mapping[str, Queue]
    """By URL."""
    wait: Callable[[float], None]
    """Lets the seconds of a long poll pass that finds nothing."""
    refuse: int = 0
    _receives: dict[str, int] = field(default_factory=dict)

    def send_message(self, **request: Any) -> Request:
        queue = self._queue("SendMessage", request)
        _check_message("SendMessage", request, queue.settings)
        return {"MessageId": _put(queue, request).message_id}

    def send_message_batch(self, **request: Any) -> Request:
        queue = self._queue("SendMessageBatch", request)
        entries: list[Request] = request["Entries"]
        _check_batch(entries, queue.settings)
        answer: dict[str, list[Request]] = {"Successful": [], "Failed": []}
        for entry in entries:
            if self.refuse:
                self.refuse -= 1
                answer["Failed"].append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
                continue
            try:
                _check_message("SendMessageBatch", entry, queue.settings)
            except ClientError as error:
                told = error.response["Error"]
                answer["Failed"].append({"Id": entry["Id"], "Code": told["Code"], "SenderFault": True})
                continue
            answer["Successful"].append({"Id": entry["Id"], "MessageId": _put(queue, entry).message_id})
        return {name: each for name, each in answer.items() if each}

    def receive_message(self, **request: Any) -> Request:
        queue = self._queue("ReceiveMessage", request)
        most = _within("ReceiveMessage", request, "MaxNumberOfMessages", (1, MOST_IN_A_BATCH), 1)
        settings = queue.settings
        wait = _within("ReceiveMessage", request, "WaitTimeSeconds", (0, LONGEST_POLL_SECONDS), settings.wait_seconds)
        hidden = _within(
            "ReceiveMessage",
            request,
            "VisibilityTimeout",
            (0, LONGEST_VISIBILITY_SECONDS),
            settings.visibility_seconds,
        )
        found = self._sampled(queue, wait)
        if not found:
            self.wait(wait)
            return {}
        taken = [each for each in found[:most] if queue.take(each, hidden)]
        return {"Messages": [_shown(each, request) for each in taken]} if taken else {}

    def _sampled(self, queue: Queue, wait: int) -> Sequence[Message]:
        turn = self._receives[queue.name] = self._receives.get(queue.name, 0) + 1
        visible = queue.visible()
        if wait:
            return [] if turn % 2 else visible
        return [each for each in visible if each.number % SERVERS == turn % SERVERS]

    def delete_message(self, **request: Any) -> Request:
        queue, receipt = self._queue("DeleteMessage", request), str(request["ReceiptHandle"])
        if "#" not in receipt:
            raise _error("DeleteMessage", "ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
        queue.delete(receipt)
        return {}

    def get_queue_attributes(self, **request: Any) -> Request:
        """Counts of visible, in-flight and delayed messages; SQS calls them approximate."""
        queue = self._queue("GetQueueAttributes", request)
        messages = queue.messages()
        later = [each for each in messages if each.due > queue.clock.now]
        in_flight = sum(each.is_in_flight for each in later)
        counts = {
            "ApproximateNumberOfMessages": len(messages) - len(later),
            "ApproximateNumberOfMessagesNotVisible": in_flight,
            "ApproximateNumberOfMessagesDelayed": len(later) - in_flight,
        }
        unknown = set(request.get("AttributeNames", [])) - counts.keys()
        if unknown:
            raise _error("GetQueueAttributes", "InvalidAttributeName", f"not imitated: {sorted(unknown)}")
        return {"Attributes": {name: str(counts[name]) for name in request.get("AttributeNames", [])}}

    def _queue(self, operation: str, request: Request) -> Queue:
        _check_parameters(operation, request)
        queue = self.queues.get(request["QueueUrl"])
        if queue is None:
            raise _error(operation, "QueueDoesNotExist", "The specified queue does not exist.")
        return queue


def url(queue: str) -> str:
    """The URL of a queue in an account that does not exist."""
    return f"https://sqs.us-east-1.amazonaws.com/000000000000/{queue}"


def arn(queue: str) -> str:
    """The ARN of the same queue."""
    return f"arn:aws:sqs:us-east-1:000000000000:{queue}"


def connected(settings: Mapping[str, QueueSettings], clock: Time) -> dict[str, Queue]:
    """Queues by name, with their dead-letter queues."""
    queues = {name: Queue(name, each, clock) for name, each in settings.items()}
    for queue in queues.values():
        if queue.settings.dead_letter_queue is not None:
            queue.dead_letters = queues[queue.settings.dead_letter_queue]
    return queues


def _put(queue: Queue, entry: Request) -> Message:
    return queue.put(
        entry["MessageBody"],
        delay_seconds=entry.get("DelaySeconds"),
        attributes=entry.get("MessageAttributes"),
        trace=entry.get("MessageSystemAttributes", {}).get(TRACE, {}).get("StringValue"),
    )


def _shown(message: Message, request: Request) -> Request:
    """A message as ReceiveMessage answers: attributes only where they were asked for."""
    wanted = set(request.get("MessageAttributeNames", []))
    known = system_attributes(message)
    asked = set(request.get("MessageSystemAttributeNames", []))
    shown = {
        "MessageAttributes": {n: v for n, v in message.attributes.items() if n in wanted or "All" in wanted},
        "Attributes": {name: value for name, value in known.items() if name in asked or "All" in asked},
    }
    return {
        "MessageId": message.message_id,
        "Body": str(message),
        "ReceiptHandle": message.receipt,
        **{name: each for name, each in shown.items() if each},
    }


def system_attributes(message: Message) -> dict[str, str]:
    """SQS's own attributes of a message."""
    found = {
        "ApproximateReceiveCount": str(message.receives),
        "SentTimestamp": str(int(message.sent_at * 1000)),
    }
    if message.trace is not None:
        found[TRACE] = message.trace
    if message.moved_from is not None:
        found["DeadLetterQueueSourceArn"] = arn(message.moved_from)
    return found


def _check_batch(entries: Sequence[Request], settings: QueueSettings) -> None:
    ids = [each["Id"] for each in entries]
    for code, is_so in (
        ("EmptyBatchRequest", not entries),
        ("TooManyEntriesInBatchRequest", len(entries) > MOST_IN_A_BATCH),
        ("InvalidBatchEntryId", not all(_ENTRY_ID.fullmatch(each) for each in ids)),
        ("BatchEntryIdsNotDistinct", len(set(ids)) < len(ids)),
        ("BatchRequestTooLong", sum(map(_size, entries)) > MOST_MESSAGE_BYTES),
    ):
        if is_so:
            raise _error("SendMessageBatch", code, f"{len(entries)} entries")


def _check_message(operation: str, entry: Request, settings: QueueSettings) -> None:
    body, attributes = entry["MessageBody"], entry.get("MessageAttributes", {})
    _within(operation, entry, "DelaySeconds", (0, LONGEST_DELAY_SECONDS), 0)
    if not body:
        raise _error(operation, "InvalidParameterValue", "The request must contain the parameter MessageBody.")
    if len(attributes) > MOST_ATTRIBUTES:
        raise _error(operation, "InvalidParameterValue", f"more than {MOST_ATTRIBUTES} message attributes")
    for name, each in attributes.items():
        if each.get("DataType") == "String" and not each.get("StringValue"):
            raise _error(operation, "InvalidParameterValue", f"message attribute {name} must have a non-empty value")
    if _NOT_ALLOWED.search(body) or any(
        _NOT_ALLOWED.search(each.get("StringValue", "")) for each in attributes.values()
    ):
        raise _error(operation, "InvalidMessageContents", "characters outside the allowed set")
    if _size(entry) > settings.most_bytes:
        raise _error(operation, "InvalidParameterValue", f"Message must be shorter than {settings.most_bytes} bytes.")


def _size(entry: Request) -> int:
    """Bytes of the body and of names, types and values of its attributes."""
    texts: Iterable[str] = (
        text
        for name, each in entry.get("MessageAttributes", {}).items()
        for text in (name, each["DataType"], each.get("StringValue", ""))
    )
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in (entry["MessageBody"], *texts))


def _within(operation: str, request: Request, name: str, limits: tuple[int, int], default: int) -> int:
    value = int(request.get(name, default))
    if not limits[0] <= value <= limits[1]:
        raise _error(
            operation,
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Reason: Must be between {limits[0]} and {limits[1]}.",
        )
    return value


def _error(operation: str, code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@cache
def model() -> ServiceModel:
    """botocore's own description of SQS."""
    return ServiceModel(Loader().load_service_model("sqs", "service-2"), "sqs")


def _check_parameters(operation: str, request: Request) -> None:
    """Botocore's refusal of a request with missing, unknown or wrongly typed parameters."""
    report = ParamValidator().validate(request, model().operation_model(operation).input_shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())
