"""The life of chunks as a state machine: real planners, workers and recoveries on a real Postgres, interrupted anywhere.

Hypothesis decides who goes how far, which commit, send or request is the last of a process or fails, what the queue
loses and doubles, what changes on GitHub, when time passes, and when somebody pauses. After every step the invariants
hold; at the end everything comes to rest and the database equals GitHub's data.

A failure prints the steps, its seed, and `@reproduce_failure(…)` to put on `ChunkLife`. CHUNK_LIFE_EXAMPLES and CHUNK_LIFE_SEED
choose how many runs, and which.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backfill.chunk_worker.worker import Worker
from backfill.console import Console
from backfill.errors import ContractViolation, DatabaseUnavailable, Deferred, NotSent, Permanent, Retryable
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.listing import ListingPage
from backfill.messages import PlanEvent, RecoveryEvent, SyncRequest, chunk_message, plan_message
from backfill.model import Dispatch
from backfill.observability import logger
from backfill.outcomes import MAX_ATTEMPTS
from backfill.planner.run import Planner
from backfill.recovery import Recovery
from backfill.store import chunks
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.movement import Movement
from local.simulator import Repository, Simulator, generate
from tests.integration.ageing import Ageing
from tests.integration.stepped import (
    VISIBILITY_SECONDS,
    Actor,
    Broker,
    Fate,
    Killed,
    Message,
    SteppedDatabase,
    SteppedQueues,
    SteppedTransport,
    Trouble,
)

NAME = "octo/life"
CHUNK_SIZE = 2
PULL_REQUESTS = 5
# Of each: enough to tell halves from wholes, and quick.
MOST_CHILDREN = 2
MOST_ACTORS = 4
# The digest of no children at all.
NOTHING = hashlib.md5(b"", usedforsecurity=False).hexdigest()
# What an invocation may end with; anything else is a defect. A command also tells a person what is wrong.
EXPECTED = (Killed, DatabaseUnavailable, ClientError, NotSent)
TOLD = (ContractViolation, Permanent, Retryable, Deferred)
# Past a retry; a visibility timeout or a short lease; the threshold of recovery; a lease or a pause.
PASSING_SECONDS = [40, 200, 1900, 3700]
# A machine's clock that was wrong is set right, either way.
CLOCK_STEPS = [-6 * 3600, -300, 300, 6 * 3600]
HALF_AN_HOUR, A_DAY = 31 * 60, 25 * 3600
AGES = [*PASSING_SECONDS, *CLOCK_STEPS, HALF_AN_HOUR, A_DAY, VISIBILITY_SECONDS + 1]
# What one fault may send a second time: messages whose answer, or whose mark in the outbox, was lost.
MOST_FOR_A_FAULT = 3
# What a message or command of a person may send: the chunks that hold the pull requests, and a plan request.
MOST_FOR_A_PERSON = 3
# More deliveries than all that waits can need while no time passes, and so many more for each message that waits at first.
MOST_AT_ONCE, MOST_FOR_A_MESSAGE = 150, 4

_RESET = [
    f"DELETE FROM {table}"
    for table in (
        "repositories",
        "contributors",
        "github_budget",
        "github_hours",
        "github_tokens",
        "github_withheld",
        "planner_round",
        "requested_names",
        "removed_repositories",
    )
]

# One transaction holds a chunk's details and its completion. What was stored before the chunk was claimed is not its doing: a
# person's message may have been quicker than the planner that chose it.
_HALF = """
    SELECT p.number, c.id, c.status
    FROM backfill_chunks AS c JOIN pull_requests AS p ON p.repository_id = c.repository_id AND p.number = ANY(c.pr_numbers)
    WHERE c.status IN ('pending', 'processing') AND c.origin = 'planner' AND p.detail_updated_at >= p.updated_at
      AND p.detail_synced_at >= c.started_at
"""

# Everything that the invariants are about, in one look.
_LOOK = """
    SELECT
        (SELECT row_to_json(s) FROM progressive_backfill_state AS s) AS state,
        (SELECT COALESCE(json_agg(c), '[]') FROM backfill_chunks AS c) AS chunks,
        (SELECT COALESCE(json_agg(m), '[]') FROM backfill_chunk_members AS m) AS members,
        (SELECT COALESCE(json_agg(p), '[]') FROM (
            SELECT p.number, p.title, p.body, p.gone_at, p.detail_failed_at,
                   to_char(p.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS updated_at,
                   to_char(p.detail_updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS detail_updated_at,
                   md5(concat_ws(' ',
                       (SELECT string_agg(node_id, ',' ORDER BY node_id COLLATE "C") FROM comments AS c
                        WHERE c.repository_id = p.repository_id AND c.pull_request_number = p.number),
                       (SELECT string_agg(node_id, ',' ORDER BY node_id COLLATE "C") FROM reviews AS c
                        WHERE c.repository_id = p.repository_id AND c.pull_request_number = p.number),
                       (SELECT string_agg(oid, ',' ORDER BY oid COLLATE "C") FROM commits AS c
                        WHERE c.repository_id = p.repository_id AND c.pull_request_number = p.number),
                       (SELECT string_agg(path, ',' ORDER BY path COLLATE "C") FROM files AS c
                        WHERE c.repository_id = p.repository_id AND c.pull_request_number = p.number))) AS children
            FROM pull_requests AS p) AS p) AS pull_requests
"""


class SmallPages(GitHub):
    """Listings and refreshes of several pages, without hundreds of pull requests. Each page is told to ``listed``."""

    listed: Callable[[], None] = staticmethod(lambda: None)

    def list_pull_requests(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        page = super().list_pull_requests(node_id, cursor, page_size=min(3, page_size))
        self.listed()
        return page

    def list_updated(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        page = super().list_updated(node_id, cursor, page_size=min(2, page_size))
        self.listed()
        return page


class Surroundings:
    """What all runs share: a database, a simulator, and connections for actors."""

    def __init__(self, url: str, simulator: Simulator) -> None:
        self.db = Database(lambda: url)
        self.simulator = simulator
        self.repositories = [_small(each) for each in generate(5, {NAME: PULL_REQUESTS})]
        self.trouble = Trouble()
        self.idle = [SteppedDatabase(lambda: url, self.trouble) for _ in range(MOST_ACTORS)]
        self.credentials = Credentials(self._transport(None), lambda _: {"token": "ghp_test"})
        self.budget_db = SteppedDatabase(lambda: url, self.trouble)
        self.governor = Governor(PostgresBudget(self.budget_db), sleep=lambda _: None)
        self.ageing = Ageing(self.db, AGES)

    def reset(self) -> None:
        self.trouble.end()
        for statement in _RESET:
            self.db.execute(statement)
        (repository,) = copy.deepcopy(self.repositories)
        self.simulator.repositories.clear()
        self.simulator.repositories[repository.node["id"]] = repository
        self.simulator.details.clear()

    def github(self, actor: Actor | None) -> SmallPages:
        return SmallPages(self._transport(actor), self.credentials, self.governor)

    def _transport(self, actor: Actor | None) -> SteppedTransport:
        return SteppedTransport(self.simulator, actor, self.trouble)


class Progress:
    """How many runs have begun, told once a minute past pytest's capturing. Shrinking a failure begins some more."""

    def __init__(self, examples: int, capsys: pytest.CaptureFixture[str]) -> None:
        self.examples, self.count, self.capsys = examples, 0, capsys
        self.start = self.told = time.monotonic()

    def one_more(self) -> None:
        self.count += 1
        now = time.monotonic()
        if now - self.told >= 60:
            self.told = now
            a_minute = self.count / (now - self.start) * 60
            left = max(0, self.examples - self.count) / a_minute
            self.tell(f"{self.count} of {self.examples} runs, {a_minute:.0f} a minute, {left:.0f} min left")

    def tell(self, text: str) -> None:
        with self.capsys.disabled():
            print(text, flush=True)


class ChunkLife(RuleBasedStateMachine):
    """One run. `self.actors` are the invocations under way, each standing before a commit, a send or a request."""

    around: ClassVar[Surroundings]
    begun: ClassVar[Progress]

    def __init__(self) -> None:
        super().__init__()
        self.begun.one_more()
        self.around.reset()
        self.db, self.simulator = self.around.db, self.around.simulator
        (self.repository,) = self.simulator.repositories.values()
        self.broker = Broker(on_send=self._sent, on_delete=self._letter_deleted)
        self.actors: list[Actor] = []
        # What was true once: versions of pull requests on GitHub, committed dispatches, completed chunks.
        self.versions: dict[tuple[int, str], tuple[str, str, str]] = {}
        self.dispatches: set[tuple[str, str]] = set()
        self.completed: dict[str, Any] = {}
        # How many workers said of a chunk that they completed it.
        self.stored: Counter[str] = Counter()
        self.newest: dict[int, tuple[str, str]] = {}
        self.claims_when_paused: set[str] | None = None
        # What only recovery can bring back: SQS lost a message, which it does not do, or the clock was set.
        self.left_to_recovery = False
        self.lost: set[str] = set()
        # What the next heartbeat brings back; ``beats`` counts the reasons, so that a heartbeat answers those before it.
        self.beats = 0
        self.answered_beats = 0
        self.was_completed = False
        self.clock_steps = 0
        self.backfill_id = ""
        # Pull requests that a person asked for, and how often each had been read by then.
        self.asked: dict[int, int] = {}
        # Why something may have been read twice.
        self.excuses = self.edits = 0
        # For the bound on messages: what was moved, what broke, what persons asked for, and chunks created by backfill.
        self.moved = Movement()
        self.faults = self.persons = 0
        self.created: dict[str, int] = {}
        self.ended: set[str] = set()
        self.failed = False
        for number in self.repository.pull_requests:
            self._remember(number)

    # Steps

    @initialize(planned=st.booleans(), overtaken=st.booleans())
    def a_repository_is_added(self, planned: bool, overtaken: bool) -> None:
        """``planned``: its chunks are there. ``overtaken``: who stands still at the end is taken for dead, and goes on last."""
        self.overtaken = overtaken
        console = Console(self.db, self.around.github(None), SteppedQueues(self.broker, None))
        console.act({"action": "add", "repository": NAME, "chunk_size": CHUNK_SIZE})
        self.persons += 1
        if planned:
            self._run("planner", lambda actor: self._plan(actor, self.broker.plans.pop().body))

    @precondition(lambda self: len(self.actors) < MOST_ACTORS and self.broker.visible(self.broker.chunks))
    @rule(which=st.integers(0, 9), steps=st.integers(0, 12))
    def a_worker_takes_a_message(self, which: int, steps: int) -> None:
        waiting = self.broker.visible(self.broker.chunks)
        self._deliver(self.broker.chunks, waiting[which % len(waiting)], self._work)
        self._advance(self.actors[-1] if self.actors else None, steps)

    @precondition(lambda self: len(self.actors) < MOST_ACTORS and self.broker.visible(self.broker.plans))
    @rule(which=st.integers(0, 9), steps=st.integers(0, 16))
    def a_planner_takes_a_request(self, which: int, steps: int) -> None:
        waiting = self.broker.visible(self.broker.plans)
        self._deliver(self.broker.plans, waiting[which % len(waiting)], self._plan)
        self._advance(self.actors[-1] if self.actors else None, steps)

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(steps=st.integers(0, 16))
    def the_schedule_starts_a_planner(self, steps: int) -> None:
        self._begin("planner", self._heartbeat)
        self._advance(self.actors[-1], steps)

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(steps=st.integers(0, 16), threshold=st.sampled_from([1, 30]))
    def a_recovery_starts(self, steps: int, threshold: int) -> None:
        request = RecoveryEvent(stuck_threshold=threshold, cleanup_days=7)
        self._begin("recovery", lambda actor: self._recover(actor, request))
        self._advance(self.actors[-1], steps)

    @precondition(lambda self: self.actors)
    @rule(which=st.integers(0, 3), steps=st.integers(1, 24))
    def somebody_goes_on(self, which: int, steps: int) -> None:
        self._advance(self.actors[which % len(self.actors)], steps)

    @precondition(lambda self: self.actors)
    @rule(
        which=st.integers(0, 3), steps=st.integers(0, 12), fate=st.sampled_from([f for f in Fate if f is not Fate.go])
    )
    def something_breaks(self, which: int, steps: int, fate: Fate) -> None:
        actor = self.actors[which % len(self.actors)]
        self._advance(actor, steps)
        if not actor.ended:
            self.excuses += 1
            self.faults += 1
            self._advance(actor, 1, fate)

    @precondition(lambda self: self.actors)
    @rule(which=st.integers(0, 3))
    def the_time_of_an_invocation_runs_out(self, which: int) -> None:
        self.excuses += 1
        self.faults += 1
        self.actors[which % len(self.actors)].seconds_left = 5.0

    @rule(seconds=st.sampled_from(PASSING_SECONDS), recovered=st.booleans())
    def time_passes(self, seconds: int, recovered: bool) -> None:
        self._age(seconds)
        self.excuses += 1
        if recovered and len(self.actors) < MOST_ACTORS:
            self._begin("recovery", lambda actor: self._recover(actor, RecoveryEvent()))
            self._advance(self.actors[-1], 1000)

    @rule()
    def what_waits_is_done_beside_those_who_stand_still(self) -> None:
        for queue, work in ((self.broker.chunks, self._work), (self.broker.plans, self._plan)):
            for message in self.broker.visible(queue):
                begun = len(self.actors)
                if begun == MOST_ACTORS:
                    return
                self._deliver(queue, message, work)
                if len(self.actors) > begun:
                    self._advance(self.actors[-1], 1000)

    @precondition(lambda self: self.clock_steps < 2)
    @rule(seconds=st.sampled_from(CLOCK_STEPS))
    def the_clock_of_the_database_is_set(self, seconds: int) -> None:
        """SQS has a clock of its own, which goes on."""
        self.faults += 1
        self.around.ageing.age(seconds)
        self.clock_steps += 1
        self.excuses += 1 + len(self.actors)

    @rule(reason=st.sampled_from([None, "maintenance"]))
    def somebody_pauses_in_sql(self, reason: str | None) -> None:
        """With a reason, whatever the status is: a pause that the system made has no end any more."""
        if reason is None:
            self.db.execute("UPDATE progressive_backfill_state SET status = 'paused' WHERE status = 'active'")
        else:
            self.db.execute("UPDATE progressive_backfill_state SET status = 'paused', pause_reason = :r", r=reason)

    @rule()
    def somebody_resumes_in_sql(self) -> None:
        self.beats += 1
        self.persons += 1
        self.db.execute(
            "UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0 WHERE status = 'paused'"
        )

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(action=st.sampled_from(["pause", "resume", "add", "redrive"]), steps=st.integers(0, 12))
    def somebody_gives_a_command(self, action: str, steps: int) -> None:
        event = {"action": action} if action == "redrive" else {"action": action, "repository": NAME}
        self._begin("command", lambda actor: self._command(actor, event))
        self._advance(self.actors[-1], steps)

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(numbers=st.lists(st.integers(1, 12), min_size=1, max_size=4), steps=st.integers(0, 12))
    def somebody_asks_for_pull_requests(self, numbers: list[int], steps: int) -> None:
        event = {"action": "sync", "repository": NAME, "pr_numbers": numbers}
        before = self._times_read()
        self.excuses += 2

        def ask(actor: Actor) -> None:
            answer = self._command(actor, event)
            self._note_asked(set(numbers) - set(answer.get("missing", ())), before)

        self._begin("command", ask)
        self._advance(self.actors[-1], steps)

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(delete_data=st.booleans(), steps=st.integers(0, 12))
    def somebody_removes_the_repository(self, delete_data: bool, steps: int) -> None:
        event = {"action": "remove", "repository": NAME, "delete_data": delete_data}
        self.excuses += PULL_REQUESTS
        self._begin("command", lambda actor: self._command(actor, event))
        self._advance(self.actors[-1], steps)

    @rule(what=st.sampled_from(["postgres_away", "github_away", "token_refused"]))
    def trouble_begins(self, what: str) -> None:
        setattr(self.around.trouble, what, True)
        self.faults += 1
        self.excuses += 1 + len(self.actors)

    @precondition(lambda self: self.around.trouble != Trouble())
    @rule()
    def trouble_ends(self) -> None:
        self.around.trouble.end()

    @precondition(lambda self: self.broker.visible(self.broker.chunks) or self.broker.visible(self.broker.plans))
    @rule()
    def no_function_is_reached_until_sqs_gives_up(self) -> None:
        """What Lambda cannot start has been received all the same; each time the message hides for a while."""
        for queue in (self.broker.chunks, self.broker.plans):
            for message in self.broker.visible(queue):
                while self.broker.receive(queue, message):
                    pass
        self.beats += 1
        self.faults += 1
        self._age(200)

    @precondition(lambda self: self.broker.chunks or self.broker.plans)
    @rule(which=st.integers(0, 9))
    def the_queue_loses_a_message(self, which: int) -> None:
        self.faults += 1
        queue = self.broker.chunks or self.broker.plans
        body = queue.pop(which % len(queue)).body
        self.lost.add(body)
        lost = self._message(body)
        for number in lost.pr_numbers if isinstance(lost, SyncRequest) else ():
            self.asked.pop(number, None)
        self.left_to_recovery = True

    @precondition(lambda self: self.broker.chunks)
    @rule(which=st.integers(0, 9))
    def the_queue_doubles_a_message(self, which: int) -> None:
        self.faults += 1
        self.broker.put(self.broker.chunks, self.broker.chunks[which % len(self.broker.chunks)].body)

    @precondition(lambda self: self.repository.pull_requests)
    @rule(which=st.integers(0, 9))
    def a_pull_request_changes_on_github(self, which: int) -> None:
        numbers = sorted(self.repository.pull_requests)
        number = numbers[which % len(numbers)]
        self.edits += 1
        self.excuses += 1
        changed = dict(self.repository.pull_requests[number])
        changed["title"] = f"Edit {self.edits}"
        changed["updatedAt"] = f"2030-01-01T00:{self.edits // 60:02d}:{self.edits % 60:02d}Z"
        comment = copy.copy(self.repository.pull_requests[number]["commits"][0])
        comment["commit"] = {**comment["commit"], "oid": f"{self.edits:040d}"}
        changed["commits"] = [*changed["commits"], comment]
        self.repository.pull_requests[number] = changed
        self._remember(number)

    @precondition(lambda self: len(self.repository.pull_requests) > 2)
    @rule(which=st.integers(0, 9))
    def a_pull_request_vanishes_from_github(self, which: int) -> None:
        numbers = sorted(self.repository.pull_requests)
        del self.repository.pull_requests[numbers[which % len(numbers)]]
        self.excuses += 1

    @rule(numbers=st.lists(st.integers(1, 12), min_size=1, max_size=4))
    def somebody_publishes_a_message(self, numbers: list[int]) -> None:
        body = {"schema_version": 1, "repository": NAME, "pr_numbers": numbers}
        self._note_asked(set(numbers), self._times_read())
        self.broker.put(self.broker.chunks, json.dumps(body))
        self.persons += 1
        self.excuses += 2

    @rule(
        body=st.sampled_from(
            ['{"schema_version": 2}', "nonsense", '{"schema_version": 1, "repository": "a/b", "pr_numbers": [1]}']
        )
    )
    def somebody_publishes_nonsense(self, body: str) -> None:
        self.broker.put(self.broker.chunks, body)
        self.persons += 1

    # Invariants

    @invariant()
    def everything_holds(self) -> None:
        try:
            self._check()
        except AssertionError:
            self.failed = True
            raise

    def _check(self) -> None:
        look = self.db.one(_LOOK)
        assert look is not None
        state = look["state"]
        if state is None:
            assert look["chunks"] == look["members"] == [], "left over of a backfill that is removed"
            return
        if state["id"] != self.backfill_id:
            self._begin_anew(state["id"])
        self.created[state["id"]] = state["next_chunk_number"] - 1
        self.ended |= {each["id"] for each in look["chunks"] if each["status"] in ("completed", "failed")}
        self._assert_the_bound()
        by_number = {row["number"]: row for row in look["pull_requests"]}
        unfinished = [each for each in look["chunks"] if each["status"] in ("pending", "processing")]
        self.dispatches |= {(each["id"], each["dispatch_id"]) for each in look["chunks"]}

        held = [number for each in unfinished for number in each["pr_numbers"]]
        assert len(held) == len(set(held)), f"a pull request is in two unfinished chunks: {sorted(held)}"
        assert sorted(held) == sorted(member["number"] for member in look["members"])

        current = [r for r in by_number.values() if r["gone_at"] is None and _is_current(r)]
        assert state["processed_prs"] == min(len(current), state["total_prs"])

        for number, row in by_number.items():
            title, _, _ = self.versions[number, row["updated_at"]]
            assert row["title"] == title
            if row["detail_updated_at"] is None:
                assert row["children"] == NOTHING, f"#{number} has something without its whole"
            else:
                _, body, children = self.versions[number, row["detail_updated_at"]]
                assert (row["body"], row["children"]) == (body, children), f"#{number} is half of one version"
            before = self.newest.get(number, ("", ""))
            now = (row["updated_at"], row["detail_updated_at"] or "")
            assert now[0] >= before[0] and now[1] >= before[1], f"#{number} went backwards: {before} to {now}"
            self.newest[number] = now

        present = {each["id"]: each for each in look["chunks"]}
        for chunk_id, before in self.completed.items():
            if chunk_id in present:
                assert present[chunk_id]["attempts"] == before, "a completed chunk was worked on again"
        self.completed |= {each["id"]: each["attempts"] for each in look["chunks"] if each["status"] == "completed"}

        twice = [chunk_id for chunk_id, times in self.stored.items() if times > 1]
        assert twice == [], f"two workers stored the same chunk: {twice}"
        for each in unfinished:
            assert each["attempts"] <= MAX_ATTEMPTS
            if each["sent_at"] is not None:
                assert (each["id"], each["dispatch_id"]) in self.broker.accepted, "called sent, and was not"

        if state["status"] == "active" and self.was_completed:
            # Whoever reopened it plans it; one that died is followed by the next heartbeat.
            self.beats += 1
        self.was_completed = state["status"] == "completed"
        # A command that has committed is about to send; if it ends before that, its person repeats it.
        is_commanded = any(actor.name == "command" for actor in self.actors)
        waits = self.left_to_recovery or self.beats > self.answered_beats or is_commanded
        if state["status"] == "active" and not waits:
            known = {each["id"] for each in look["chunks"]}
            assert self.broker.plans or any(self._chunk_of(each) in known for each in self.broker.chunks), (
                f"nothing is on its way that would move it: {unfinished}, {state}"
            )

        claims = {each["claim_token"] for each in unfinished if each["claim_token"] and each["origin"] == "planner"}
        if state["status"] != "paused":
            self.claims_when_paused = None
        elif self.claims_when_paused is None:
            self.claims_when_paused = claims
        else:
            assert claims <= self.claims_when_paused, "claimed while the backfill was paused"

    def _assert_the_bound(self) -> None:
        """Messages grow no faster than what moved, what broke and what persons asked for, whatever the order."""
        self.moved.messages, self.moved.waits = self.broker.sent, self.broker.waits
        self.moved.created, self.moved.ended = sum(self.created.values()), len(self.ended)
        allowed = MOST_FOR_A_FAULT * self.faults + MOST_FOR_A_PERSON * self.persons
        assert self.moved.messages <= self.moved.most_messages + allowed, (
            f"{self.moved}, {self.faults} faults, {self.persons} messages and commands"
        )

    def _begin_anew(self, backfill_id: str) -> None:
        """The repository was added again; what a person asked of the backfill that was removed counts no more."""
        self.backfill_id = backfill_id
        self.newest.clear()
        self.asked.clear()
        self.was_completed, self.claims_when_paused = False, None

    def _chunk_of(self, message: Message) -> str | None:
        """The chunk that a message is about, whichever dispatch of it; None for a sync request, or no message at all."""
        about = self._message(message.body)
        return about.chunk_id if isinstance(about, Dispatch) else None

    def _message(self, body: str) -> Dispatch | SyncRequest | None:
        try:
            return chunk_message(body)
        except ContractViolation:
            return None

    def _times_read(self) -> Counter[int]:
        """How often each pull request has been read until now."""
        return Counter({number: times for (_, number), times in self.simulator.details.items()})

    def _note_asked(self, numbers: set[int], before: Counter[int]) -> None:
        """A person has asked for pull requests that had been read so often by then."""
        if self.db.one("SELECT FROM progressive_backfill_state") is not None:
            self.asked |= {number: before[number] for number in numbers}

    def _sent(self, chunk_id: str, dispatch_id: str) -> None:
        committed = self.db.rows("SELECT id, dispatch_id FROM backfill_chunks")
        self.dispatches |= {(each["id"], each["dispatch_id"]) for each in committed}
        assert (chunk_id, dispatch_id) in self.dispatches, "sent before it was committed"

    def _letter_deleted(self, letter: Any) -> None:
        try:
            message = chunk_message(letter.body)
        except ContractViolation:
            return
        row = chunks.get(self.db, message.chunk_id) if hasattr(message, "chunk_id") else None
        if row is not None:
            waiting = row.status == "pending" and row.dispatch_id == message.dispatch_id  # type: ignore[union-attr]
            # It may be a dead letter once more by now, or SQS has lost it since.
            others = [each.body for each in self.broker.dead if each is not letter]
            is_sent_again = letter.body in [*(each.body for each in self.broker.chunks), *others, *self.lost]
            assert is_sent_again or not waiting, "a dead letter was removed before its chunk was dealt with"

    # At rest

    def teardown(self) -> None:
        try:
            if not self.failed:
                self._come_to_rest()
        finally:
            for actor in self.actors:
                while not actor.ended:
                    actor.advance(Fate.crash_before)
                self.around.idle.append(actor.db)
            self.actors.clear()

    def _come_to_rest(self) -> None:
        self.around.trouble.end()
        if self.overtaken:
            self.excuses += len(self.actors)
            self.time_passes(1900, True)
            self.what_waits_is_done_beside_those_who_stand_still()
            self.everything_holds()
        while self.actors:
            self._advance(self.actors[0], 1000)
        # What is on its way is enough, however far that is, unless it was lost.
        for _ in range(14):
            if not (self.broker.plans or self.broker.chunks):
                break
            self._age(VISIBILITY_SECONDS + 1)
            self._do_what_waits()
            self.everything_holds()
        if self.db.one("SELECT FROM progressive_backfill_state") is None:
            self._run("command", lambda actor: self._command(actor, {"action": "add", "repository": NAME}))
        self._run("command", lambda actor: self._command(actor, {"action": "redrive"}))
        self.somebody_resumes_in_sql()
        for _ in range(14 + 13 * self.clock_steps):
            self._age(HALF_AN_HOUR)
            Recovery(self.db, SteppedQueues(self.broker, None)).recover(RecoveryEvent())
            self._run("planner", self._heartbeat)
            self._do_what_waits()
            if self._is_at_rest():
                break
        self._assert_equals_github()
        self._assert_that_all_asked_for_was_read()

    def _assert_that_all_asked_for_was_read(self) -> None:
        failed = self.db.rows("SELECT pr_numbers FROM backfill_chunks WHERE status = 'failed'")
        excused = {number for row in failed for number in row["pr_numbers"]}
        now = self._times_read()
        unread = {
            number
            for number, before in self.asked.items()
            if number in self.repository.pull_requests and number not in excused and now[number] <= before
        }
        assert not unread, f"a person asked for {sorted(unread)}, and they were not read"

    def _do_what_waits(self) -> None:
        delivered = 0
        most = MOST_AT_ONCE + MOST_FOR_A_MESSAGE * len(self.broker.visible(self.broker.chunks))
        while waiting := [*self.broker.visible(self.broker.plans), *self.broker.visible(self.broker.chunks)]:
            delivered += 1
            assert delivered < most, f"it spins: {waiting[:5]}"
            queue, work = (
                (self.broker.plans, self._plan) if waiting[0] in self.broker.plans else (self.broker.chunks, self._work)
            )
            self._deliver(queue, waiting[0], work)
            while self.actors:
                self._advance(self.actors[0], 1000)
            self.everything_holds()

    def _is_at_rest(self) -> bool:
        left = self.db.one(
            "SELECT (SELECT status FROM progressive_backfill_state) AS status,"
            " (SELECT total_prs FROM progressive_backfill_state) AS total,"
            " (SELECT count(*) FROM pull_requests WHERE gone_at IS NULL) AS listed,"
            " (SELECT count(*) FROM backfill_chunks WHERE status IN ('pending', 'processing')) AS unfinished,"
            " (SELECT count(*) FROM pull_requests WHERE gone_at IS NULL"
            "  AND (detail_updated_at IS NULL OR detail_updated_at < updated_at)) AS undetailed"
        )
        if left is not None and left["undetailed"] and left["status"] == "completed":
            # What has failed is tried again after a day.
            self._age(A_DAY)
        github = {number: node["updatedAt"] for number, node in self.repository.pull_requests.items()}
        quiet = {"status": "completed", "total": len(github), "listed": len(github), "unfinished": 0, "undetailed": 0}
        return left == quiet and github == {n: newest[0] for n, newest in self.newest.items() if n in github}

    def _assert_equals_github(self) -> None:
        state = self.db.one(
            "SELECT status, processed_prs, total_prs, consecutive_errors, last_error FROM progressive_backfill_state"
        )
        rows = self.db.rows("SELECT number, title FROM pull_requests WHERE gone_at IS NULL ORDER BY number")
        held = self.repository.pull_requests
        unfinished = self.db.rows("SELECT * FROM backfill_chunks WHERE status IN ('pending', 'processing')")
        assert unfinished == [], f"chunks are left: {unfinished}, {state}"
        assert rows == [{"number": number, "title": held[number]["title"]} for number in sorted(held)], state
        assert state is not None
        assert (state["status"], state["processed_prs"], state["total_prs"]) == ("completed", len(held), len(held))
        assert self.db.rows("SELECT * FROM pull_request_gaps") == []
        assert [letter.reason for letter in self.broker.dead if letter.reason is None] == []
        again = sum(self.simulator.details.values()) - len(self.simulator.details)
        assert again <= self.excuses * CHUNK_SIZE, (
            f"{again} pull requests were read again after {self.excuses} troubles"
        )

    # Moving actors

    def _begin(self, name: str, work: Callable[[Actor], Any]) -> None:
        self.actors.append(Actor(name, self.around.idle.pop(), work))

    def _run(self, name: str, work: Callable[[Actor], Any]) -> None:
        self._begin(name, work)
        while self.actors:
            self._advance(self.actors[0], 1000)

    def _deliver(self, queue: list[Message], message: Message, work: Callable[[Actor, str], Any]) -> None:
        """An event source mapping: what ends well is deleted, anything else comes back after its visibility timeout."""
        if not self.broker.receive(queue, message):
            self.beats += 1
            return

        def handle(actor: Actor) -> None:
            work(actor, message.body)
            self.broker.acknowledge(queue, message)

        self._begin("worker" if queue is self.broker.chunks else "planner", handle)

    def _advance(self, actor: Actor | None, steps: int, fate: Fate = Fate.go) -> None:
        for _ in range(steps):
            if actor is None or actor.ended:
                break
            passed = actor.at
            actor.advance(fate)
            if actor.name == "worker" and passed in ("statement", "transaction"):
                self._assert_that_nothing_is_half()
        if actor is None or not actor.ended or actor not in self.actors:
            return
        self.actors.remove(actor)
        self.around.idle.append(actor.db)
        expected = (*EXPECTED, *TOLD) if actor.name == "command" else EXPECTED
        if actor.failure is not None and not isinstance(actor.failure, expected):
            self.failed = True
            raise actor.failure
        if actor.failure is not None and actor.name == "command":
            # A person sees it and repeats the command; the heartbeat goes on with what it has done.
            self.beats += 1

    def _assert_that_nothing_is_half(self) -> None:
        """Wherever a worker stands, not only where a step ends: what others see in between lasts a statement or two."""
        half = self.db.rows(_HALF)
        self.failed |= bool(half)
        assert half == [], "stored, and their chunk is not completed"

    def _work(self, actor: Actor, body: str) -> None:
        queues = SteppedQueues(self.broker, actor)
        worker = Worker(actor.db, self.around.github(actor), queues, lambda: actor.seconds_left)
        try:
            message = chunk_message(body)
            outcome = worker.handle(message, body)
            self.moved.paused += outcome == "paused"
            if outcome == "completed" and isinstance(message, Dispatch):
                self.stored[message.chunk_id] += 1
            assert queues.hasty_plans == 0 or outcome in ("completed", "failed"), f"no brake after {outcome}"
        except ContractViolation as violation:
            queues.add_dead_letter(body, str(violation))

    def _command(self, actor: Actor, event: dict[str, Any]) -> dict[str, Any]:
        self.persons += 1
        return Console(actor.db, self.around.github(actor), SteppedQueues(self.broker, actor)).act(event)

    def _heartbeat(self, actor: Actor) -> None:
        """One that nothing disturbs brings back what waited for it when it began."""
        reasons = self.beats
        self._plan(actor, "{}")
        if actor.seconds_left > 5 and self.around.trouble == Trouble():
            self.answered_beats = max(self.answered_beats, reasons)

    def _plan(self, actor: Actor, body: str) -> None:
        queues = SteppedQueues(self.broker, actor)
        github = self.around.github(actor)
        github.listed = self._page_listed
        planner = Planner(actor.db, github, queues, lambda: actor.seconds_left)
        request = plan_message(body) if body != "{}" else PlanEvent()
        self.moved.heartbeats += request.repository_id is None
        report = planner.plan(request).as_json()
        self.moved.recovered += report["dead_letters"]
        moved = any(row["pages"] or row["chunks"] or row.get("completed") for row in report["backfills"])
        # A round may also have checked what is completed, and goes on with the rest at once.
        most = 0 if request.repository_id else 1
        assert moved or queues.hasty_plans <= most, f"no brake after {report}"

    def _recover(self, actor: Actor, request: RecoveryEvent) -> None:
        report = Recovery(actor.db, SteppedQueues(self.broker, actor)).recover(request)
        self.moved.recovered += sum(report[each] for each in ("requeued", "lost", "sent", "dead_letters_matched"))

    def _page_listed(self) -> None:
        self.moved.pages += 1

    def _age(self, seconds: int) -> None:
        self.around.ageing.age(seconds)
        self.broker.now += seconds

    def _remember(self, number: int) -> None:
        node = self.repository.pull_requests[number]
        keys = (
            sorted(each["id"] for each in [*node["comments"], *(c for r in node["reviews"] for c in r["comments"])]),
            sorted(each["id"] for each in node["reviews"]),
            sorted(each["commit"]["oid"] for each in node["commits"]),
            sorted(each["path"] for each in node["files"]),
        )
        text = " ".join(",".join(each) for each in keys if each)
        children = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        self.versions[number, node["updatedAt"]] = (node["title"], node["body"], children)


def _small(repository: Repository) -> Repository:
    for node in repository.pull_requests.values():
        for name in ("comments", "reviews", "commits", "files"):
            node[name] = node[name][:MOST_CHILDREN]
        node["reviewThreads"] = []
        for review in node["reviews"]:
            review["comments"] = review["comments"][:1]
        node["totalCommentsCount"] = len(node["comments"]) + sum(len(each["comments"]) for each in node["reviews"])
    return repository


def _is_current(row: dict[str, Any]) -> bool:
    return row["detail_updated_at"] is not None and row["detail_updated_at"] >= row["updated_at"]


@pytest.fixture
def around(database_url: str) -> Iterator[Surroundings]:
    logger.setLevel("CRITICAL")  # a line per request of thousands of runs does not help
    with Simulator([], speed=1e6) as simulator:
        shared = Surroundings(database_url, simulator)
        ChunkLife.around = shared
        yield shared
        for each in (shared.db, shared.budget_db, *shared.idle):
            each.close()
    logger.setLevel("INFO")


def run(capsys: pytest.CaptureFixture[str], examples: int, steps: int, number: int) -> None:
    examples = int(os.environ.get("CHUNK_LIFE_EXAMPLES", examples))
    ChunkLife.begun = Progress(examples, capsys)
    ChunkLife.begun.tell(f"CHUNK_LIFE_SEED={number} repeats this run")
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(ChunkLife)
    run_state_machine_as_test(ChunkLife, settings=chosen)


@pytest.mark.timeout(3000)
def test_chunks_survive_everything(around: Surroundings, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, 200, 20, int(os.environ.get("CHUNK_LIFE_SEED", "4")))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_chunks_survive_everything_for_longer(around: Surroundings, capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed each time: it is printed."""
    run(capsys, 5000, 50, int(os.environ.get("CHUNK_LIFE_SEED", random.SystemRandom().randrange(2**32))))
