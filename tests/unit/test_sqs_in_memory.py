"""SQS and Lambda in memory keep the rules that AWS documents; the product's tests rely on them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.model import Dispatch, Waiting
from backfill.queues import DeadLetter, Source
from local.in_process import CHUNK_WORKER, PLANNER
from local.invocations import Functions, header, lineage
from local.memory_queue import MemoryQueues
from local.sqs import MOST_MESSAGE_BYTES, Clock, Queue, QueueSettings, Service, model, url
from local.template import Deployment, FunctionSettings

MAIN = url("main")
DEAD = url("dead")


class Account:
    """Two queues: ``main``, whose messages go to ``dead`` after three receives."""

    def __init__(self, **attributes: int) -> None:
        self.clock = Clock()
        self.main = Queue("main", QueueSettings(most_receives=3, dead_letter_queue="dead", **attributes), self.clock)
        self.dead = self.main.dead_letters = Queue("dead", QueueSettings(), self.clock)
        self.service = Service({MAIN: self.main, DEAD: self.dead}, self.clock.wait)

    def send(self, body: str = "x", **more: Any) -> str:
        return str(self.service.send_message(QueueUrl=MAIN, MessageBody=body, **more)["MessageId"])

    def receive(self, queue: str = MAIN, **more: Any) -> list[dict[str, Any]]:
        """Twice, for one receive may be falsely empty."""
        request = {"QueueUrl": queue, "WaitTimeSeconds": 1, "MaxNumberOfMessages": 10, **more}
        found: list[dict[str, Any]] = []
        for _ in range(2):
            found += self.service.receive_message(**request).get("Messages", [])
        return found


def entries(count: int, body: str = "x") -> list[dict[str, Any]]:
    return [{"Id": str(index), "MessageBody": body} for index in range(count)]


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("send_message", {"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": "x", "DelaySeconds": -1}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": ""}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": "\x00"}, "InvalidMessageContents"),
        ("send_message", {"MessageBody": "\ud800"}, "InvalidMessageContents"),
        ("send_message", {"MessageBody": "x" * (MOST_MESSAGE_BYTES + 1)}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": "é" * (MOST_MESSAGE_BYTES // 2 + 1)}, "InvalidParameterValue"),
        ("send_message_batch", {"Entries": []}, "EmptyBatchRequest"),
        ("send_message_batch", {"Entries": entries(11)}, "TooManyEntriesInBatchRequest"),
        ("send_message_batch", {"Entries": entries(1) * 2}, "BatchEntryIdsNotDistinct"),
        ("send_message_batch", {"Entries": [{"Id": "a b", "MessageBody": "x"}]}, "InvalidBatchEntryId"),
        ("send_message_batch", {"Entries": entries(2, "x" * (MOST_MESSAGE_BYTES // 2 + 1))}, "BatchRequestTooLong"),
        ("receive_message", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
        ("receive_message", {"MaxNumberOfMessages": 0}, "InvalidParameterValue"),
        ("receive_message", {"WaitTimeSeconds": 21}, "InvalidParameterValue"),
        ("receive_message", {"VisibilityTimeout": 43_201}, "InvalidParameterValue"),
        ("delete_message", {"ReceiptHandle": "r"}, "ReceiptHandleIsInvalid"),
        ("send_message", {"QueueUrl": url("other"), "MessageBody": "x"}, "QueueDoesNotExist"),
    ],
)
def test_a_request_that_sqs_refuses_is_refused_with_its_code(
    operation: str, request_: dict[str, Any], code: str
) -> None:
    account = Account()
    with pytest.raises(ClientError) as refused:
        getattr(account.service, operation)(**{"QueueUrl": MAIN, **request_})
    assert refused.value.response["Error"]["Code"] == code
    # A common error of all of AWS, or one that botocore's description of SQS knows.
    assert code == "InvalidParameterValue" or code in model().shape_names
    assert len(account.main) == 0


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("send_message", {}),
        ("send_message", {"MessageBody": "x", "DelaySeconds": "5"}),
        ("send_message", {"MessageBody": "x", "Delay": 5}),
        ("send_message", {"MessageBody": 5}),
        ("send_message_batch", {"Entries": [{"MessageBody": "x"}]}),
        ("receive_message", {"VisibilityTimeout": 1.5}),
    ],
)
def test_a_request_that_botocore_refuses_is_refused(operation: str, request_: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        getattr(Account().service, operation)(**{"QueueUrl": MAIN, **request_})


def test_the_longest_message_and_the_fullest_batch_are_taken() -> None:
    account = Account()
    account.send("x" * MOST_MESSAGE_BYTES, DelaySeconds=900)
    answer = account.service.send_message_batch(QueueUrl=MAIN, Entries=entries(10, "x" * (MOST_MESSAGE_BYTES // 10)))
    assert len(answer["Successful"]) == 10 and "Failed" not in answer


def test_an_attribute_counts_for_the_length_of_a_message() -> None:
    attributes = {"reason": {"DataType": "String", "StringValue": "y"}}
    with pytest.raises(ClientError, match="shorter"):
        Account().send("x" * (MOST_MESSAGE_BYTES - 12), MessageAttributes=attributes)
    Account().send("x" * (MOST_MESSAGE_BYTES - 13), MessageAttributes=attributes)


def test_a_batch_is_accepted_in_part() -> None:
    account = Account()
    account.service.refuse = 1
    answer = account.service.send_message_batch(
        QueueUrl=MAIN, Entries=[*entries(2), {"Id": "z", "MessageBody": "\x00"}]
    )
    assert [each["Id"] for each in answer["Successful"]] == ["1"]
    assert [(each["Id"], each["SenderFault"]) for each in answer["Failed"]] == [("0", False), ("z", True)]


def test_a_short_poll_misses_messages_that_are_there_and_finds_them_later() -> None:
    account = Account()
    sent = {account.send() for _ in range(4)}
    polls = [
        account.service.receive_message(QueueUrl=MAIN, MaxNumberOfMessages=10).get("Messages", []) for _ in range(3)
    ]
    assert all(len(each) < 4 for each in polls)
    assert {message["MessageId"] for each in polls for message in each} == sent
    account = Account()
    account.send()
    polls = [account.service.receive_message(QueueUrl=MAIN).get("Messages", []) for _ in range(3)]
    assert sorted(map(len, polls)) == [0, 0, 1]


def test_a_long_poll_is_falsely_empty_once_and_lets_its_seconds_pass() -> None:
    account = Account()
    account.send()
    request = {"QueueUrl": MAIN, "WaitTimeSeconds": 20}
    assert account.service.receive_message(**request) == {}
    assert account.clock.now == 20
    assert len(account.service.receive_message(**request)["Messages"]) == 1


def test_a_message_is_hidden_while_it_is_delayed_and_while_it_is_in_flight() -> None:
    account = Account(visibility_seconds=100)
    account.send(DelaySeconds=900)

    def counts() -> list[int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        names += ["ApproximateNumberOfMessagesDelayed"]
        told = account.service.get_queue_attributes(QueueUrl=MAIN, AttributeNames=names)["Attributes"]
        return [int(told[name]) for name in names]

    account.clock.now = 898
    assert account.receive(WaitTimeSeconds=0) == [] and counts() == [0, 0, 1]
    account.clock.now = 900
    assert counts() == [1, 0, 0]
    assert len(account.receive()) == 1 and counts() == [0, 1, 0]
    account.clock.now += 97
    assert account.receive() == []
    account.clock.now += 3
    assert len(account.receive()) == 1


def test_only_the_newest_receipt_deletes() -> None:
    account = Account()
    account.send()
    (first,) = account.receive(VisibilityTimeout=0)[:1]
    (second,) = account.receive()
    account.service.delete_message(QueueUrl=MAIN, ReceiptHandle=first["ReceiptHandle"])
    assert len(account.main) == 1
    for _ in range(2):
        account.service.delete_message(QueueUrl=MAIN, ReceiptHandle=second["ReceiptHandle"])
    assert len(account.main) == 0


def test_a_message_received_too_often_moves_with_its_id_its_age_and_its_source() -> None:
    account = Account(visibility_seconds=100)
    sent = account.send()
    for receive in range(3):
        account.clock.now = 1000.0 * receive
        assert [each["MessageId"] for each in account.receive()] == [sent]
    account.clock.now = 5000.0
    assert (account.receive(), len(account.main)) == ([], 0)
    (letter,) = account.receive(DEAD, MessageSystemAttributeNames=["All"])
    assert letter["MessageId"] == sent
    assert letter["Attributes"]["DeadLetterQueueSourceArn"].endswith(":main")
    assert letter["Attributes"]["SentTimestamp"] == "0"
    account.clock.now = account.dead.settings.retention_seconds
    assert account.receive(DEAD) == [] and account.dead.messages() == []


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (None, ""),
        ({}, ""),
        ({"batchItemFailures": []}, ""),
        ({"batchItemFailures": None}, ""),
        ({"batchItemFailures": [{"itemIdentifier": "main-2"}]}, "b"),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, "abc"),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, "abc"),
        ({"batchItemFailures": [{"id": "main-2"}]}, "abc"),
        ({"batchItemFailures": "main-2"}, "abc"),
        ("done", "abc"),
    ],
)
def test_the_answer_of_a_function_decides_which_messages_of_a_batch_return(answer: Any, left: str) -> None:
    account = Account()
    functions = functions_of(account)
    for body in "abc":
        account.send(body)
    functions.deliver("Function", lambda _: answer)
    assert "".join(account.main) == left
    assert functions.deliver("Function", lambda _: None) == []
    account.clock.now += 30
    functions.deliver("Function", lambda _: None)
    assert account.main == []


def test_a_function_that_raises_or_does_not_report_failures_has_failed_or_handled_all() -> None:
    account = Account()
    functions = functions_of(account, reports_failures=False)
    account.send("a")
    with pytest.raises(ZeroDivisionError):
        functions.deliver("Function", lambda _: 1 // 0)
    assert account.main == ["a"]
    account.clock.now += 30
    functions.deliver("Function", lambda _: {"batchItemFailures": [{"itemIdentifier": "main-1"}]})
    assert account.main == []


def test_no_message_is_received_while_the_function_runs_as_often_as_its_mapping_allows() -> None:
    account = Account()
    functions = functions_of(account, batch_size=1, most_concurrent=2)
    for body in "abcd":
        account.send(body)
    most = 0

    def handler(event: dict[str, Any]) -> None:
        nonlocal most
        most = max(most, functions.running["Function"])
        if event["Records"][0]["body"] in "ab":
            functions.deliver("Function", handler)

    functions.deliver("Function", handler)
    assert most == 2
    assert account.main == ["c", "d"]
    assert [each.receives for each in account.main.messages()] == [0, 0]


def functions_of(account: Account, **attributes: Any) -> Functions:
    settings = FunctionSettings(source="main", **{"reports_failures": True, **attributes})
    return Functions(Deployment({}, {"Function": settings}), {"main": account.main})


def test_a_duplicate_is_the_same_message_once_more() -> None:
    account = Account()
    sent = account.send()
    account.main.duplicate(account.main.messages()[0])
    assert [each["MessageId"] for each in account.receive()] == [sent, sent]


def test_a_chain_goes_through_the_messages_that_its_functions_send() -> None:
    queues = MemoryQueues()
    with queues.functions.invocation(PLANNER):
        queues.send_chunks([Waiting(Dispatch("c1", "d1"), 0), Waiting(Dispatch("c2", "d2"), 0)])
    queues.functions.deliver(CHUNK_WORKER, lambda _: queues.request_plan(None))
    queues.functions.deliver(PLANNER, lambda _: queues.send_body("{}"))
    assert lineage(queues.chunks.messages()[-1].trace) == {PLANNER: 2, CHUNK_WORKER: 1}
    queues.request_plan(None)
    assert queues.plans.messages()[-1].trace is None, "outside of functions a chain begins anew"
    assert lineage(header({PLANNER: 3})) == {PLANNER: 3}


@pytest.mark.parametrize("source", list(Source))
def test_letters_can_be_looked_at_and_are_the_same_when_they_are_received(source: Source) -> None:
    letters = [
        DeadLetter("m1", "a", "r", "a reason", source),
        DeadLetter("m2", "b", "r", None, source, was_redriven=True),
        DeadLetter("m3", "c", "r"),
    ]
    queues = MemoryQueues(dead=letters)
    assert queues.dead == letters and queues.dead[1:] == letters[1:]
    received = queues.dead_letters(500)
    assert [(each.body, each.reason, each.source, each.was_redriven) for each in received] == [
        (each.body, each.reason, each.source, each.was_redriven) for each in letters
    ]
    assert queues.dead_letters(500) == [], "they are in flight"
    queues.delete_dead_letter(received[0])
    queues.now += 60
    assert [each.body for each in queues.dead_letters(500)] == ["b", "c"]


STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 900)),
    st.tuples(st.just("receive"), st.integers(0, 20)),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("pass"), st.integers(0, 400)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_no_message_is_lost_or_early_or_received_too_often(steps: list[tuple[str, int]]) -> None:
    account = Account()
    sent, deleted = dict[str, float](), set[str]()
    receipts, hidden_until = list[tuple[str, str]](), dict[str, float]()
    for step, number in steps:
        if step == "send":
            sent[account.send(DelaySeconds=number)] = account.clock.now + number
        elif step == "receive":
            begin = account.clock.now
            answer = account.service.receive_message(QueueUrl=MAIN, WaitTimeSeconds=number, MaxNumberOfMessages=10)
            for each in answer.get("Messages", []):
                name = each["MessageId"]
                assert name not in deleted
                assert sent[name] <= begin and hidden_until.get(name, 0.0) <= begin
                hidden_until[name] = begin + 30
                receipts.append((name, each["ReceiptHandle"]))
        elif step == "delete" and receipts:
            name, receipt = receipts[number % len(receipts)]
            account.service.delete_message(QueueUrl=MAIN, ReceiptHandle=receipt)
            if receipt == [other for each, other in receipts if each == name][-1]:
                deleted |= {name} - {each.message_id for each in account.dead.messages()}
        else:
            account.clock.now += number
    there = [each.message_id for queue in (account.main, account.dead) for each in queue.messages()]
    assert sorted(there) == sorted(sent.keys() - deleted)
    assert all(name in there or name in deleted for name in sent)
    assert max((sum(each == name for each, _ in receipts) for name in sent), default=0) <= 3
