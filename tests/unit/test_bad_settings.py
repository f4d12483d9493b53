"""Missing settings, malformed addresses and an unreachable database say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backfill.config import Settings
from backfill.errors import ContractViolation, Misconfigured
from backfill.messages import planner_event, recovery_event
from backfill.store.connection import Database, DatabaseUnavailable

EVENTS = Path(__file__).parents[2] / "events"
COMPLETE = {
    "DATABASE_URL": "postgresql://u:p@localhost:5432/d",
    "GITHUB_TOKEN": "t",
    "CHUNK_QUEUE_URL": "c",
    "PLAN_QUEUE_URL": "p",
    "DEAD_LETTER_QUEUE_URL": "d",
}


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("DATABASE_URL", "DATABASE_SECRET_ARN"),
        ("GITHUB_TOKEN", "GITHUB_SECRET_ARN"),
        ("CHUNK_QUEUE_URL", "CHUNK_QUEUE_URL"),
        ("PLAN_QUEUE_URL", "PLAN_QUEUE_URL"),
        ("DEAD_LETTER_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
    ],
)
def test_a_missing_setting_is_named(missing: str, named: str) -> None:
    environment = {name: value for name, value in COMPLETE.items() if name != missing}
    with pytest.raises(Misconfigured) as violation:
        Settings.from_environment(environment)
    assert violation.value.setting == named
    assert Settings.from_environment(COMPLETE).github_api_url == "https://api.github.com"


def test_an_unreachable_database_says_where_and_what_to_check() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:9.*security group"):
        Database(lambda: "postgresql://u:secret@127.0.0.1:9/d").rows("SELECT 1")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Misconfigured, match="postgresql://user:password@host:port/database"):
        Database(lambda: "mysql://u@h/d").rows("SELECT 1")


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"chunk_size": 0}, "chunk_size"),
        ({"chunk_size": 101}, "chunk_size"),
        ({"max_chunks": -1}, "max_chunks"),
        ({"repository": "no-slash"}, "repository"),
        ({"repository_id": "123"}, "repository_id"),
        ({"chunksize": 5}, "event"),
    ],
)
def test_a_wrong_planner_event_names_the_field(event: dict[str, object], field: str) -> None:
    with pytest.raises(ContractViolation) as violation:
        planner_event(event)
    assert violation.value.field == field


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(ContractViolation, match="stuck_threshold"):
        recovery_event({"stuck_threshold": "soon"})


def test_the_sample_events_keep_their_contracts() -> None:
    for path in EVENTS.glob("planner*.json"):
        planner_event(json.loads(path.read_text(encoding="utf-8")))
    event = recovery_event(json.loads((EVENTS / "recovery.json").read_text(encoding="utf-8")))
    assert (event.stuck_threshold, event.cleanup_days) == (30, 7)
