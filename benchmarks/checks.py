"""Checks of 100,000 completed repositories: the database's time for each that is due, and the points of each hour.

Time passes by moving the times in the database. GitHub's points are those that the simulator counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

from backfill.github.client import GitHub
from backfill.limits import CHECK_SHARE
from backfill.messages import PlanEvent
from backfill.planner.run import Planner
from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.figures import Figure
from benchmarks.scale import FLAT, RecordingDatabase
from local.memory_queue import MemoryQueues
from local.simulator import Repository, Simulator, generate

SMALL, LARGE = 10_000, 100_000
# Due at both sizes, as one of a hundred thousand is at a quiet moment.
DUE = 2_000
# Days for which nothing has changed, and how many of a hundred repositories.
MIXED = {1: 5, 14: 10, 400: 85}
ALL_ACTIVE = {1: 100}
# The longest time between two checks, in heartbeats.
HEARTBEATS, HEARTBEATS_AN_HOUR = 16, 2
SHARE_OF_POINTS = CHECK_SHARE * 5000

# next_check_at is spread over the interval of the rule, as it is after some days.
_LOAD = """
    WITH r AS (
        INSERT INTO repositories (node_id, github_id, owner, name, url, is_private, is_fork, is_archived, default_branch,
                                  github_created_at)
        SELECT * FROM unnest(CAST(:node_ids AS text[]), CAST(:github_ids AS bigint[]), CAST(:owners AS text[]),
                             CAST(:names AS text[]), CAST(:urls AS text[])),
               LATERAL (VALUES (false, false, false, 'main', CAST('2018-01-01Z' AS timestamptz))) AS same
        RETURNING id, node_id, github_id)
    INSERT INTO progressive_backfill_state (
        repository_id, total_prs, listed_prs, current_prs, processed_prs, status, listing_started_at, listing_completed_at,
        updates_watermark, examined_at, created_at, last_processed_at, next_check_at)
    SELECT r.id, 1, 1, 1, 1, 'completed', now() - interval '99 days', now() - interval '99 days', w.at, now(),
           now() - interval '100 days', now() - interval '98 days',
           now() + CASE WHEN now() - w.at < interval '7 days' THEN interval '0' WHEN now() - w.at < interval '28 days'
                        THEN interval '4 hours' ELSE interval '8 hours' END * (r.github_id % 997 / 997.0)
    FROM r JOIN unnest(CAST(:node_ids AS text[]), CAST(:watermarks AS timestamptz[])) AS w(node_id, at) USING (node_id)
"""
_LATER = """
    UPDATE progressive_backfill_state SET examined_at = examined_at - interval '30 minutes',
           asked_at = asked_at - interval '30 minutes', next_check_at = next_check_at - interval '30 minutes'
"""
_NEXT_HOUR = "UPDATE github_hours SET check_points = 0"
_ONLY_SOME_DUE = """
    UPDATE progressive_backfill_state AS s SET next_check_at = now() + interval '1 hour' * CASE WHEN n.place <= :due THEN -1 ELSE 1 END
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM progressive_backfill_state) AS n WHERE n.id = s.id
"""
_OLDEST = "SELECT CAST(EXTRACT(epoch FROM max(now() - examined_at)) / 3600 AS float8) AS hours FROM progressive_backfill_state"


def measure() -> list[Figure]:
    """Milliseconds for a due repository at both sizes, then points an hour for two mixtures of activity."""
    figures, each = [], {}
    with setting.postgres() as server:
        for count in (SMALL, LARGE):
            server.run(f"CREATE DATABASE due_{count} TEMPLATE migrated")
            each[count] = _milliseconds_each(partial(server.url, f"due_{count}"), count)
            figures.append(Figure("checks", f"database, for one that is due among {count:,}", each[count], "ms"))
        figures.append(Figure("checks", "100,000 / 10,000 completed", each[LARGE] / each[SMALL], "×", FLAT))
        for name, mixture, heartbeats in (("mixed", MIXED, HEARTBEATS), ("all changed lately", ALL_ACTIVE, 2)):
            database = name.replace(" ", "_")
            server.run(f"CREATE DATABASE {database} TEMPLATE migrated")
            figures += _points(partial(server.url, database), name, mixture, heartbeats)
    return figures


def _repositories(count: int, mixture: Mapping[int, int]) -> list[Repository]:
    """One and the same repository, as often as it takes, last changed so many days ago."""
    (sample,) = generate(2, {"scale/sample": 1})
    ((number, pull_request),) = sample.pull_requests.items()
    days = [day for day, share in mixture.items() for _ in range(share)]
    changed = {
        day: {**pull_request, "updatedAt": f"{datetime.now(UTC) - timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}"}
        for day in mixture
    }
    return [
        Repository(
            {
                **sample.node,
                "id": f"R_scale_{index}",
                "databaseId": index,
                "nameWithOwner": f"scale/r{index}",
                "name": f"r{index}",
                "url": f"https://github.com/scale/r{index}",
            },
            {number: changed[days[index % 100]]},
        )
        for index in range(1, count + 1)
    ]


def _load(db: Database, found: list[Repository]) -> None:
    """With triggers off: they would count the pull requests, which are not there."""
    db.execute("SET session_replication_role = replica")
    db.execute(
        _LOAD,
        node_ids=[each.node["id"] for each in found],
        github_ids=[each.node["databaseId"] for each in found],
        owners=["scale"] * len(found),
        names=[each.node["name"] for each in found],
        urls=[each.node["url"] for each in found],
        watermarks=[next(iter(each.pull_requests.values()))["updatedAt"] for each in found],
    )
    db.execute("SET session_replication_role = origin")
    db.execute("ANALYZE")


def _milliseconds_each(url: partial[str], count: int) -> float:
    found = _repositories(count, {400: 100})
    with closing(RecordingDatabase(url)) as db, Simulator(found, speed=setting.SPEED) as simulator:
        _load(db, found)
        db.execute(_ONLY_SOME_DUE, due=DUE)
        db.execute("ANALYZE")
        before = db.seconds
        _heartbeat(db, setting.client(simulator, db))
        _assert_checked(db, DUE)
        return 1000 * (db.seconds - before) / DUE


def _points(url: partial[str], name: str, mixture: Mapping[int, int], heartbeats: int) -> list[Figure]:
    found = _repositories(LARGE, mixture)
    hours: list[int] = []
    with closing(Database(url)) as db, Simulator(found, speed=setting.SPEED) as simulator:
        _load(db, found)
        github = setting.client(simulator, db)
        # Asks whose the token is, which is not a check.
        github.token_facts()
        for heartbeat in range(heartbeats):
            if heartbeat % HEARTBEATS_AN_HOUR == 0:
                hours.append(0)
                db.execute(_NEXT_HOUR)
            before = simulator.statistics()["points"]
            _heartbeat(db, github)
            hours[-1] += simulator.statistics()["points"] - before
            for statement in (
                "SET session_replication_role = replica",
                _LATER,
                "SET session_replication_role = origin",
            ):
                db.execute(statement)
        oldest = db.only(_OLDEST)["hours"]
    return [
        Figure("checks", f"100,000, {name}: points in the fullest hour", max(hours), "points", SHARE_OF_POINTS),
        Figure("checks", f"100,000, {name}: points in an hour, mean", sum(hours) / len(hours), "points"),
        Figure("checks", f"100,000, {name}: oldest check at the end", oldest, "h", 24.0),
    ]


def _heartbeat(db: Database, github: GitHub) -> None:
    """A whole round, with the messages that continue it."""
    queues = MemoryQueues()
    planner = Planner(db, github, queues, lambda: 600.0)
    report = planner.plan(PlanEvent())
    while queues.plans:
        queues.plans.clear()
        report = planner.plan(PlanEvent(is_message=True))
    if report.backfills or report.reopened:
        raise AssertionError(f"the planner found something to do: {str(report)[:500]}")


def _assert_checked(db: Database, count: int) -> None:
    checked = db.only("SELECT count(*) AS n FROM progressive_backfill_state WHERE asked_at IS NOT NULL")["n"]
    if checked != count:
        raise AssertionError(f"{checked:,} were checked, {count:,} were due")
