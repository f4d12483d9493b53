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

from backfill.chunk_processing import Worker
from backfill.errors import ContractViolation, NotSent
from backfill.github.auth import Credentials
from backfill.github.client import GitHub, ListingPage
from backfill.github.governor import Governor
from backfill.messages import Dispatch, PlanEvent, RecoveryEvent, chunk_message, plan_message
from backfill.observability import logger
from backfill.operating import Operator
from backfill.planning import Planner
from backfill.recovering import Recovery
from backfill.store import chunks
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database, DatabaseUnavailable
from local.simulator import Repository, Simulator, generate
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
)

NAME = "octo/life"
CHUNK_SIZE = 2
PULL_REQUESTS = 5
# Of each: enough to tell halves from wholes, and quick.
MOST_CHILDREN = 2
MOST_ACTORS = 4
# The digest of no children at all.
NOTHING = hashlib.md5(b"", usedforsecurity=False).hexdigest()
# What an invocation may end with; anything else is a defect.
EXPECTED = (Killed, DatabaseUnavailable, ClientError, NotSent)

# Time passes by moving every timestamp that decides something.
_AGE = """
    WITH c AS (UPDATE backfill_chunks SET
            available_at = available_at - make_interval(secs => :s), sent_at = sent_at - make_interval(secs => :s),
            lease_expires_at = lease_expires_at - make_interval(secs => :s), started_at = started_at - make_interval(secs => :s),
            completed_at = completed_at - make_interval(secs => :s), failed_at = failed_at - make_interval(secs => :s)),
        s AS (UPDATE progressive_backfill_state SET
            planner_lease_expires_at = planner_lease_expires_at - make_interval(secs => :s),
            plan_requested_at = plan_requested_at - make_interval(secs => :s), paused_until = paused_until - make_interval(secs => :s),
            listing_started_at = listing_started_at - make_interval(secs => :s),
            listing_completed_at = listing_completed_at - make_interval(secs => :s), examined_at = examined_at - make_interval(secs => :s),
            planned_at = planned_at - make_interval(secs => :s), deferred_until = deferred_until - make_interval(secs => :s)),
        p AS (UPDATE pull_requests SET listed_at = listed_at - make_interval(secs => :s),
            detail_synced_at = detail_synced_at - make_interval(secs => :s),
            detail_failed_at = detail_failed_at - make_interval(secs => :s)),
        r AS (UPDATE repositories SET unavailable_since = unavailable_since - make_interval(secs => :s)),
        b AS (UPDATE github_budget SET blocked_until = blocked_until - make_interval(secs => :s),
            free_at = free_at - make_interval(secs => :s), reset_at = reset_at - make_interval(secs => :s))
    SELECT 1
"""
_RESET = "DELETE FROM repositories; DELETE FROM contributors; DELETE FROM github_budget; DELETE FROM planner_round"

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
    """Listings and scans of several pages, without hundreds of pull requests."""

    def list_pull_requests(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        return super().list_pull_requests(node_id, cursor, page_size=min(3, page_size))

    def list_updated(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        return super().list_updated(node_id, cursor, page_size=min(2, page_size))


class Surroundings:
    """What all runs share: a database, a simulator, and connections for actors."""

    def __init__(self, url: str, simulator: Simulator) -> None:
        self.db = Database(lambda: url)
        self.simulator = simulator
        self.repositories = [_small(each) for each in generate(5, {NAME: PULL_REQUESTS})]
        self.idle = [SteppedDatabase(lambda: url) for _ in range(MOST_ACTORS)]
        self.credentials = Credentials(SteppedTransport(self.simulator, None), lambda _: {"token": "ghp_test"})
        self.governor = Governor(PostgresBudget(Database(lambda: url)), sleep=lambda _: None)

    def reset(self) -> None:
        for statement in _RESET.split(";"):
            self.db.execute(statement)
        (repository,) = copy.deepcopy(self.repositories)
        self.simulator.repositories.clear()
        self.simulator.repositories[repository.node["id"]] = repository
        self.simulator.details.clear()

    def github(self, actor: Actor | None) -> GitHub:
        return SmallPages(SteppedTransport(self.simulator, actor), self.credentials, self.governor)


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
        # Nothing that is on its way moves the backfill any more, and rightly so: the schedules have to.
        self.left_to_schedules = self.was_completed = False
        # Why something may have been read twice.
        self.excuses = self.edits = 0
        self.failed = False
        for number in self.repository.pull_requests:
            self._remember(number)

    # Steps

    @initialize(planned=st.booleans(), overtaken=st.booleans())
    def a_repository_is_added(self, planned: bool, overtaken: bool) -> None:
        """``planned``: its chunks are there. ``overtaken``: who stands still at the end is taken for dead, and goes on last."""
        self.overtaken = overtaken
        operator = Operator(self.db, self.around.github(None), SteppedQueues(self.broker, None))
        operator.act({"action": "add", "repository": NAME, "chunk_size": CHUNK_SIZE})
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
        self._begin("planner", lambda actor: self._plan(actor, "{}"))
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
            self._advance(actor, 1, fate)

    @precondition(lambda self: self.actors)
    @rule(which=st.integers(0, 3))
    def the_time_of_an_invocation_runs_out(self, which: int) -> None:
        self.excuses += 1
        self.actors[which % len(self.actors)].seconds_left = 5.0

    @rule(seconds=st.sampled_from([40, 200, 1900, 3700]), recovered=st.booleans())
    def time_passes(self, seconds: int, recovered: bool) -> None:
        """Past a retry; a visibility timeout or a short lease; the threshold of recovery; a lease or a pause."""
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

    @rule()
    def somebody_pauses_in_sql(self) -> None:
        self.db.execute("UPDATE progressive_backfill_state SET status = 'paused' WHERE status = 'active'")

    @rule()
    def somebody_resumes_in_sql(self) -> None:
        self.db.execute(
            "UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0 WHERE status = 'paused'"
        )

    @precondition(lambda self: self.broker.chunks or self.broker.plans)
    @rule(which=st.integers(0, 9))
    def the_queue_loses_a_message(self, which: int) -> None:
        queue = self.broker.chunks or self.broker.plans
        queue.pop(which % len(queue))
        self.left_to_schedules = True

    @precondition(lambda self: self.broker.chunks)
    @rule(which=st.integers(0, 9))
    def the_queue_doubles_a_message(self, which: int) -> None:
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
        self.broker.put(self.broker.chunks, json.dumps(body))
        self.excuses += 2

    @rule(
        body=st.sampled_from(
            ['{"schema_version": 2}', "nonsense", '{"schema_version": 1, "repository": "a/b", "pr_numbers": [1]}']
        )
    )
    def somebody_publishes_nonsense(self, body: str) -> None:
        self.broker.put(self.broker.chunks, body)

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
            return
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
            assert each["attempts"] <= chunks.MAX_ATTEMPTS
            if each["sent_at"] is not None:
                assert (each["id"], each["dispatch_id"]) in self.broker.accepted, "called sent, and was not"

        self.was_completed |= state["status"] == "completed"
        if state["status"] == "paused" or (state["status"] == "active" and self.was_completed):
            self.left_to_schedules = True
        if state["status"] == "active" and not self.left_to_schedules:
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

    def _chunk_of(self, message: Message) -> str | None:
        """The chunk that a message is about, whichever dispatch of it; None for one by hand, or no message at all."""
        try:
            about = chunk_message(message.body)
        except ContractViolation:
            return None
        return about.chunk_id if isinstance(about, Dispatch) else None

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
            waiting = row["status"] == "pending" and row["dispatch_id"] == message.dispatch_id  # type: ignore[union-attr]
            assert not waiting, "a dead letter was removed before its chunk was dealt with"

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
        if self.overtaken:
            self.excuses += len(self.actors)
            self.time_passes(1900, True)
            self.what_waits_is_done_beside_those_who_stand_still()
            self.everything_holds()
        while self.actors:
            self._advance(self.actors[0], 1000)
        # What is on its way is enough, however far that is, unless something was lost or paused.
        for _ in range(14):
            if self.left_to_schedules or not (self.broker.plans or self.broker.chunks):
                break
            self._age(VISIBILITY_SECONDS + 1)
            self._do_what_waits()
        self.somebody_resumes_in_sql()
        for _ in range(14):
            self._age(31 * 60)
            Recovery(self.db, SteppedQueues(self.broker, None)).recover(RecoveryEvent())
            self._run("planner", lambda actor: self._plan(actor, "{}"))
            self._do_what_waits()
            if self._is_at_rest():
                break
        self._assert_equals_github()

    def _do_what_waits(self) -> None:
        while waiting := [*self.broker.visible(self.broker.plans), *self.broker.visible(self.broker.chunks)]:
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
            self._age(25 * 3600)
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
            self.left_to_schedules = True
            return

        def handle(actor: Actor) -> None:
            work(actor, message.body)
            self.broker.acknowledge(queue, message)

        self._begin("worker" if queue is self.broker.chunks else "planner", handle)

    def _advance(self, actor: Actor | None, steps: int, fate: Fate = Fate.go) -> None:
        for _ in range(steps):
            if actor is None or actor.ended:
                break
            actor.advance(fate)
            if actor.name == "worker":
                self._assert_that_nothing_is_half()
        if actor is None or not actor.ended or actor not in self.actors:
            return
        self.actors.remove(actor)
        self.around.idle.append(actor.db)
        if actor.failure is not None and not isinstance(actor.failure, EXPECTED):
            self.failed = True
            raise actor.failure

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
            if outcome == "completed" and isinstance(message, Dispatch):
                self.stored[message.chunk_id] += 1
            assert queues.hasty_plans == 0 or outcome in ("completed", "failed"), f"no brake after {outcome}"
        except ContractViolation as violation:
            queues.bury(body, str(violation))

    def _plan(self, actor: Actor, body: str) -> None:
        queues = SteppedQueues(self.broker, actor)
        planner = Planner(actor.db, self.around.github(actor), queues, lambda: actor.seconds_left)
        request = plan_message(body) if body != "{}" else PlanEvent()
        report = planner.plan(request)
        moved = any(row["pages"] or row["chunks"] or row.get("completed") for row in report["backfills"])
        # A round may also have checked what is completed, and goes on with the rest at once.
        most = 0 if request.repository_id else 1
        assert moved or queues.hasty_plans <= most, f"no brake after {report}"

    def _recover(self, actor: Actor, request: RecoveryEvent) -> None:
        Recovery(actor.db, SteppedQueues(self.broker, actor)).recover(request)

    def _age(self, seconds: int) -> None:
        self.db.execute(_AGE, s=seconds)
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
    logger.setLevel("CRITICAL")  # a line per request of thousands of runs is no help
    with Simulator([], speed=1e6) as simulator:
        shared = Surroundings(database_url, simulator)
        ChunkLife.around = shared
        yield shared
        for each in (shared.db, *shared.idle):
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
    run(capsys, 500, 20, int(os.environ.get("CHUNK_LIFE_SEED", "4")))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_chunks_survive_everything_for_longer(around: Surroundings, capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed each time: it is printed."""
    run(capsys, 5000, 50, int(os.environ.get("CHUNK_LIFE_SEED", random.SystemRandom().randrange(2**32))))
