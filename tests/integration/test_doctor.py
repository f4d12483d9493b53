"""The checks of a stack: each fault is named with its remedy, and the other checks still run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill.checks import Check, Result
from backfill.store.connection import Database
from cli import doctor
from local.in_process import Stack
from local.simulator import Simulator, generate


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(3, {"octo/one": 3, "octo/two": 3}), speed=5000) as running:
        yield running


@pytest.fixture
def stack(db: Database, simulator: Simulator) -> Stack:
    return Stack(db, simulator)


def examined(stack: Stack) -> dict[str, dict[str, Any]]:
    answer = stack.console.act({"action": "doctor"})
    assert answer["schema"] == doctor.newest_migration()
    return {each["name"]: each for each in answer["checks"]}


def headers(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, **told: str) -> None:
    """GitHub's replies say so about the token."""
    own = simulator._headers
    said = {name.replace("_", "-"): value for name, value in told.items()}
    monkeypatch.setattr(simulator, "_headers", lambda limits: {**own(limits), **said})


def test_a_healthy_stack_passes_everything_and_nothing_is_written(stack: Stack, simulator: Simulator) -> None:
    stack.add("octo/one")
    stack.run()
    before = stack.db.rows("SELECT * FROM progressive_backfill_state")
    found = examined(stack)
    assert {each["result"] for each in found.values()} == {"passed"}
    assert found["database"]["found"].startswith("PostgreSQL 1")
    assert found["GitHub token"]["found"] == "is of user:viewer"
    assert found["GitHub budget"]["found"].endswith("points left")
    assert found["repositories"]["found"] == "the token sees 1 of 1 that were asked for"
    assert stack.db.rows("SELECT * FROM progressive_backfill_state") == before


@pytest.mark.parametrize(
    ("scopes", "result", "advice"),
    [
        ("repo, read:org", "passed", ""),
        ("repo, admin:org", "passed", ""),
        ("repo", "warned", "read:org"),
        ("public_repo, read:org", "warned", "without repo"),
        ("", "warned", "read:org"),
    ],
)
def test_scopes_of_a_classic_token(
    stack: Stack, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, scopes: str, result: str, advice: str
) -> None:
    headers(simulator, monkeypatch, X_OAuth_Scopes=scopes)
    found = examined(stack)["token scopes"]
    assert found["result"] == result
    assert advice in found["advice"]


@pytest.mark.parametrize(("days", "result"), [(3, "warned"), (90, "passed")])
@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S +0000"])
def test_a_token_that_ends_soon(
    stack: Stack, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, days: int, result: str, form: str
) -> None:
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    headers(simulator, monkeypatch, GitHub_Authentication_Token_Expiration=end.strftime(form))
    found = examined(stack)["token expiry"]
    assert (found["result"], found["found"]) == (result, f"expires on {end:%Y-%m-%d}")


def test_a_refused_token_is_told_and_the_rest_is_looked_at(stack: Stack, simulator: Simulator) -> None:
    simulator.tokens.personal = "another"
    stack.queues.add_dead_letter("{}", "wrong")
    found = examined(stack)
    assert found["GitHub"]["result"] == "failed"
    assert "401" in found["GitHub"]["found"] and "GitHub secret" in found["GitHub"]["advice"]
    assert found["dead letters"]["result"] == "warned"
    assert found["database"]["result"] == "passed"


def test_a_repository_that_the_token_does_not_see(stack: Stack, simulator: Simulator) -> None:
    stack.add("octo/one")
    stack.add("octo/two")
    stack.db.execute("UPDATE repositories SET name = 'hidden' WHERE name = 'two'")
    found = examined(stack)["repositories"]
    assert found["result"] == "failed"
    assert "does not see 1 of 2, among them octo/hidden" in found["found"]
    assert "Configure SSO" in found["advice"]


def test_a_limit_does_not_fail_the_check(stack: Stack, simulator: Simulator) -> None:
    stack.add("octo/one")
    stack.db.execute("UPDATE github_budget SET blocked_until = now() + interval '1 hour', block_reason = 'secondary'")
    found = examined(stack)
    assert found["GitHub"]["result"] == "warned"
    assert "secondary" in found["GitHub"]["found"]


def test_a_database_that_is_away_is_told_and_the_rest_is_looked_at(simulator: Simulator) -> None:
    away = Database(lambda: "postgresql://u:p@127.0.0.1:9/d")
    answer = Stack(away, simulator).console.act({"action": "doctor"})
    by_name = {each["name"]: each for each in answer["checks"]}
    assert by_name["database"]["result"] == "failed"
    assert "dead letters" in by_name
    assert answer["schema"] == ""


def test_a_database_that_takes_no_writes(stack: Stack) -> None:
    stack.db.execute("SET default_transaction_read_only = on")
    found = examined(stack)["database"]
    assert (found["result"], "takes no writes" in found["found"]) == ("failed", True)


@pytest.mark.parametrize(
    ("check", "result"),
    [
        (doctor.version("0.1.0", "0.1.0"), "passed"),
        (doctor.version("0.1.0", "0.2.0"), "warned"),
        (doctor.schema("0017", "0017"), "passed"),
        (doctor.schema("0016", "0017"), "warned"),
        (doctor.schema("0018", "0017"), "warned"),
        (doctor._state_of_stack("s", "UPDATE_COMPLETE"), "passed"),
        (doctor._state_of_stack("s", "UPDATE_ROLLBACK_COMPLETE"), "warned"),
        (doctor._state_of_stack("s", "UPDATE_IN_PROGRESS"), "warned"),
        (doctor._state_of_stack("s", "UPDATE_ROLLBACK_FAILED"), "failed"),
        (doctor._state_of_stack("s", "ROLLBACK_COMPLETE"), "failed"),
    ],
)
def test_versions_and_states_are_compared(check: Check, result: str) -> None:
    assert check.result is Result(result)
    assert bool(check.advice) == (result != "passed")
