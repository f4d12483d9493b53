"""Dead letters as an operator meets them: found behind false-empty receives, redriven unchanged, never silently hidden; and
answers that fit into Lambda's 6 MB."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from backfill import outbox
from backfill.answers import PAGE_BYTES
from backfill.messages import RecoveryEvent
from backfill.queues import DeadLetter, Queues, Source
from backfill.store import chunks
from backfill.store.connection import Database
from cli.main import app
from cli.stack import DeployedStack
from local.in_process import Stack
from local.memory_queue import MemoryQueues
from local.simulator import Simulator, generate
from tests.integration.rows import backfill_of

NAME = "octo/one"
LAMBDA_BYTES = 6_291_556
URLS = [f"https://sqs.eu-west-1.amazonaws.com/123456789012/s-{name}" for name in ("chunks", "plans", "dead-letters")]


class Aws:
    """What Queues needs of boto3's client: every other receive is empty, as AWS's may be."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages, self.received, self.sent = messages, list[dict[str, Any]](), list[tuple[str, str]]()

    def receive_message(self, **request: Any) -> dict[str, Any]:
        self.received.append(request)
        if len(self.received) % 2:
            return {}
        count = request["MaxNumberOfMessages"]
        taken, self.messages = self.messages[:count], self.messages[count:]
        return {"Messages": taken}

    def send_message(self, **request: Any) -> None:
        self.sent.append((request["QueueUrl"], request["MessageBody"]))
        self.attributes = request["MessageAttributes"]


def message(number: int, body: str, **more: Any) -> dict[str, Any]:
    return {"MessageId": f"m{number}", "Body": body, "ReceiptHandle": "r", **more}


def sqs(aws: Aws) -> Queues:
    queues = Queues(*URLS)
    queues._client = aws
    return queues


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Simulator(generate(1, {NAME: 3}), speed=5000) as simulator:
        yield Stack(db, simulator)


@pytest.fixture
def command(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line over this stack; every answer has to fit into Lambda's."""

    def invoke(_: DeployedStack, function: str, event: dict[str, Any]) -> Any:
        answer = json.dumps(stack.console.act(event))
        assert len(answer) <= LAMBDA_BYTES
        return json.loads(answer)

    monkeypatch.setattr(DeployedStack, "invoke", invoke)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_letters_behind_empty_receives_are_found_by_long_polling() -> None:
    aws = Aws([message(number, "x") for number in range(25)])
    assert len(sqs(aws).dead_letters(500)) == 25
    assert {request["WaitTimeSeconds"] for request in aws.received} == {1}
    assert len(aws.received) == 8, "three with letters, each after an empty one, and two empty ones at the end"


def test_a_letter_goes_back_to_the_queue_that_sqs_or_its_attribute_names() -> None:
    by_name = '{"schema_version": 1, "repository": "octo/one"}'
    moved = {"DeadLetterQueueSourceArn": "arn:aws:sqs:eu-west-1:123456789012:s-chunks"}
    refused = {"source": {"StringValue": "plans", "DataType": "String"}}
    aws = Aws(
        [
            message(1, by_name, Attributes=moved),
            message(2, by_name, MessageAttributes=refused),
            message(3, "nonsense", MessageAttributes=refused),
            message(4, by_name),
            message(5, "nonsense"),
        ]
    )
    queues = sqs(aws)
    for letter in queues.dead_letters(500):
        queues.redrive(letter)
    chunk_queue, plan_queue, _ = URLS
    assert aws.sent == [
        (chunk_queue, by_name),
        (plan_queue, by_name),
        (plan_queue, "nonsense"),
        (plan_queue, by_name),
        (chunk_queue, "nonsense"),
    ]


def test_a_redriven_letter_says_so_when_it_is_a_dead_letter_again() -> None:
    aws = Aws([message(1, "x")])
    queues = sqs(aws)
    (letter,) = queues.dead_letters(500)
    queues.redrive(letter)
    aws.messages = [message(2, "x", MessageAttributes=aws.attributes)]
    (again,) = queues.dead_letters(500)
    assert (letter.was_redriven, again.was_redriven) == (False, True)


def test_the_heartbeat_after_an_outage_moves_everything(stack: Stack) -> None:
    """No function was reached: SQS received each message too often, and moved it."""
    stack.add(NAME, chunk_size=1)
    stack.plan_once()
    stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [min(stack.repository(NAME).pull_requests)]})
    stack.queues.request_plan(str(stack.state(NAME)["repository_id"]))
    assert len(stack.queues.chunks) == 4
    for body in [*stack.queues.chunks, *stack.queues.plans]:
        stack.queues.drop(body, Source.PLANS if body in stack.queues.plans else Source.CHUNKS)
    stack.queues.chunks.clear()
    stack.queues.plans.clear()
    stack.heartbeat()
    assert stack.queues.dead == []
    assert len(stack.queues.chunks) == 4
    stack.run()
    assert stack.state(NAME)["status"] == "completed"
    stack.assert_equals_github()


def test_a_plan_request_that_became_a_letter_is_not_on_its_way(stack: Stack) -> None:
    """The backfill's row calls it on its way, because it was sent a moment ago."""
    stack.add(NAME)
    stack.queues.drop(stack.queues.plans.pop(0), Source.PLANS)
    stack.db.execute("UPDATE progressive_backfill_state SET plan_requested_at = now() - interval '4 seconds'")
    assert stack.queues.plans == []
    stack.recovery.recover(RecoveryEvent())
    assert stack.queues.dead == []
    assert len(stack.queues.plans) == 1


def test_a_sync_request_that_fails_again_stays_for_the_operator(stack: Stack) -> None:
    stack.add(NAME)
    stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [min(stack.repository(NAME).pull_requests)]})
    for times in range(2):
        stack.queues.drop(stack.queues.chunks.pop(0), Source.CHUNKS)
        stack.heartbeat()
        assert len(stack.queues.dead) == times
    # A letter that is received and left is hidden for a minute.
    stack.queues.now += 60
    assert stack.recovery.recover(RecoveryEvent())["dead_letters_left"] == 1
    stack.queues.now += 60
    assert stack.console.act({"action": "redrive"})["redriven"] == 1


@pytest.mark.parametrize("body", ['{"schema_version": 1, "repository": "octo/one"}', '{"schema_version": 1}', "x"])
@pytest.mark.parametrize("source", list(Source))
def test_a_redriven_message_is_the_same_message(stack: Stack, source: Source, body: str) -> None:
    stack.queues.dead.append(DeadLetter("m1", body, "r", "a reason", source))
    assert stack.console.act({"action": "redrive"})["redriven"] == 1
    queue, other = (stack.queues.chunks, stack.queues.plans)[:: 1 if source is Source.CHUNKS else -1]
    assert (queue, other, stack.queues.dead) == ([body], [], [])


@pytest.mark.parametrize("words", [("list",), ("redrive",), ("discard", "--all")])
def test_letters_in_other_hands_are_told(stack: Stack, command: Callable[..., Any], words: tuple[str, ...]) -> None:
    stack.queues.dead.append(DeadLetter("m1", "x", "r"))
    stack.queues.hidden.add("m1")
    done = command("dead-letters", *words)
    assert "1 dead letter is being handled by recovery" in done.output
    assert "No dead letters" not in done.output
    stack.queues.dead.clear()
    assert "hands" not in command("dead-letters", *words).output


def test_to_discard_what_is_not_there_fails(stack: Stack, command: Callable[..., Any]) -> None:
    stack.queues.dead.append(DeadLetter("m1", "x", "r"))
    done = command("dead-letters", "discard", "m1", "nonsense")
    assert done.exit_code == 1
    assert "there is no dead letter nonsense" in done.output
    assert stack.queues.dead == []


def test_letters_with_long_bodies_fit_into_an_answer(stack: Stack, command: Callable[..., Any]) -> None:
    stack.queues.dead += [DeadLetter(f"m{number}", "\x00" * 250_000, "r") for number in range(5)]
    done = command("dead-letters", "list", "--json")
    answer = json.loads(done.output)
    assert answer["more"] == 5 - len(answer["dead_letters"]) > 0


def test_all_gaps_are_printed_however_many_answers_they_take(stack: Stack, command: Callable[..., Any]) -> None:
    stack.add(NAME)
    stack.run()
    stack.db.execute(
        "INSERT INTO pull_requests SELECT made.* FROM (SELECT * FROM pull_requests LIMIT 1) AS p, generate_series(1, 1600) AS n,"
        " jsonb_populate_record(CAST(NULL AS pull_requests), to_jsonb(p) || jsonb_build_object('number', 100 + n, 'node_id', n,"
        " 'detail_error', repeat('\u00e9', 2000), 'detail_error_code', 'attempts_spent', 'detail_failed_at', now(),"
        " 'detail_updated_at', NULL, 'detail_synced_at', NULL)) AS made"
    )
    gaps = json.loads(command("gaps", NAME, "--json").output)["gaps"]
    assert [row["number"] for row in gaps] == list(range(101, 1701))
    assert len(json.dumps(gaps)) > 2 * PAGE_BYTES


def test_the_status_of_a_thousand_backfills_is_whole(stack: Stack, command: Callable[..., Any]) -> None:
    stack.db.execute(
        "INSERT INTO repositories (node_id, github_id, owner, name, url, is_private, is_fork, is_archived)"
        " SELECT 'R_' || n, n, 'octo', 'r' || n, 'u', false, false, false FROM generate_series(1, 1105) AS n"
    )
    stack.db.execute("INSERT INTO progressive_backfill_state (repository_id) SELECT id FROM repositories")
    stack.db.execute(
        "UPDATE progressive_backfill_state SET last_error = repeat('\u00e9', 1000), last_error_at = now(), consecutive_errors = 1"
    )
    answer = json.loads(command("status", "--json").output)
    assert len({row["repository_id"] for row in answer["backfills"]}) == len(answer["backfills"]) == 1105
    assert len(json.dumps(answer["backfills"])) > PAGE_BYTES


def test_everything_in_the_outbox_is_sent(db: Database) -> None:
    backfill = backfill_of(db, 1)
    db.execute("UPDATE progressive_backfill_state SET total_prs = 30")
    for number in range(1, 26):
        chunks.create(db, backfill["id"], [number])
    queues = MemoryQueues()
    assert outbox.send(db, queues, limit=10) == outbox.Sent(25, 0)
    assert len(queues.chunks) == 25
