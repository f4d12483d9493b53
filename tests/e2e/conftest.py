"""The real template on the local AWS, for tests: `one_stack` and `running_stack` deploy it, `Deployed` looks into it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from backfill.store.connection import Database
from cli.stack import DeployedStack
from local import aws_calls
from local.iam import Access, Place
from local.in_process import differences
from local.simulator import App, Simulator
from local.simulator.data import Repository
from local.stack import STACK_NAME, Stack, free_port
from local.template import shape

# Rows of the deployment and of its token. All other rows belong to backfills.
KEPT_TABLES = ("alembic_version", "github_budget", "github_tokens")
QUEUES = ("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL")


class Deployed:
    """A running stack, its simulator, and ways to look into it."""

    def __init__(
        self, stack: Stack, environment: dict[str, str], simulator: Simulator, parameters: Mapping[str, str]
    ) -> None:
        self.parameters = parameters
        self.stack, self.environment, self.simulator = stack, environment, simulator
        self.db = Database(lambda: environment["DATABASE_URL"])
        self.functions = DeployedStack(STACK_NAME)
        self.sqs = boto3.client("sqs")

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = 120) -> None:
        """Until it holds; the test fails with the state of the backfills if it does not come to that."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                state = self.db.rows("SELECT * FROM backfill_progress")
                raise AssertionError(f"after {seconds} s not: {what}; {state}")
            time.sleep(0.3)

    def is_completed(self) -> bool:
        """Whether there are backfills, and all of them are completed."""
        rows = self.db.rows("SELECT status FROM progressive_backfill_state")
        return bool(rows) and all(row["status"] == "completed" for row in rows)

    def dead_letters(self) -> int:
        """Messages in the dead-letter queue, also those that somebody looks at."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.environment["DEAD_LETTER_QUEUE_URL"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def empty(self) -> None:
        """Delete all repositories, backfills and messages."""
        tables = self.db.rows(
            "SELECT string_agg(format('%I', tablename), ', ') AS names FROM pg_tables"
            " WHERE schemaname = current_schema() AND tablename <> ALL (CAST(:kept AS text[]))",
            kept=list(KEPT_TABLES),
        )
        self.db.execute(f"TRUNCATE {tables[0]['names']}")
        self.db.execute("UPDATE github_budget SET blocked_until = NULL, free_at = NULL")
        for queue in QUEUES:
            self.sqs.purge_queue(QueueUrl=self.environment[queue])

    def set_heartbeat(self, state: str) -> None:
        """ENABLED or DISABLED: whether the schedule invokes the planner."""
        scheduler = boto3.client("scheduler")
        for each in scheduler.list_schedules()["Schedules"]:
            found = scheduler.get_schedule(Name=each["Name"])
            if found["Target"]["Arn"].endswith("-planner") and found["State"] != state:
                same = {name: found[name] for name in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
                scheduler.update_schedule(**same, State=state)

    def finish(self, seconds: float) -> None:
        """Until all backfills are completed. Where nothing is stored for a while, the schedules come, an hour later."""
        deadline, stored = time.monotonic() + seconds, -1
        while not self.is_completed() and time.monotonic() < deadline:
            time.sleep(2)
            before, stored = (
                stored,
                sum(
                    row["processed_prs"] for row in self.db.rows("SELECT processed_prs FROM progressive_backfill_state")
                ),
            )
            if stored == before:
                let_an_hour_pass(self.db)
                self.functions.invoke("recovery", {})
                self.functions.invoke("planner", {})
        self.wait("all backfills are completed", self.is_completed, 1)

    def assert_whole(self) -> None:
        """The one backfill is completed; nothing is lost, nothing there twice, nothing left over."""
        assert differences(self.db, self.simulator) == []
        (row,) = self.db.rows("SELECT processed_prs, total_prs, status FROM progressive_backfill_state")
        (repository,) = self.simulator.repositories.values()
        total = len(repository.pull_requests)
        assert row == {"processed_prs": total, "total_prs": total, "status": "completed"}
        assert self.db.rows("SELECT * FROM backfill_chunks WHERE status <> 'completed'") == []
        assert self.db.rows("SELECT * FROM pull_request_gaps") == []
        assert self.dead_letters() == 0


def let_an_hour_pass(db: Database) -> None:
    """For leases, pauses of the system, and what was sent and should have come."""
    db.execute(
        "UPDATE backfill_chunks SET started_at = started_at - interval '1 hour', sent_at = sent_at - interval '1 hour',"
        " available_at = available_at - interval '1 hour', lease_expires_at = lease_expires_at - interval '1 hour'"
        " WHERE status IN ('pending', 'processing')"
    )
    db.execute(
        "UPDATE progressive_backfill_state SET paused_until = paused_until - interval '1 hour',"
        " plan_requested_at = plan_requested_at - interval '1 hour',"
        " planner_lease_expires_at = planner_lease_expires_at - interval '1 hour'"
    )
    db.execute("UPDATE github_budget SET blocked_until = NULL, free_at = NULL")


def stack_access(parameters: Mapping[str, str]) -> Access:
    """The permissions of the template, deployed to the local AWS with these parameters."""
    return Access(shape(**parameters), Place(STACK_NAME))


def assert_no_call_is_denied(stack: Stack, parameters: Mapping[str, str]) -> None:
    """The local AWS allows everything; what the functions called is held against their roles."""
    access = stack_access(parameters)
    calls = aws_calls.read(stack.calls)
    # Nobody deploys without the migrator, which reads its secret.
    assert f"{STACK_NAME}-migrator" in {each.function for each in calls}, "no call was recorded"
    requests = aws_calls.of_functions(access, calls) | aws_calls.of_aws(access)
    denied = [refusal for each in requests if (refusal := access.refusal(each)) is not None]
    assert not denied, f"IAM would deny: {sorted(denied)}"


@contextmanager
def reached_stack(stack: Stack, simulator: Simulator, database_url: str | None = None) -> Iterator[Deployed]:
    """Deploy the stack if it does not run, with a Postgres of its own unless there is one, against this simulator.

    The environment of this process reaches it. The stack stays.
    """
    before = dict(os.environ)
    for name in ("DATABASE_URL", "AWS_PROFILE"):
        os.environ.pop(name, None)
    if database_url:
        os.environ["DATABASE_URL"] = database_url
    os.environ.update(GITHUB_TOKEN="ghp_e2e", GITHUB_API_URL=simulator.url)
    try:
        state = stack.up()
        os.environ.update(state["environment"])
        running = Deployed(stack, state["environment"], simulator, state["parameters"])
        try:
            yield running
        finally:
            running.db.close()
        assert_no_call_is_denied(stack, running.parameters)
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def running_stack(
    folder: Path, simulator: Simulator, *, schedule: str = "rate(30 minutes)", database_url: str | None = None
) -> Iterator[Deployed]:
    """A stack of its own, for tests that break it."""
    stack = Stack(folder, {"PlannerSchedule": schedule}, records_calls=True)
    try:
        with reached_stack(stack, simulator, database_url) as running:
            yield running
    finally:
        stack.down()


class OneStack:
    """A stack for all files that do not break it, with a heartbeat each minute. It is deployed when it is first lent."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder, {"PlannerSchedule": "rate(1 minute)"}, records_calls=True)
        # The deployed functions know the simulator by its address.
        self._port = free_port()

    @contextmanager
    def lent(
        self,
        repositories: list[Repository],
        *,
        speed: float,
        token: str | None = None,
        app: App | None = None,
        heartbeat: str = "ENABLED",
    ) -> Iterator[Deployed]:
        """The stack without repositories and messages, and a simulator that holds these repositories."""
        with (
            Simulator(repositories, speed=speed, token=token, app=app, port=self._port) as simulator,
            reached_stack(self.stack, simulator) as running,
        ):
            running.empty()
            running.set_heartbeat(heartbeat)
            yield running


@pytest.fixture(scope="session")
def one_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneStack]:
    one = OneStack(tmp_path_factory.mktemp("one-stack"))
    yield one
    one.stack.down()
