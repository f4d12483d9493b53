"""A whole organisation of 300 repositories beside another one, each with its installation, against the forecast of half way."""

from __future__ import annotations

import random
from datetime import datetime
from statistics import median

import pytest

from backfill.messages import PlanEvent
from backfill.store.connection import Database
from local.fleet import Fleet
from local.in_process import Stack, differences
from local.simulator import Installation, Simulator, generate
from local.simulator.app_keys import AppKeys

LARGE, SMALL = "acme", "globex"
# Times as fast as GitHub. The machine's own work must stay small beside GitHub's time.
SPEED = 4.0
WORKERS = 16
MOST_SECONDS = 3000
# A page of 100 costs a point, and another request says whose the repositories are.
MOST_POINTS_OF_ADD = 15
# As tests/integration/test_forecasting.py holds a forecast of one repository.
POINTS, FINISH = 0.15, 0.25

_HALF_WAY = """
    SELECT count(*) FILTER (WHERE listing_completed_at IS NULL) AS unlisted, count(*) FILTER (WHERE status = 'active') AS active,
           sum(processed_prs) AS processed, sum(total_prs) AS total
    FROM progressive_backfill_state
"""
_FINISHED = """
    SELECT r.owner || '/' || r.name AS repository, r.owner, s.last_processed_at AS at, s.total_prs
    FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id
"""


def sizes(owner: str, count: int, largest: int, seed: int) -> dict[str, int]:
    """Pull requests by repository: most have few, one has ``largest``."""
    rng = random.Random(seed)
    some = [max(5, min(400, int(rng.lognormvariate(2.5, 1.0)))) for _ in range(count - 1)]
    return {f"{owner}/r{index:03}": size for index, size in enumerate([largest, *some])}


def half_way(db: Database) -> bool:
    row = db.only(_HALF_WAY)
    # A dry run foresees 200 backfills.
    return not row["unlisted"] and row["active"] <= 200 and row["processed"] >= 0.4 * row["total"]


@pytest.mark.soak
def test_an_organisation_of_300_repositories_completes_as_foreseen(database_url: str, db: Database) -> None:
    keys = AppKeys.generate()
    repositories = generate(3, {**sizes(LARGE, 300, 3000, 1), **sizes(SMALL, 60, 1500, 2)})
    for each in repositories:
        each.set(isPrivate=True)
    installations = Installation(LARGE, 1), Installation(SMALL, 2)
    with (
        Simulator(repositories, speed=SPEED, app=keys.app(*installations)) as simulator,
        Fleet(database_url, simulator.url, workers=WORKERS, secret=keys.secret) as fleet,
    ):
        assert fleet.follow(LARGE)["joined"] == 300
        assert simulator.served["points"] <= MOST_POINTS_OF_ADD
        assert fleet.follow(SMALL)["joined"] == 60
        assert fleet.wait(half_way, MOST_SECONDS)
        before = db.only("SELECT sum(points_spent) AS points, now() AS at FROM progressive_backfill_state")
        forecast = Stack(db, simulator, secret=keys.secret).forecaster.forecast(PlanEvent(dry_run=True)).as_json()
        assert fleet.completed(MOST_SECONDS)
    assert differences(db, simulator) == []
    assert (simulator.served["primary_limits"], simulator.served["secondary_limits"]) == (0, 0)

    spent = db.only("SELECT sum(points_spent) AS points FROM progressive_backfill_state")["points"] - before["points"]
    foreseen = {row["repository"]: row for row in forecast["backfills"]}
    print(f"points: foreseen {forecast['total']['points']}, spent {spent}; {len(foreseen)} backfills left")
    done = {row["repository"]: row for row in db.rows(_FINISHED)}
    errors = []
    for owner, installation in zip((LARGE, SMALL), installations, strict=True):
        its = [row for name, row in foreseen.items() if name.startswith(f"{owner}/")]
        assert {row["identity"] for row in its} == {f"installation:{installation.id}"}
        expected = max(row["seconds"] for row in its)
        took = max((done[row["repository"]]["at"] - before["at"]).total_seconds() for row in its)
        errors.append(expected / took - 1)
        # The share of a large one: when it ends, beside the others of its identity.
        large = [row for row in its if done[row["repository"]]["total_prs"] >= 100]
        off = [
            abs((datetime.fromisoformat(row["finish"]) - done[row["repository"]]["at"]).total_seconds()) / took
            for row in large
        ]
        errors.append(median(off))
        print(
            f"{owner}: foreseen {expected:.0f} s, took {took:.0f} s; {len(large)} large ones end {median(off):.0%} off"
        )
    assert abs(forecast["total"]["points"] - spent) <= POINTS * spent
    assert [error for error in errors if abs(error) > FINISH] == []
