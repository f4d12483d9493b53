"""Real faults on the deployed stack, all in one backfill: nothing is lost, nothing twice, and little is read again.

Time passes by moving timestamps where AWS would let it pass: SQS shows a dead worker's message after 12 minutes, and
recovery runs every two hours.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from backfill.errors import DatabaseUnavailable
from backfill.store.connection import Database
from local import postgres
from local.simulator import Simulator, generate
from tests.cutting_proxy import Cut, CuttingProxy
from tests.e2e.conftest import Deployed, assert_no_call_is_denied, let_an_hour_pass, running_stack

NAME = "octo/faulty"
PULL_REQUESTS = 360
CHUNK_SIZE = 10
# GitHub, while faults meet work under way and when the last one is over: times its own speed.
SPEED, FAST = 4.0, 100.0
# The retries of chunks and of messages, on a machine that others use too.
PATIENCE_SECONDS = 400
# Longer than a message takes to come back (show_messages_again_after) and a retry to be due.
STANDSTILL_SECONDS = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[CuttingProxy]:
    """What the functions take for Postgres."""
    server = postgres.Postgres(folder / "postgres", keep=True)
    server.create("backfill")
    with CuttingProxy(server.url("backfill")) as proxy:
        yield proxy
    postgres.stop(folder / "postgres")


@pytest.fixture(scope="module")
def deployed(folder: Path, proxy: CuttingProxy) -> Iterator[Deployed]:
    with (
        Simulator(generate(17, {NAME: PULL_REQUESTS}), speed=SPEED) as simulator,
        running_stack(folder, simulator, database_url=proxy.url) as running,
    ):
        yield running


class Faults:
    """What is done to the stack, and what it cost: ``interrupted`` are the pull requests that were being read."""

    def __init__(self, deployed: Deployed, proxy: CuttingProxy) -> None:
        self.proxy = proxy
        self.deployed, self.stack, self.environment = deployed, deployed.stack, deployed.environment
        self.interrupted = 0
        self.simulator = deployed.simulator
        self.db = Database(lambda: self.environment["DATABASE_URL"])

    def show_messages_again_after(self, seconds: int) -> None:
        """The visibility timeout of the queues, which the template sets to 12 minutes."""
        sqs = boto3.client("sqs")
        for name in ("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL"):
            sqs.set_queue_attributes(QueueUrl=self.environment[name], Attributes={"VisibilityTimeout": str(seconds)})

    def wait_for(self, share: float) -> None:
        """Until this share of the pull requests is stored and chunks are being read.

        Messages come back here before leases end, find them taken and are gone, which the template's visibility timeout
        rules out: where nothing is being read for a while, the schedules come.
        """
        busy = time.monotonic()

        def is_there() -> bool:
            nonlocal busy
            if self.processing():
                busy = time.monotonic()
                return self.stored() >= share * PULL_REQUESTS
            if time.monotonic() > busy + STANDSTILL_SECONDS:
                chunks = self.db.rows(
                    "SELECT status, sent_at, available_at, attempts, error_code FROM backfill_chunks WHERE status <> 'completed'"
                )
                planning = self.db.rows(
                    "SELECT s.status, listing_completed_at, planned_at - now() AS planned, plan_requested_at - now() AS requested,"
                    " planner_lease_expires_at - now() AS leased, deferred_until - now() AS deferred,"
                    " free_at - now() AS free, blocked_until - now() AS blocked"
                    " FROM progressive_backfill_state AS s, github_budget"
                )
                print(f"stands still before {share:.0%}: {chunks} {planning}")
                self.recover()
                busy = time.monotonic()
            return False

        self.deployed.wait(f"{share:.0%} stored", is_there, PATIENCE_SECONDS)

    def stored(self) -> int:
        row = self.db.one("SELECT processed_prs FROM progressive_backfill_state")
        return int(row["processed_prs"]) if row else 0

    def processing(self) -> list[dict[str, Any]]:
        return self.db.rows("SELECT id, pr_numbers, claim_token FROM backfill_chunks WHERE status = 'processing'")

    def are_completed(self, chunk_ids: list[str]) -> bool:
        rows = self.db.rows("SELECT id, status FROM backfill_chunks")
        return all(row["status"] == "completed" for row in rows if row["id"] in chunk_ids)

    def read_again(self) -> int:
        return sum(self.simulator.details.values()) - len(self.simulator.details)

    def kill_workers_in_mid_chunk(self) -> list[str]:
        """SIGKILL every worker process, frozen before so that what they were at is seen; the chunks that this stopped."""
        while True:
            pids = self._workers()
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            stopped = self.processing()
            for pid in pids:
                os.kill(pid, signal.SIGKILL if stopped else signal.SIGCONT)
            if stopped:
                # Postgres may have had the COMMIT of one already.
                time.sleep(0.5)
                ended = {each["id"] for each in stopped} - {each["id"] for each in self.processing()}
                stopped = [each for each in stopped if each["id"] not in ended]
            if stopped:
                self.interrupted += sum(len(each["pr_numbers"]) for each in stopped)
                return [each["id"] for each in stopped]
            time.sleep(0.05)

    def _workers(self) -> list[int]:
        """The chunk worker's processes below the local AWS: their environment names the function."""
        state = json.loads(self.stack.file.read_text(encoding="utf-8"))
        below, found = {state["processes"]["ministack"]}, []
        for entry in sorted((e for e in Path("/proc").iterdir() if e.name.isdigit()), key=lambda e: int(e.name)):
            try:
                parent = int((entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue  # it has ended meanwhile
            if parent in below:
                below.add(int(entry.name))
                if b"AWS_LAMBDA_FUNCTION_NAME=progressive-backfill-chunk-worker\0" in environment:
                    found.append(int(entry.name))
        return found

    def terminate_connections_in_mid_transaction(self, most: int) -> int:
        """Whatever the functions had begun in Postgres and not committed; how many."""
        ended = 0
        deadline = time.monotonic() + PATIENCE_SECONDS
        while ended < most and time.monotonic() < deadline and self.stored() < 0.9 * PULL_REQUESTS:
            before = self.processing()
            row = self.db.one(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS n FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_xid IS NOT NULL AND application_name = 'progressive-backfill'"
            )
            if row is not None and row["n"]:
                ended += row["n"]
                self.interrupted += sum(len(each["pr_numbers"]) for each in before)
        return ended

    def lose_commits(self, place: Cut) -> None:
        """Cut two chunks' COMMITs off there: one that was not executed makes its own chunk be read again, and no other."""
        lost = len(self.proxy.cuts) + 2
        self.proxy.cut(place, place)
        self.deployed.wait(f"two connections end {place}", lambda: len(self.proxy.cuts) == lost, PATIENCE_SECONDS)
        if place is Cut.before:
            self.interrupted += 2 * CHUNK_SIZE

    def restart_postgres(self) -> None:
        self.interrupted += sum(len(each["pr_numbers"]) for each in self.processing())
        postgres.stop(self.stack.folder / "postgres")
        time.sleep(3)
        postgres.Postgres(self.stack.folder / "postgres", keep=True)
        self.deployed.wait("Postgres answers", self._answers, 60)

    def _answers(self) -> bool:
        try:
            return self.db.one("SELECT 1 AS one") is not None
        except DatabaseUnavailable:
            return False

    def take_github_away(self, seconds: float) -> None:
        """Nothing listens at its address; then it is back with the same data and counts."""
        old = self.simulator
        self.interrupted += sum(len(each["pr_numbers"]) for each in self.processing())
        port = int(old.url.rsplit(":", 1)[1])
        old.__exit__()
        time.sleep(seconds)
        self.simulator = Simulator(list(old.repositories.values()), speed=old.speed, port=port)
        self.simulator.details = old.details
        self.simulator.__enter__()

    def restart_aws(self) -> None:
        """SIGKILL: queues, functions and schedules are gone. `make up` deploys anew; the database is what is left."""
        self.interrupted += sum(len(each["pr_numbers"]) for each in self.processing())
        state = json.loads(self.stack.file.read_text(encoding="utf-8"))
        os.killpg(state["processes"]["ministack"], signal.SIGKILL)
        while self.stack.running() is not None:
            time.sleep(0.05)
        # The new deployment has secrets of its own: what the old one's functions called is decided by its own parameters.
        assert_no_call_is_denied(self.stack, self.deployed.parameters)
        self.stack.calls.unlink()
        started = self.stack.up()
        self.deployed.parameters = started["parameters"]
        self.environment.update(started["environment"])
        os.environ.update(self.environment)
        self.deployed.sqs = boto3.Session().client("sqs")

    def let_time_pass(self) -> None:
        """An hour for everything; a day for what had failed."""
        let_an_hour_pass(self.db)
        failed = self.db.rows("SELECT number, error_code, error FROM pull_request_gaps WHERE reason = 'failed'")
        if failed:
            print(f"failed for now: {failed}")
            self.db.execute("UPDATE pull_requests SET detail_failed_at = detail_failed_at - interval '1 day'")

    def is_over(self) -> bool:
        return self.deployed.is_completed() and not self.db.rows("SELECT FROM pull_request_gaps")

    def is_over_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_over():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    def recover(self) -> dict[str, Any]:
        self.let_time_pass()
        report = self.deployed.functions.invoke("recovery", {})
        self.deployed.functions.invoke("planner", {})
        return report


@pytest.mark.timeout(2400)
def test_a_backfill_survives_kills_outages_and_restarts(deployed: Deployed, proxy: CuttingProxy) -> None:
    faults = Faults(deployed, proxy)
    try:
        survive(faults, deployed)
    finally:
        faults.db.close()
        if faults.simulator is not deployed.simulator:
            faults.simulator.__exit__()


def survive(faults: Faults, deployed: Deployed) -> None:
    faults.show_messages_again_after(5)
    deployed.functions.invoke("console", {"action": "add", "repository": NAME, "chunk_size": CHUNK_SIZE})

    faults.wait_for(0.03)
    faults.lose_commits(Cut.after)
    faults.wait_for(faults.stored() / PULL_REQUESTS + 0.03)
    assert faults.read_again() == 0, "what was committed is not read again, though nobody was told"
    faults.lose_commits(Cut.before)

    faults.wait_for(0.15)
    killed = faults.kill_workers_in_mid_chunk()
    report = faults.recover()
    assert report["requeued"] >= len(killed) >= 1
    deployed.wait("the killed workers' chunks are read", lambda: faults.are_completed(killed), PATIENCE_SECONDS)
    assert faults.read_again() <= faults.interrupted, "a kill repeats one chunk's work at most"

    faults.wait_for(0.25)
    assert faults.terminate_connections_in_mid_transaction(3) >= 1

    faults.wait_for(0.4)
    faults.restart_postgres()
    faults.recover()

    faults.wait_for(0.55)
    faults.take_github_away(3)
    faults.recover()

    faults.wait_for(0.7)
    faults.restart_aws()
    report = faults.recover()
    assert report["sent"] >= 1, "the queue was lost, and the outbox brings everything back"

    faults.simulator.speed = FAST
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not faults.is_over_within(8) and time.monotonic() < deadline:
        faults.recover()
    assert faults.is_over(), deployed.db.rows("SELECT * FROM backfill_progress")
    assert_nothing_lost_and_nothing_twice(faults)


def assert_nothing_lost_and_nothing_twice(faults: Faults) -> None:
    db = faults.db
    (repository,) = faults.simulator.repositories.values()
    stored = db.rows("SELECT number, title, body FROM pull_requests WHERE gone_at IS NULL ORDER BY number")
    assert [(row["number"], row["title"], row["body"]) for row in stored] == [
        (number, node["title"], node["body"]) for number, node in sorted(repository.pull_requests.items())
    ]
    for table, name in (("reviews", "reviews"), ("commits", "commits"), ("files", "files")):
        expected = sum(len(node[name]) for node in repository.pull_requests.values())
        assert db.one(f"SELECT count(*) AS n FROM {table}") == {"n": expected}
    expected = sum(node["totalCommentsCount"] for node in repository.pull_requests.values())
    assert db.one("SELECT count(*) AS n FROM comments") == {"n": expected}
    assert db.one("SELECT processed_prs, total_prs FROM progressive_backfill_state") == {
        "processed_prs": PULL_REQUESTS,
        "total_prs": PULL_REQUESTS,
    }
    assert db.rows("SELECT * FROM backfill_chunks WHERE status <> 'completed'") == []
    assert db.rows("SELECT * FROM pull_request_gaps") == []
    assert faults.deployed.dead_letters() == 0
    again = faults.read_again()
    print(f"{again} pull requests read again; {faults.interrupted} were being read when something broke")
    assert again <= faults.interrupted
