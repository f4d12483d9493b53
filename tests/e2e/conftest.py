"""The real template on the local AWS, for tests: `running_stack` deploys it, `Deployed` looks into it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from backfill.store.connection import Database
from cli.stack import DeployedStack
from local import aws_calls
from local.iam import Access, Place
from local.in_process import differences
from local.simulator import Simulator
from local.stack import STACK_NAME, Stack
from local.template import shape


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
        """Messages in the dead-letter queue."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.environment["DEAD_LETTER_QUEUE_URL"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def finish(self, seconds: float) -> None:
        """Until all backfills are completed. Where nothing is stored for a while, the schedules come, an hour later."""
        deadline, stored = time.monotonic() + seconds, -1
        while not self.is_completed() and time.monotonic() < deadline:
            time.sleep(5)
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
def running_stack(
    folder: Path, simulator: Simulator, *, schedule: str = "rate(30 minutes)", database_url: str | None = None
) -> Iterator[Deployed]:
    """Deploy to a local AWS with a Postgres of its own, unless there is one, against this simulator; this process's
    environment reaches it."""
    before = dict(os.environ)
    stack = Stack(folder, {"PlannerSchedule": schedule}, records_calls=True)
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
        stack.down()
        os.environ.clear()
        os.environ.update(before)
