"""A dry run writes nothing, and its forecast matches a real run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pg8000.exceptions import DatabaseError

from backfill.errors import ContractViolation, Permanent
from backfill.messages import PlanEvent
from backfill.store.connection import Database
from local.fleet import Fleet
from local.in_process import Stack
from local.light import light
from local.simulator import Simulator, generate

SMALL, LARGE = "octo/small", "octo/large"
DRY = PlanEvent(dry_run=True)
_HALF_WAY = """
    SELECT FROM progressive_backfill_state
    WHERE status = 'active' AND listing_completed_at IS NOT NULL AND processed_prs BETWEEN 60 AND 120
"""


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Simulator(generate(23, {SMALL: 130, LARGE: 560}), speed=5000) as simulator:
        yield Stack(db, simulator)


def whole_database(db: Database) -> dict[str, list[str]]:
    """Every row of every table, with the transaction that wrote it: a write shows even if it changed nothing."""
    tables = db.rows("SELECT relname::text AS name FROM pg_stat_user_tables ORDER BY relname")
    return {
        table["name"]: [
            row["text"]
            for row in db.rows(f"SELECT t.xmin || ' ' || t.*::text AS text FROM {table['name']} AS t ORDER BY 1")
        ]
        for table in tables
    }


@pytest.mark.parametrize("when", ["before anything is listed", "half way", "at the end"])
def test_a_dry_run_writes_nothing_anywhere(stack: Stack, when: str) -> None:
    stack.add(SMALL)
    if when == "half way":
        stack.plan_once()
        for _ in range(3):
            stack.work_once()
    if when == "at the end":
        stack.run()
    before = whole_database(stack.db)
    queued = (list(stack.queues.plans), list(stack.queues.chunks), list(stack.queues.dead))
    for request in (
        DRY,
        PlanEvent(dry_run=True, repository=SMALL, chunk_size=10, max_chunks=3),
        PlanEvent(dry_run=True, repository_id=stack.state(SMALL)["repository_id"]),
        PlanEvent(dry_run=True, repository=LARGE),
    ):
        answer = stack.forecaster.forecast(request).as_json()
        assert answer["dry_run"]
    assert whole_database(stack.db) == before
    assert (stack.queues.plans, stack.queues.chunks, stack.queues.dead) == queued


def test_postgres_itself_refuses_a_write_in_a_dry_run(stack: Stack) -> None:
    with pytest.raises(DatabaseError, match="read-only transaction"), stack.db.reading():
        stack.db.execute("UPDATE github_budget SET remaining = 0")


def test_a_listed_repository_is_forecast_without_asking_github(stack: Stack) -> None:
    stack.add(LARGE)
    while stack.queues.plans:
        stack.plan_once()
    served = stack.simulator.statistics()["requests"]
    (row,) = stack.forecaster.forecast(DRY).as_json()["backfills"]
    assert (row["pull_requests_to_list"], row["pull_requests_to_detail"], row["basis"]) == (0, 560, "listed sizes")
    assert stack.simulator.statistics()["requests"] == served


@pytest.mark.parametrize(("name", "begin"), [(SMALL, "untracked"), (SMALL, "listed"), (LARGE, "untracked")])
def test_points_and_github_s_time_are_foreseen(stack: Stack, name: str, begin: str) -> None:
    """Within 15 % of the points that the backfill then took, and 25 % of GitHub's time."""
    if begin != "untracked":
        stack.add(name)
    if begin == "listed":
        stack.plan_once()
    already = stack.state(name)["points_spent"] if begin == "listed" else 0
    (row,) = stack.forecaster.forecast(PlanEvent(dry_run=True, repository=name)).as_json()["backfills"]
    if begin == "untracked":
        assert (row["status"], row["repository_id"], stack.db.rows("SELECT FROM repositories")) == (
            "untracked",
            None,
            [],
        )
        stack.add(name)
    assert row["basis"].startswith("a sample of" if name == LARGE else "listed sizes")
    before = stack.simulator.statistics()["server_milliseconds"]
    stack.run()
    took = stack.state(name)["points_spent"] - already
    assert abs(row["points"] - took) <= 0.15 * took
    seconds = (stack.simulator.statistics()["server_milliseconds"] - before) / 1000
    assert abs(row["server_seconds"] - seconds) <= 0.25 * seconds
    done = stack.db.rows("SELECT FROM backfill_chunks WHERE status = 'completed'")
    assert abs(row["chunks"] - len(done)) <= max(2, 0.15 * len(done))


def test_a_repository_that_does_not_exist_is_an_error(stack: Stack) -> None:
    with pytest.raises(Permanent, match="octo/nowhere"):
        stack.forecaster.forecast(PlanEvent(dry_run=True, repository="octo/nowhere"))
    with pytest.raises(ContractViolation, match="has no backfill"):
        stack.forecaster.forecast(PlanEvent(dry_run=True, repository_id="00000000-0000-0000-0000-000000000000"))


def test_the_finish_that_is_foreseen_is_when_it_ends(database_url: str, db: Database) -> None:
    """A real run of four workers: from half way, a dry run is within 25 % of the clock.

    GitHub's time is nearly all of it. Where this machine's own time changes in the middle of a run, another run tells.
    """
    ratios: list[float] = []
    for name in (f"octo/{attempt}" for attempt in "abc"):
        with (
            Simulator(light(240, name), speed=3) as simulator,
            Fleet(database_url, simulator.url, workers=4) as fleet,
        ):
            fleet.add(name)
            assert fleet.wait(lambda db: bool(db.rows(_HALF_WAY)), 120)
            (row,) = (
                Stack(db, simulator)
                .forecaster.forecast(PlanEvent(dry_run=True, repository=name))
                .as_json()["backfills"]
            )
            foreseen = datetime.fromisoformat(row["finish"])
            began = foreseen - timedelta(seconds=row["seconds"])
            assert fleet.completed(300)
            ratios.append((datetime.now(UTC) - began) / (foreseen - began))
        if abs(ratios[-1] - 1) <= 0.25:
            return
        # The next one has no pace of the last hour to go by either.
        db.execute("TRUNCATE repositories, github_budget CASCADE")
    raise AssertionError(f"runs took {ratios} times what was foreseen")
