"""The heartbeat's levels on a real Postgres: backfills that stand still, lack access or wait. Idle runs do not count as progress."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from backfill.messages import PlanEvent, RecoveryEvent, chunk_message
from backfill.observability import LEVELS, metrics
from backfill.overview import overview
from backfill.store import backfills, chunks, completed, leases, levels, progress, repositories
from backfill.store.connection import Database
from local.in_process import Stack
from local.memory_queue import MemoryQueues
from tests.integration.rows import REPOSITORY
from tests.integration.test_main_job import stack

__all__ = ["stack"]


def tracked(db: Database, number: int, *, total: int = 100) -> dict[str, Any]:
    repository = repositories.upsert(
        db, {**REPOSITORY, "node_id": f"R_{number}", "github_id": number, "name": f"repository-{number}"}
    )
    return asdict(backfills.add(db, repository.id, total_prs=total, chunk_size=None, metadata={}).backfill)


def set_back(db: Database, backfill: dict[str, Any], hours: float) -> None:
    db.execute(
        "UPDATE progressive_backfill_state SET progressed_at = now() - make_interval(secs => CAST(:hours AS float8) * 3600)"
        " WHERE id = CAST(:id AS uuid)",
        id=backfill["id"],
        hours=hours,
    )


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The metrics that the invocations printed since the last look, by name: the newest value."""
    values: dict[str, Any] = {}
    for line in capsys.readouterr().out.splitlines():
        if '"CloudWatchMetrics"' in line:
            document = json.loads(line)
            for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                values[metric["Name"]] = document[metric["Name"]][-1]
    return values


def test_every_level_is_declared_and_read_by_somebody(db: Database) -> None:
    # The governor notes PointsLeft with each reply, recovery DeadLettersLeft.
    assert levels.read(db).keys() | {"PointsLeft", "DeadLettersLeft"} == LEVELS.keys()
    assert set(levels.read(db).values()) == {0}


def test_a_backfill_that_is_active_and_does_not_come_forward_stands_still(db: Database) -> None:
    still, moving, resting, waiting = (tracked(db, number) for number in range(4))
    for each in (still, moving, resting, waiting):
        set_back(db, each, progress.STALLED_HOURS + 0.1)
    db.execute("UPDATE progressive_backfill_state SET current_prs = 1 WHERE id = CAST(:id AS uuid)", id=moving["id"])
    backfills.pause(db, resting["id"], "manual", minutes=None)
    # A planner run that finds nothing, and errors, are not progress: green runs kept the old script idle for two months.
    held = leases.take(db, still["id"], 60)
    assert held is not None
    leases.end(db, held, has_progressed=False)
    backfills.record_error(db, still["id"], "boom", pause_minutes=60)
    db.execute("UPDATE progressive_backfill_state SET current_prs = 0 WHERE id = CAST(:id AS uuid)", id=moving["id"])
    set_back(db, waiting, progress.STALLED_HOURS - 0.1)
    found = levels.read(db)
    assert (found["ActiveBackfills"], found["StalledBackfills"]) == (3, 1)
    assert found["PullRequestsLeft"] == 300


@pytest.mark.parametrize(
    ("reason", "trouble", "access"),
    [("manual", 0, 0), ("consecutive_errors", 1, 0), ("bad_credentials", 1, 1), ("repository_unavailable", 1, 1)],
)
def test_pauses_are_told_apart(db: Database, reason: str, trouble: int, access: int) -> None:
    backfills.pause(db, tracked(db, 1)["id"], reason, minutes=60)
    found = levels.read(db)
    assert (found["BackfillsInTrouble"], found["BackfillsWithoutAccess"]) == (trouble, access)


def test_chunks_that_wait_and_claims_that_outlived_their_lease(db: Database) -> None:
    backfill = tracked(db, 1)
    waiting, held = (chunks.create(db, backfill["id"], [number]) for number in (1, 2))
    assert chunks.claim(db, held.dispatch, 60) is not None
    db.execute(
        "UPDATE backfill_chunks SET available_at = now() - interval '100 seconds' WHERE id = CAST(:id AS uuid)",
        id=waiting.id,
    )
    found = levels.read(db)
    assert (found["UnfinishedChunks"], found["ExpiredLeases"]) == (2, 0)
    assert 100 <= found["OldestPendingChunk"] < 1000
    db.execute("UPDATE backfill_chunks SET lease_expires_at = now() - interval '1 second' WHERE status = 'processing'")
    assert levels.read(db)["ExpiredLeases"] == 1
    backfills.pause(db, backfill["id"], "manual", minutes=None)
    assert levels.read(db)["OldestPendingChunk"] == 0


def test_a_completed_backfill_whose_check_is_late_is_a_level_and_trouble(db: Database) -> None:
    """Its token may be revoked: no chunk can notice that while there is no work."""
    _, old, resting = (tracked(db, number) for number in range(3))
    db.execute("UPDATE progressive_backfill_state SET status = 'completed', examined_at = now()")
    assert levels.read(db)["CheckLag"] < 60
    check = "UPDATE progressive_backfill_state SET examined_at = now() - interval '7 hours', next_check_at = {} WHERE id = CAST(:id AS uuid)"
    db.execute(check.format("now() - interval '4 hours'"), id=old["id"])
    # Nothing changed there for weeks, and its check is not due yet.
    db.execute(check.format("now() + interval '1 hour'"), id=resting["id"])
    assert 4 * 3600 <= levels.read(db)["CheckLag"] < 4 * 3600 + 60
    told = {each.progress.repository: each.condition for each in overview(db, MemoryQueues()).backfills}
    assert [told[f"octo/repository-{number}"].code for number in range(3)] == ["completed", "unchecked", "completed"]
    assert told["octo/repository-0"].why.startswith("checked for changes at 20")
    assert told["octo/repository-2"].why.endswith("(7 h 0 min ago)")
    assert told["octo/repository-1"].kind == "trouble"
    # GitHub was asked in vain: the check stays late.
    completed.note_unchecked(db, old["id"], "no answer")
    assert 4 * 3600 <= levels.read(db)["CheckLag"] < 4 * 3600 + 60


def test_completed_backfills_and_chunks_cost_the_heartbeat_nothing(db: Database) -> None:
    db.execute(
        "INSERT INTO repositories (node_id, owner, name) SELECT 'R_' || n, 'octo', 'r' || n FROM generate_series(1, 3000) AS n"
    )
    db.execute(
        "INSERT INTO progressive_backfill_state (repository_id, status) SELECT id, 'completed' FROM repositories"
    )
    db.execute("ANALYZE")
    plan = "\n".join(row["QUERY PLAN"] for row in db.rows(f"EXPLAIN {levels._LEVELS}", stalled_hours=2))
    assert "backfills_unfinished" in plan
    assert "Seq Scan on progressive_backfill_state" not in plan


def test_the_heartbeat_tells_before_it_works_and_a_pause_tells_at_once(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.console.act({"action": "add", "repository": "octo/medium"})
    metrics.flush_metrics()
    printed(capsys)
    stack.planner.plan(PlanEvent())
    metrics.flush_metrics()
    assert printed(capsys)["ActiveBackfills"] == 1
    stack.simulator.tokens.personal = "another"
    body = stack.queues.chunks[0]
    assert stack.worker.handle(chunk_message(body), body) == "paused"
    metrics.flush_metrics()
    noted = printed(capsys)
    assert (noted["BackfillsPaused"], noted["BackfillsWithoutAccess"], noted["RequestsRefused"]) == (1, 1, 1)
    stack.recovery.recover(RecoveryEvent())
    metrics.flush_metrics()
    assert printed(capsys)["DeadLettersLeft"] == 0
