"""A backfill through a GitHub that fails in every known way, at every tenth request, ends with exactly GitHub's data."""

from __future__ import annotations

from backfill.store.connection import Database
from local.in_process import Stack, differences
from local.simulator import PARTIAL, PASSING, Simulator, generate

NAME = "octo/unlucky"
# Small chunks give enough requests for all failures. Two pull requests always fail.
SIZE, CHUNK_SIZE, EVERY, POISONOUS = 640, 2, 10, 2


def test_every_failure_at_every_tenth_request_costs_time_and_no_data(db: Database) -> None:
    with Simulator(generate(11, {NAME: SIZE}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        numbers = sorted(stack.repository(NAME).pull_requests)
        poisonous = dict.fromkeys(numbers[100 :: SIZE // POISONOUS][:POISONOUS], "<html>502 Bad Gateway</html>")
        simulator.poison.update(poisonous)
        stack.add(NAME, chunk_size=CHUNK_SIZE)
        simulator.play(PASSING, EVERY)
        for _ in range(30):
            stack.run(between=lambda: pass_time(db))
            if stack.state()["status"] == "completed":
                break
            pass_time(db)
            stack.heartbeat()
        assert stack.state()["status"] == "completed"
        assert not simulator.scripted, "some failures were not played"

        lacking = db.rows(
            "SELECT number, detail_error_code, detail_error FROM pull_requests WHERE body IS NULL ORDER BY 1"
        )
        assert [row["number"] for row in lacking] == sorted(poisonous)
        assert {(row["detail_error_code"], row["detail_error"]) for row in lacking} == {
            ("too_large", "GitHub answered 502")
        }
        noted = db.rows("SELECT error FROM backfill_chunks WHERE error_code = 'members_failed'")
        assert sorted(row["error"] for row in noted) == sorted(f"#{n}: GitHub answered 502" for n in poisonous)
        assert stack.state()["processed_prs"] == SIZE - POISONOUS

        # Nothing else differs: with these two repaired, the database is what GitHub holds.
        simulator.poison.clear()
        stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": sorted(poisonous)})
        stack.run()
        assert differences(db, simulator) == []
        assert db.rows("SELECT * FROM pull_request_gaps") == []


def test_every_place_that_lacks_once_is_confirmed_or_read_again_and_no_data_is_lost(db: Database) -> None:
    size = 60
    with Simulator(generate(12, {NAME: size}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.add(NAME, chunk_size=4)
        simulator.play(PARTIAL, 2)
        for _ in range(5):
            stack.run(between=lambda: pass_time(db))
            stack.heartbeat()
        assert not simulator.scripted, "some were not played"
        state = stack.state()
        gaps = db.rows("SELECT number, reason, error FROM pull_request_gaps")
        assert (state["status"], state["error_count"]) == ("completed", 0), state["last_error"]
        assert {row["reason"] for row in gaps} == {"incomplete"} and all(row["error"] for row in gaps)
        assert state["processed_prs"] == size - len(gaps)
        assert {row["number"] for row in gaps} == {
            row["number"]
            for row in db.rows("SELECT number FROM pull_requests WHERE read_again_at > now() + interval '23 hours'")
        }
        # A day later GitHub gives what it did not give before.
        db.execute("UPDATE pull_requests SET read_again_at = now() WHERE read_again_at IS NOT NULL")
        for _ in range(2):
            stack.heartbeat()
            stack.run(between=lambda: pass_time(db))
        stack.assert_equals_github()
        assert stack.state()["processed_prs"] == size


def pass_time(db: Database) -> None:
    """Every wait, block and pause of the system has ended."""
    db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending' AND available_at > now()")
    db.execute("UPDATE github_budget SET blocked_until = now() WHERE blocked_until > now()")
    db.execute("UPDATE progressive_backfill_state SET paused_until = now() WHERE paused_until > now()")
