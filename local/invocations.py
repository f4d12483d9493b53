"""Lambda's part between a queue and a function: batches, partial failures, concurrency, and the end of recursive loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from local.sqs import Message, Queue, arn, system_attributes
from local.template import Deployment

# Lambda runs a function so often in one chain of requests, and drops the next invocation.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
MOST_IN_A_CHAIN = 16
Handler = Callable[[dict[str, Any]], Any]


class RecursiveInvocation(Exception):
    """Lambda does not invoke the function for this message, which stays in its queue."""


@dataclass
class Functions:
    """The functions of a deployment, with the queues that invoke them, by logical id."""

    deployment: Deployment
    queues: Mapping[str, Queue]
    trace: str | None = None
    """The header that the invocation that runs now gives to every message that it sends."""
    running: Counter[str] = field(default_factory=Counter)
    invoked: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def invocation(self, function: str, *traces: str | None) -> Iterator[None]:
        """One run. Its messages continue the chains of the messages that caused it. Raises RecursiveInvocation in place
        of one too many. Without traces it begins a chain, as a schedule or a person does."""
        chain = Counter[str]()
        for trace in traces:
            # Of a batch, the longest chain counts.
            chain |= lineage(trace)
        chain[function] += 1
        if not self.deployment.functions[function].may_recur and chain[function] > MOST_IN_A_CHAIN:
            raise RecursiveInvocation(function)
        before, self.trace = self.trace, header(chain)
        self.running[function] += 1
        self.invoked[function] += 1
        try:
            yield
        finally:
            self.running[function] -= 1
            self.trace = before

    def source(self, function: str) -> Queue:
        """The queue that invokes it."""
        source = self.deployment.functions[function].source
        if source is None:
            raise LookupError(f"no queue invokes {function}")
        return self.queues[source]

    def deliver(self, function: str, handler: Handler, *messages: Message) -> list[Message]:
        """Invoke a function with these messages, or with a batch of visible ones. Returns those that it handled.

        While it runs as often as its mapping allows, nothing is received. A message that failed, or whose handler
        raised, stays hidden for the queue's visibility timeout; one that was received too often is a dead letter.
        """
        settings, queue = self.deployment.functions[function], self.source(function)
        if settings.most_concurrent is not None and self.running[function] >= settings.most_concurrent:
            return []
        chosen = messages or queue.visible()[: settings.batch_size]
        batch = [each for each in chosen if queue.take(each)]
        if not batch:
            return []
        with self.invocation(function, *(each.trace for each in batch)):
            answer = handler(_event(queue, batch))
        failed = _failed(answer, batch) if settings.reports_failures else set()
        handled = [each for each in batch if each.message_id not in failed]
        for each in handled:
            queue.delete(each.receipt)
        return handled


def lineage(trace: str | None) -> Counter[str]:
    """How often each function ran in the chain of a trace header."""
    chain = Counter[str]()
    for part in (trace or "").split(";"):
        if part.startswith("Lineage="):
            for each in part.removeprefix("Lineage=").split("|"):
                function, count = each.split(":")
                chain[function] = int(count)
    return chain


def header(chain: Mapping[str, int]) -> str:
    """The trace header of a chain. AWS writes hashes in place of names."""
    return "Root=1-00000000-000000000000000000000000;Lineage=" + "|".join(
        f"{function}:{count}" for function, count in chain.items()
    )


def _event(queue: Queue, batch: Sequence[Message]) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": each.message_id,
                "receiptHandle": each.receipt,
                "body": str(each),
                "attributes": system_attributes(each),
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": arn(queue.name),
                "awsRegion": "us-east-1",
            }
            for each in batch
        ]
    }


def _failed(answer: Any, batch: Sequence[Message]) -> set[str]:
    """Ids of the messages that come back. An answer that Lambda does not understand brings back all of them.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    every = {each.message_id for each in batch}
    if answer is None:
        return set()
    if not isinstance(answer, dict):
        return every
    failures = answer.get("batchItemFailures") or []
    if not isinstance(failures, list):
        return every
    named = {str(each.get("itemIdentifier")) if isinstance(each, dict) else "" for each in failures}
    return named if named <= every else every
