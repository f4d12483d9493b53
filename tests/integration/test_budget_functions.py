"""The budget's functions in the database: the time is a parameter, so each row says what is decided at noon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill.github.governor import Governor
from backfill.github.replies import Reply
from backfill.limits import LONGEST_WAIT_SECONDS, LONGEST_WINDOW_SECONDS, Ask
from backfill.store.budget import ObservedBudget, PostgresBudget
from backfill.store.connection import Database
from backfill.store.driver import Connection

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ASK = Ask("user:octocat", 10, 2.0)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def seconds(moment: datetime | None) -> float | None:
    """From noon."""
    return None if moment is None else round((moment - NOON).total_seconds(), 3)


def store(db: Database, **columns: Any) -> None:
    """The identity's row: 5,000 points, all of them left until half past twelve, and nothing else in the way."""
    row = {"points_limit": 5000, "remaining": 5000, "reset_at": after(1800), "updated_at": after(-60)} | columns
    db.execute("DELETE FROM github_budget")
    db.execute(
        f"INSERT INTO github_budget (identity, {', '.join(row)}) VALUES ('user:octocat', {', '.join(f':{name}' for name in row)})",
        **row,
    )


def row(db: Database) -> dict[str, Any]:
    return db.only("SELECT * FROM github_budget")


def reserve(db: Database, *, is_dry_run: bool = False, longest_wait: float = 5.0) -> dict[str, Any]:
    return db.only(
        "SELECT * FROM budget_reserve_v1('user:octocat', 10, 2.0, :longest_wait, 0.5, 0.1, :is_dry_run, :at)",
        longest_wait=longest_wait,
        is_dry_run=is_dry_run,
        at=NOON,
    )


BLOCKED = "blocked by a secondary rate limit"
FLOOR = "points are at their floor"
TIME = "server time"


@pytest.mark.parametrize(
    ("stored", "granted", "wait", "turn", "reason"),
    [
        ({}, True, 0, None, TIME),
        # Nothing is known of the points before the first reply.
        ({"points_limit": None, "remaining": None, "reset_at": None}, True, 0, None, TIME),
        # A slot within reach is slept for; GitHub's slowness makes the slot longer, not the wait.
        ({"free_at": after(4), "slowness": 3}, True, 4, None, TIME),
        # A slot further away: the turn is 2.5 seconds before it, or half of the way, and 20 seconds at most.
        ({"free_at": after(12)}, False, 12, 9.5, TIME),
        ({"free_at": after(6), "slowness": 1}, False, 6, 3.5, TIME),
        ({"free_at": after(59)}, False, 59, 20, TIME),
        # Three quarters of a slot of 4 seconds after the turn before, a lead at most.
        ({"free_at": after(12), "put_off_until": after(11)}, False, 12, 13.5, TIME),
        ({"free_at": after(12), "put_off_until": after(11), "slowness": 0.5}, False, 12, 12.5, TIME),
        # The floor is 500 points.
        ({"remaining": 510}, True, 0, None, TIME),
        ({"remaining": 509}, False, 1800, None, FLOOR),
        ({"remaining": 600, "reserved": 91}, False, 1800, None, FLOOR),
        ({"remaining": 0, "reset_at": None}, False, 60, None, FLOOR),
        # The window has turned: it is full, and the reservations of the one before are gone.
        ({"remaining": 0, "reserved": 400, "reset_at": NOON}, True, 0, None, TIME),
        # A block comes first; the wait is the longest of all.
        ({"blocked_until": after(30), "block_reason": "secondary"}, False, 30, None, BLOCKED),
        ({"blocked_until": after(30), "block_reason": "secondary", "remaining": 0}, False, 1800, None, BLOCKED),
        ({"blocked_until": after(-1), "block_reason": "secondary"}, True, 0, None, TIME),
    ],
)
def test_a_reservation_is_decided_by_block_points_and_server_time_and_a_dry_run_decides_the_same(
    db: Database, stored: dict[str, Any], granted: bool, wait: float, turn: float | None, reason: str
) -> None:
    store(db, **stored)
    before = row(db)
    decided = reserve(db, is_dry_run=True)
    assert row(db) == before
    assert reserve(db) == decided
    assert (decided["granted"], decided["reason"], decided["at"]) == (granted, reason, NOON)
    assert decided["wait_seconds"] == pytest.approx(wait)
    assert decided["turn_seconds"] == (turn and pytest.approx(turn))
    after_it = row(db)
    if granted:
        kept = 0 if before["reset_at"] == NOON else before["reserved"]
        assert after_it["reserved"] == kept + 10
        # Half of GitHub's time is used here: a slot takes twice its length.
        assert seconds(after_it["free_at"]) == pytest.approx(wait + 4 * before["slowness"])
    else:
        assert (after_it["reserved"], after_it["free_at"]) == (before["reserved"], before["free_at"])
        assert seconds(after_it["put_off_until"]) == (turn or seconds(before["put_off_until"]))


def test_a_full_window_begins_at_the_reset_and_has_the_next_number(db: Database) -> None:
    store(db, remaining=3, reserved=7, reset_at=after(-1), window_number=4)
    assert reserve(db)["points_window"] == 5
    kept = row(db)
    assert (kept["remaining"], kept["reserved"], kept["window_number"]) == (5000, 10, 5)
    assert seconds(kept["reset_at"]) == 3600


def test_times_further_ahead_than_they_can_be_are_clamped_to_the_limits_that_the_code_has(db: Database) -> None:
    far = dict.fromkeys(("free_at", "put_off_until", "reset_at", "blocked_until"), datetime(2999, 1, 1, tzinfo=UTC))
    store(db, **far)
    present = db.only("SELECT p.* FROM github_budget AS b, budget_present_v1(b, :at) AS p", at=NOON)
    assert {name: seconds(present[name]) for name in far} == {
        "free_at": 600,
        "put_off_until": 600,
        "reset_at": LONGEST_WINDOW_SECONDS,
        "blocked_until": LONGEST_WAIT_SECONDS,
    }


@pytest.mark.parametrize(
    "between", ["", "SELECT budget_settle_v1('user:octocat', 0, 0, 0, 0, 1, 1, 0.5, false, null, null, null, :at)"]
)
def test_a_block_ends_when_it_was_meant_to_although_the_clock_was_put_back(db: Database, between: str) -> None:
    """At six in the evening GitHub asked for 90 seconds. At once the clock is put back to noon."""
    store(db, blocked_until=after(6 * 3600 + 90), block_reason="secondary", updated_at=after(6 * 3600))
    if between:
        db.execute(between, at=NOON)
    assert reserve(db)["wait_seconds"] == pytest.approx(90)
    assert seconds(row(db)["blocked_until"]) == 90


@pytest.mark.parametrize(
    ("stored", "named", "wait", "in_a_row"),
    [
        ({}, 30, 30, 1),
        ({}, None, 60, 1),
        ({"blocks_in_a_row": 2, "blocked_until": after(-1)}, None, 240, 3),
        # Another worker met the same limit a moment ago.
        ({"blocks_in_a_row": 2, "blocked_until": after(100)}, None, 120, 2),
        ({"blocks_in_a_row": 2, "blocked_until": after(200)}, 30, 200, 2),
        ({"blocks_in_a_row": 14}, None, 3600, 15),
    ],
)
def test_a_limit_blocks_as_long_as_github_says_else_longer_each_time(
    db: Database, stored: dict[str, Any], named: float | None, wait: float, in_a_row: int
) -> None:
    store(db, **stored)
    for is_dry_run in (True, False):
        before = row(db)
        found = db.only(
            "SELECT * FROM budget_block_v1('user:octocat', :named, 'secondary', :is_dry_run, :at, jitter => 1)",
            named=named,
            is_dry_run=is_dry_run,
            at=NOON,
        )
        assert (found["seconds"], seconds(found["until"])) == (wait, wait)
        if is_dry_run:
            assert row(db) == before
    assert (row(db)["blocks_in_a_row"], row(db)["block_reason"], seconds(row(db)["blocked_until"])) == (
        in_a_row,
        "secondary",
        wait,
    )


def test_a_request_takes_one_round_trip_before_it_and_one_after_it_also_the_first_of_an_identity(
    connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, trips = connect(), list[int]()
    pipeline = Connection.pipeline

    def counted(*given: Any) -> Any:
        trips.append(1)
        return pipeline(*given)

    monkeypatch.setattr(Connection, "pipeline", counted)
    for _ in range(2):
        trips.clear()
        Governor(PostgresBudget(db), sleep=lambda _: None).run(
            "user:new", 1, lambda: Reply({}, frozenset(), 1, 5000, 4999, 60.0)
        )
        assert len(trips) == 2


def test_a_dry_run_asks_in_a_transaction_that_refuses_writes_also_for_an_identity_without_a_row(db: Database) -> None:
    observed = ObservedBudget(db)
    with db.reading():
        grant = observed.reserve(ASK, 5.0)
        assert (grant.granted, grant.wait_seconds, grant.slot) == (True, 0, 2.0)
        assert observed.block("user:octocat", 30.0, "secondary")[1] == 30
    assert db.rows("SELECT FROM github_budget") == []
