"""What was done in each hour: counted by the database and the governor during a run, for the plots of the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backfill.store import activity
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate


def test_the_hours_of_a_run_have_its_pull_requests_points_chunks_and_server_time(db: Database) -> None:
    with Simulator(generate(3, {"octo/hello": 80, "octo/world": 40}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.add("octo/hello")
        stack.add("octo/world")
        stack.run()
        served = simulator.served["requests"]
    since = datetime.now(UTC) - timedelta(hours=3)
    states = db.rows("SELECT id, current_prs, points_spent FROM progressive_backfill_state ORDER BY total_prs")
    for state in states:
        worked = activity.worked(db, "hour", since, state["id"])
        assert sum(each.pull_requests for each in worked) == state["current_prs"] > 0
        assert sum(each.points for each in worked) == state["points_spent"] > 0
        chunks = db.only("SELECT count(*) AS n FROM backfill_chunks WHERE backfill_state_id = :id", id=state["id"])
        assert sum(each.chunks for each in worked) == chunks["n"] > 0
        assert {each.server_seconds for each in worked} == {None}
    together = activity.worked(db, "day", since)
    assert sum(each.pull_requests for each in together) == 120
    assert sum(each.points for each in together) == sum(state["points_spent"] for state in states)
    noted = db.only("SELECT sum(requests) AS requests, sum(server_seconds) AS seconds FROM github_hours")
    assert sum(each.server_seconds or 0 for each in together) == noted["seconds"] > 0
    # Whose the token is was asked before there was an identity to note it for.
    assert noted["requests"] == served - 1


def test_the_first_work_of_an_hour_deletes_what_is_older_than_ninety_days(db: Database) -> None:
    with Simulator(generate(3, {"octo/hello": 10}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.add("octo/hello")
        db.execute(
            "INSERT INTO backfill_hours SELECT s.id, now() - make_interval(days => d), 1, 1"
            " FROM progressive_backfill_state AS s, unnest(ARRAY[91, 89]) AS d"
        )
        db.execute(
            "INSERT INTO github_hours SELECT identity, now() - make_interval(days => d), 1, 1"
            " FROM github_budget, unnest(ARRAY[91, 89]) AS d"
        )
        db.execute("DELETE FROM github_hours WHERE hour > now() - interval '1 day'")
        stack.run()
    for table in ("backfill_hours", "github_hours"):
        old = db.rows(f"SELECT FROM {table} WHERE hour < now() - interval '1 day'")
        assert len(old) == 1, table
    db.execute("DELETE FROM progressive_backfill_state")
    assert db.rows("SELECT FROM backfill_hours") == []
