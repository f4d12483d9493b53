"""One budget for all workers of an identity: reserved, reconciled, refunded; floors, blocks and clocks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import pytest

from backfill.errors import Deferred
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.errors import BadCredentials, RateLimited, TooLarge, Unexplained, Unreachable, is_charged
from backfill.github.governor import LONGEST_SLEEP_SECONDS, PATIENT_SLEEP_SECONDS, Governor
from backfill.github.replies import Reply
from backfill.github.transport import Transport
from backfill.limits import LONGEST_WINDOW_SECONDS, Ask, Used
from backfill.store.budget import ObservedBudget, PostgresBudget, budgets
from backfill.store.connection import Database
from local.simulator import Simulator, generate

WHO = "user:octocat"
# Constants of migrations/functions/budget_*.sql, in seconds; the spread is a part of a slot.
LONGEST_SCHEDULE_SECONDS, FIRST_BLOCK_SECONDS = 600.0, 60.0
TURN_LEAD_SECONDS, LONGEST_TURN_SECONDS, TURN_SPREAD = 2.5, 20.0, 0.75


def reply(remaining: int | None = 4000, limit: int | None = 5000, reset: float | None = 1800.0) -> Reply:
    return Reply({}, frozenset(), 1, limit, remaining, reset)


def budget(db: Database) -> dict[str, Any]:
    row = db.one(
        "SELECT *, EXTRACT(epoch FROM reset_at - clock_timestamp())::float8 AS resets_in,"
        " EXTRACT(epoch FROM blocked_until - clock_timestamp())::float8 AS blocked_for FROM github_budget"
    )
    assert row is not None
    return row


class Slept(list[float]):
    """A sleep that only notes."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def governor(db: Database, sleep: Callable[[float], None] | None = None) -> Governor:
    return Governor(PostgresBudget(db), sleep=Slept() if sleep is None else sleep)


def failing(error: Exception) -> Callable[[], Reply]:
    def send() -> Reply:
        raise error

    return send


def test_points_are_reserved_reconciled_and_refunded(db: Database) -> None:
    seen: list[int] = []

    def send() -> Reply:
        seen.append(budget(db)["reserved"])
        return reply(remaining=4000)

    governor(db).run(WHO, 7, send)
    row = budget(db)
    assert (seen, row["reserved"], row["remaining"], row["points_limit"]) == ([7], 0, 4000, 5000)
    assert 1795 < row["resets_in"] <= 1800
    with pytest.raises(Unreachable):
        governor(db).run(WHO, 7, failing(Unreachable("nobody")))
    assert (budget(db)["reserved"], budget(db)["remaining"]) == (0, 4000)
    with pytest.raises(TooLarge):
        governor(db).run(WHO, 7, failing(TooLarge("GitHub charges what it broke off")))
    assert (budget(db)["reserved"], budget(db)["remaining"]) == (0, 3993)


def test_sixteen_workers_never_share_the_last_points(db: Database, connect: Callable[[], Database]) -> None:
    """40 points above the floor: forty requests of one point are sent, from any worker, and no other."""
    governor(db).run(WHO, 1, lambda: reply(remaining=540))
    sent: list[int] = []
    deferred: list[Deferred] = []
    # The replies are on their way until all have asked: nothing but reservations tells what is left.
    everybody = threading.Barrier(16)

    def work(own: Database) -> None:
        store, grants = PostgresBudget(own), []
        for _ in range(5):
            grant = store.reserve(Ask(WHO, 1, 0.0), 60)
            (sent if grant.granted else deferred).append(grant)  # type: ignore[arg-type]
            grants.append(grant)
        everybody.wait(60)

    threads = [threading.Thread(target=work, args=(connect(),)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(sent), len(deferred)) == (40, 40)
    assert budget(db)["reserved"] == 40


def test_the_floor_holds_and_a_request_below_it_is_deferred_until_the_reset(db: Database) -> None:
    slept = Slept()
    governor(db).run(WHO, 1, lambda: reply(remaining=501, reset=600))
    governor(db, slept).run(WHO, 1, lambda: reply(remaining=500, reset=600))
    with pytest.raises(Deferred, match="points are at their floor") as put_off:
        governor(db, slept).run(WHO, 1, failing(AssertionError("sent below the floor")))
    assert 595 < put_off.value.seconds < 600 + 60
    assert slept == []


def test_after_the_reset_the_window_is_full_again_without_a_word_from_github(db: Database) -> None:
    governor(db).run(WHO, 1, lambda: reply(remaining=500, reset=600))
    db.execute("UPDATE github_budget SET reset_at = now() - interval '1 second'")
    seen: list[tuple[int, int]] = []

    def send() -> Reply:
        seen.append((budget(db)["remaining"], budget(db)["reserved"]))
        return reply(remaining=4999, reset=3599)

    governor(db).run(WHO, 1, send)
    assert seen == [(5000, 1)]
    assert budget(db)["remaining"] == 4999 and 3590 < budget(db)["resets_in"] < 3600


def test_a_reply_of_the_last_window_gives_nothing_back_in_this_one(db: Database) -> None:
    governor(db).run(WHO, 1, lambda: reply(remaining=5000, reset=600))

    def turn_meanwhile() -> Reply:
        db.execute("UPDATE github_budget SET reset_at = now() - interval '1 second'")
        for _ in range(3):
            PostgresBudget(db).reserve(Ask(WHO, 10, 0.0), 60)
        return reply(remaining=4000, reset=0)

    governor(db).run(WHO, 25, turn_meanwhile)
    assert budget(db)["reserved"] == 30


def test_replies_that_overtake_each_other_leave_the_smallest_remaining_and_the_earliest_reset(db: Database) -> None:
    for remaining, reset in ((4000, 1800), (3998, 1801), (3999, 1799)):
        governor(db).run(WHO, 1, lambda remaining=remaining, reset=reset: reply(remaining, reset=reset))  # type: ignore[misc]
    assert budget(db)["remaining"] == 3998 and 1795 < budget(db)["resets_in"] <= 1799
    governor(db).run(WHO, 1, lambda: reply(remaining=4990, reset=3600))
    assert budget(db)["remaining"] == 4990 and budget(db)["resets_in"] > 3590


def test_a_server_without_limits_is_paced_and_never_waits_for_points(db: Database) -> None:
    for _ in range(50):
        governor(db).run(WHO, 100, lambda: reply(None, None, None), expected=0.001)
    row = budget(db)
    assert (row["points_limit"], row["remaining"], row["reset_at"], row["reserved"]) == (None, None, None, 0)


def test_server_time_is_a_schedule_short_waits_are_slept_and_long_ones_deferred(db: Database) -> None:
    """Three requests of four seconds each, at nine tenths of GitHub's time."""
    store = PostgresBudget(db)
    waits = [store.reserve(Ask(WHO, 1, 3.6), 60).wait_seconds for _ in range(3)]
    assert waits[0] == 0 and 3 < waits[1] <= 4 and 7 < waits[2] <= 8
    with pytest.raises(Deferred, match="server time") as put_off:
        governor(db).run(WHO, 1, failing(AssertionError("sent")))
    assert 0.5 <= put_off.value.seconds < 12
    slept = Slept()
    governor(db, slept).run(WHO, 1, reply, patience=PATIENT_SLEEP_SECONDS)
    assert len(slept) == 1 and LONGEST_SLEEP_SECONDS < slept[0] <= 12


def test_chunks_deferred_for_server_time_return_in_order(db: Database) -> None:
    """More often than slots of two seconds begin, before a slot that it may sleep for, and soon at the latest."""
    store = PostgresBudget(db)
    for _ in range(3):
        store.reserve(Ask(WHO, 1, 4.5), 60)
    back: list[Deferred] = []
    for _ in range(20):
        with pytest.raises(Deferred, match="server time") as put_off:
            governor(db).run(WHO, 1, failing(AssertionError("sent")), expected=1.8)
        back.append(put_off.value)
    assert 15 - LONGEST_SLEEP_SECONDS < back[0].seconds <= 15 - TURN_LEAD_SECONDS
    between = [(later.until - earlier.until) / timedelta(seconds=1) for earlier, later in pairwise(back)]
    assert between[:2] == pytest.approx([2 * TURN_SPREAD] * 2, abs=0.2)
    assert back[-1].seconds == pytest.approx(LONGEST_TURN_SECONDS, abs=0.1)


def test_a_request_that_began_late_leaves_nothing_to_catch_up(db: Database) -> None:
    """A worker stalls for ten seconds between its slot and its request of 18 seconds: two seconds of pause are due."""
    store = PostgresBudget(db)
    grant = store.reserve(Ask(WHO, 1, 18.0), 60)
    db.execute("UPDATE github_budget SET free_at = now() - interval '10 seconds'")
    store.settle(Ask(WHO, 1, 18.0), grant, Used(18.0, 0, True, 5000, 4000, 1800.0))
    late = store.reserve(Ask(WHO, 1, 1.0), 60)
    assert 1 < late.wait_seconds <= 2


def test_how_slow_github_is_gets_learned_by_all(db: Database) -> None:
    clock = iter(range(0, 1000, 5))
    for _ in range(20):
        db.execute("UPDATE github_budget SET free_at = NULL")
        Governor(PostgresBudget(db), Slept(), lambda: float(next(clock))).run(WHO, 1, reply, expected=2.5)
    assert budget(db)["slowness"] == pytest.approx(2.0, abs=0.01)
    db.execute("UPDATE github_budget SET free_at = NULL")
    grant = PostgresBudget(db).reserve(Ask(WHO, 1, 2.5), 60)
    assert grant.slot == pytest.approx(5.0, abs=0.05)


def test_a_small_request_tells_little_about_how_slow_github_is(db: Database) -> None:
    """Its second is mostly the way to GitHub and back: six times what was expected, and no reason for longer slots."""
    clock = iter((0.0, 2.5, 10.0, 12.5, 20.0, 22.5, 30.0, 31.0))
    for expected in (2.5, 2.5, 2.5, 0.15):
        db.execute("UPDATE github_budget SET free_at = NULL")
        Governor(PostgresBudget(db), Slept(), lambda: next(clock)).run(WHO, 1, reply, expected=expected)
    assert 1.0 < budget(db)["slowness"] < 1.2


def test_how_slow_github_is_the_first_request_tells_at_once(db: Database) -> None:
    clock = iter((0.0, 0.5))
    Governor(PostgresBudget(db), Slept(), lambda: next(clock)).run(WHO, 1, reply, expected=2.5)
    assert budget(db)["slowness"] == pytest.approx(0.2)


def test_a_block_stops_every_worker_also_one_that_sleeps_already(connect: Callable[[], Database]) -> None:
    one, other = connect(), connect()
    PostgresBudget(one).reserve(Ask(WHO, 1, 2.0), 60)

    def while_sleeping(seconds: float) -> None:
        with pytest.raises(Deferred):
            Governor(PostgresBudget(other), Slept()).run(
                WHO, 1, failing(RateLimited("secondary", 90.0)), patience=PATIENT_SLEEP_SECONDS
            )

    with pytest.raises(Deferred, match="blocked by a secondary rate limit") as stopped:
        governor(one, while_sleeping).run(WHO, 3, failing(AssertionError("sent into the block")))
    assert 80 < stopped.value.seconds < 105
    assert budget(one)["reserved"] == 1


def test_a_limit_without_a_time_blocks_for_a_minute_then_twice_as_long_and_many_workers_count_as_one(
    db: Database,
) -> None:
    store = PostgresBudget(db)
    store.reserve(Ask(WHO, 1, 0.0), 60)
    for expected in (FIRST_BLOCK_SECONDS, 2 * FIRST_BLOCK_SECONDS, 4 * FIRST_BLOCK_SECONDS):
        for _ in range(16):
            store.block(WHO, None, "secondary")
        assert 0.99 * expected <= budget(db)["blocked_for"] <= 1.3 * expected
        db.execute("UPDATE github_budget SET blocked_until = now() - interval '1 second', free_at = NULL")
    governor(db).run(WHO, 1, reply)
    assert budget(db)["blocks_in_a_row"] == 0


def test_a_success_that_began_before_a_block_does_not_end_it(db: Database) -> None:
    def meanwhile() -> Reply:
        PostgresBudget(db).block(WHO, None, "secondary")
        return reply()

    governor(db).run(WHO, 1, meanwhile)
    assert budget(db)["blocks_in_a_row"] == 1 and budget(db)["blocked_for"] > 55


def test_chunks_deferred_together_return_spread_out(db: Database) -> None:
    governor(db).run(WHO, 1, lambda: reply(remaining=500, reset=600))
    back: list[float] = []
    for _ in range(16):
        with pytest.raises(Deferred) as put_off:
            governor(db).run(WHO, 1, failing(AssertionError("sent")))
        back.append(put_off.value.seconds)
    assert min(back) > 595 and max(back) < 631
    # Sixteen random moments of half a minute: that all lie within five seconds happens once in 10**11 runs.
    assert max(back) - min(back) > 5


def test_other_errors_wait_for_no_reset(db: Database) -> None:
    for error in (TooLarge("502"), Unreachable("nobody"), BadCredentials("401")):
        with pytest.raises(type(error)):
            governor(db).run(WHO, 1, failing(error))
    assert budget(db)["blocked_until"] is None


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
def test_clocks_that_differ_by_hours_do_no_harm(db: Database, ahead: float) -> None:
    """GitHub's clock against the database's: the reset is as far away as GitHub means it."""
    with Simulator(generate(1, {"octo/small": 3}), speed=1, clock_ahead=ahead) as simulator:
        transport = Transport(simulator.url, clock=lambda: time.time() - ahead)
        github = GitHub(transport, Credentials(transport, lambda _: {"token": "ghp_x"}), governor(db))
        github.repository("octo", "small")
        assert 3590 < budget(db)["resets_in"] <= 3602
        limit = {"message": "API rate limit exceeded for user ID 1."}
        simulator.script({"status": 403, "body": limit, "headers": {"x-ratelimit-remaining": "0"}})
        with pytest.raises(Deferred) as put_off:
            github.repository("octo", "small")
        assert 3585 < put_off.value.seconds < 3640
        assert abs((put_off.value.until - budget(db)["blocked_until"]) / timedelta(seconds=1)) < 31


def test_the_identity_owns_the_budget_whatever_its_token(connect: Callable[[], Database]) -> None:
    """A token is rotated while two containers work: the new one is read from the secret, the row stays the same."""
    db = connect()
    secret = {"token": "ghp_old"}
    with Simulator(generate(1, {"octo/small": 3}), speed=2000, token="ghp_old") as simulator:
        containers = []
        for _ in range(2):
            transport, store = Transport(simulator.url), PostgresBudget(connect())
            containers.append(
                GitHub(transport, Credentials(transport, lambda _: dict(secret), store), Governor(store, Slept()))
            )
        for github in containers:
            github.repository("octo", "small")
        simulator.tokens.personal = secret["token"] = "ghp_new"
        for github in containers:
            github.repository("octo", "small")
        assert [row["identity"] for row in db.rows("SELECT identity FROM github_budget")] == ["user:viewer"]
        # Whose a token is was asked once for each, not once in every container.
        assert simulator.served["points of Viewer"] == 2
        assert simulator.served["bad_credentials"] == 2
        stored = json.dumps(db.rows("SELECT token_sha256, identity FROM github_tokens"))
        assert "ghp_" not in stored


def test_a_limit_before_it_is_known_whose_it_is_puts_the_work_off(db: Database) -> None:
    with Simulator(generate(1, {"octo/small": 3}), speed=2000) as simulator:
        transport, store = Transport(simulator.url), PostgresBudget(db)
        github = GitHub(
            transport, Credentials(transport, lambda _: {"token": "ghp_x"}, store), Governor(store, Slept())
        )
        simulator.script({"status": 429, "body": {"message": "You have exceeded a secondary rate limit."}})
        with pytest.raises(Deferred) as put_off:
            github.repository("octo", "small")
        assert put_off.value.seconds == 60


def test_a_token_that_github_takes_for_nobodys_in_passing_pauses_nothing(db: Database) -> None:
    with Simulator(generate(1, {"octo/small": 3}), speed=2000) as simulator:
        transport, slept = Transport(simulator.url), Slept()
        github = GitHub(transport, Credentials(transport, lambda _: {"token": "ghp_x"}), governor(db, slept))
        github.repository("octo", "small")
        refused = {"status": 401, "body": {"message": "Bad credentials"}}
        simulator.script(*[{**refused, "headers": {"x-ratelimit-limit": "60"}}] * 2)
        # The secret is read again and the owner asked anew in between; the third try has its answer.
        github.repository("octo", "small")
        simulator.script(*[refused] * 2)
        with pytest.raises(BadCredentials):
            github.repository("octo", "small")


def test_a_clock_that_was_put_back_defers_nothing(db: Database) -> None:
    """All that was written lies six hours ahead then."""
    governor(db).run(WHO, 1, lambda: reply(remaining=4000))
    db.execute(
        "UPDATE github_budget SET free_at = clock_timestamp() + interval '6 hours', updated_at = now() + interval '6 hours',"
        " put_off_until = clock_timestamp() + interval '6 hours', reset_at = clock_timestamp() + interval '7 hours',"
        " blocked_until = clock_timestamp() + interval '6 hours' - interval '1 second'"
    )
    with pytest.raises(Deferred) as first:
        governor(db).run(WHO, 1, lambda: reply(remaining=3999))
    # The schedule of server time is not known any more: no more than its longest is waited for.
    assert first.value.seconds <= LONGEST_TURN_SECONDS
    row = budget(db)
    assert row["resets_in"] <= 3660 and row["blocked_for"] <= 0


def test_a_reset_in_the_year_2999_stops_nothing_for_longer_than_an_hour(db: Database) -> None:
    PostgresBudget(db).reserve(Ask(WHO, 1, 1.0), 5)
    db.execute("UPDATE github_budget SET remaining = 0, points_limit = 5000, reset_at = '2999-01-01'")
    with pytest.raises(Deferred) as limit:
        governor(db).run(WHO, 1, lambda: reply())
    assert limit.value.seconds <= 3660 + 30


@pytest.mark.parametrize(
    ("error", "left"), [(Unexplained("odd"), 93), (TooLarge("slow"), 93), (Unreachable("no way"), 100)]
)
def test_the_possible_cost_of_a_failed_request_is_decided_once(db: Database, error: Exception, left: int) -> None:
    governor(db).run(WHO, 1, lambda: reply(remaining=100, limit=100))
    with pytest.raises(type(error)):
        governor(db).run(WHO, 7, failing(error))
    assert budget(db)["remaining"] == left and is_charged(error) is (left == 93)


@pytest.mark.parametrize("hours", [6, 200_000])
def test_a_dry_run_and_the_status_do_not_wait_for_times_of_a_clock_that_was_put_back(db: Database, hours: int) -> None:
    """They may write nothing, and a worker has not written since."""
    governor(db).run(WHO, 1, lambda: reply(remaining=4000))
    db.execute(
        "UPDATE github_budget SET updated_at = now() + make_interval(hours => :hours), remaining = 0,"
        " free_at = now() + make_interval(hours => :hours), reset_at = now() + make_interval(hours => :hours),"
        " blocked_until = now() + make_interval(hours => :hours, secs => 30)",
        hours=hours,
    )
    observed = ObservedBudget(db)
    assert 0 < observed.blocked_seconds(WHO) <= 30
    grant = observed.reserve(Ask(WHO, 1, 1.0), 5)
    assert not grant.granted and 0 < grant.wait_seconds <= LONGEST_WINDOW_SECONDS
    row = budgets(db).latest
    assert row is not None and row.waits_until and row.wait_reason and row.reset_at
    now = db.rows("SELECT clock_timestamp() AS now")[0]["now"]
    assert (row.waits_until - now).total_seconds() <= 30 and "rate limit" in row.wait_reason
    assert (row.reset_at - now).total_seconds() <= LONGEST_WINDOW_SECONDS
    db.execute("UPDATE github_budget SET blocked_until = NULL")
    grant = observed.reserve(Ask(WHO, 1, 1.0), 5)
    assert grant.wait_seconds <= LONGEST_WINDOW_SECONDS
    db.execute("UPDATE github_budget SET reset_at = NULL, points_limit = NULL")
    grant = observed.reserve(Ask(WHO, 1, 1.0), 5)
    assert grant.turn_seconds is not None and grant.turn_seconds <= LONGEST_SCHEDULE_SECONDS


def test_points_whose_reset_nobody_tells_come_back_within_an_hour(db: Database) -> None:
    governor(db).run(WHO, 1, lambda: reply(remaining=10, reset=None))
    assert 3590 < budget(db)["resets_in"] <= 3600
    with pytest.raises(Deferred, match="points are at their floor"):
        governor(db).run(WHO, 1, failing(AssertionError("sent below the floor")))
    db.execute("UPDATE github_budget SET reset_at = now() - interval '1 second'")
    seen = budgets(db).latest
    # A moment in the past is not shown as one that is waited for.
    assert seen is not None and (seen.remaining, seen.reset_at) == (seen.limit, None)
    governor(db).run(WHO, 1, lambda: reply(remaining=4999))


@pytest.mark.parametrize("value", ["0", formatdate(1_400_000_000, usegmt=True), "²"])
def test_a_limit_whose_time_says_nothing_waits_longer_each_time(db: Database, value: str) -> None:
    with Simulator(generate(1, {"octo/small": 3}), speed=2000) as simulator:
        transport = Transport(simulator.url)
        github = GitHub(transport, Credentials(transport, lambda _: {"token": "ghp_x"}), governor(db))
        github.repository("octo", "small")
        waits = []
        for _ in range(4):
            simulator.script(
                {
                    "status": 403,
                    "body": {"message": "secondary rate limit"},
                    "headers": {"retry-after": value.encode().decode("latin-1")},
                }
            )
            with pytest.raises(Deferred) as put_off:
                github.repository("octo", "small")
            waits.append(put_off.value.seconds)
            db.execute("UPDATE github_budget SET blocked_until = now() - interval '1 second', free_at = NULL")
    assert waits[0] >= FIRST_BLOCK_SECONDS
    assert all(later > 1.2 * earlier for earlier, later in pairwise(waits))


def test_a_limit_before_it_is_known_whose_it_is_waits_longer_each_time() -> None:
    limited = b'{"message": "You have exceeded a secondary rate limit."}'
    transport = Transport("https://api.github.com")
    transport._post = lambda *_: (429, {"retry-after": "0"}, limited)  # type: ignore[method-assign]
    credentials, waits = Credentials(transport, lambda _: {"token": "ghp_x"}), []
    for _ in range(8):
        with pytest.raises(Deferred) as put_off:
            credentials.identity()
        waits.append(put_off.value.seconds)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
