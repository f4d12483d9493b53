"""A fleet's queues are those of the template, with everything that the use cases need of them."""

from __future__ import annotations

import json

from backfill.queues import Source
from backfill.store.connection import Database
from local.fleet import CHUNK_WORKER, PLANNER, Fleet, Mailbox, queues_of
from local.invocations import Functions, lineage
from local.simulator import Simulator, generate
from local.template import deployed

NAME = "octo/fleet"


def test_a_mailbox_delivers_in_time_goes_on_with_chains_and_keeps_dead_letters() -> None:
    mailbox, functions = Mailbox(), Functions(deployed(), {})
    queues = queues_of(mailbox, functions)
    queues.send_body("late", 900)
    queues.send_body("now")
    message = mailbox.receive(CHUNK_WORKER)
    assert message is not None and (message.body, message.trace) == ("now", None)
    with functions.invocation(CHUNK_WORKER, message.trace):
        queues.request_plan(None)
        queues.add_dead_letter("bad", "a reason")
    assert queues.chunks_waiting() == 2, "one is in flight, one is delayed"
    mailbox.acknowledge(CHUNK_WORKER, message.receipt)
    assert queues.chunks_waiting() == 1
    request = mailbox.receive(PLANNER)
    assert request is not None and lineage(request.trace) == {CHUNK_WORKER: 1}
    (letter,) = queues.dead_letters(10)
    assert (letter.body, letter.reason, letter.queue) == ("bad", "a reason", Source.CHUNKS)
    queues.redrive(letter)
    queues.delete_dead_letter(letter)
    assert (queues.dead_letters_waiting(), queues.chunks_waiting()) == (0, 2)
    mailbox.end()
    assert mailbox.receive(PLANNER) is None


def test_recovery_has_a_part_in_a_fleet(db: Database, database_url: str) -> None:
    with (
        Simulator(generate(3, {NAME: 12}), speed=5000) as simulator,
        Fleet(database_url, simulator.url, workers=2) as fleet,
    ):
        fleet.queues.send_body("no json")
        fleet.queues.send_body(json.dumps({"schema_version": 1, "repository": "octo/unknown", "pr_numbers": [1]}))
        fleet.add(NAME)
        assert fleet.completed(60)
        assert fleet.wait(lambda _: fleet.queues.dead_letters_waiting() == 2, 30)
        report = fleet.recover()
        assert (report["dead_letters_left"], report["dead_letters_matched"]) == (2, 0)
        assert fleet.queues.chunks_waiting() == 0
