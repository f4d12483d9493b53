"""Missing settings, malformed addresses and an unreachable database say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backfill import config
from backfill.config import DatabaseAddress, Settings
from backfill.errors import ContractViolation, DatabaseUnavailable, Misconfigured
from backfill.github.transport import Transport
from backfill.messages import planner_event, recovery_event
from backfill.store.address import connection_options
from backfill.store.connection import Database

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


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False), ("", False)])
def test_timelines_are_the_default_only_if_the_template_says_true(value: str, expected: bool) -> None:
    assert Settings.from_environment({**COMPLETE, "TIMELINE": value}).timeline is expected
    assert not Settings.from_environment(COMPLETE).timeline


def test_an_unreachable_database_says_where_and_what_to_check() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:9.*security group"):
        Database(lambda: "postgresql://u:secret@127.0.0.1:9/d").rows("SELECT 1")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u@h/d?sslmode=require&pgbouncer=true", "option 'pgbouncer' is not understood.*sslmode"),
        ("postgresql://u@h/d?options=-csearch_path%3Dmine", "option 'options' is not understood"),
        ("postgresql://u@h/d?connect_timeout=", "option 'connect_timeout' is not understood"),
        ("postgresql://u@h/d?sslmode=verify_full", "sslmode must be one of disable, allow"),
        ("postgresql://u@h/d?channel_binding=disable", "channel_binding must be one of prefer, require"),
        ("postgresql://u:pa#ss@h/d", "percent-encoded"),
        ("postgresql://u:p@h/d#more", "percent-encoded"),
    ],
)
def test_an_option_that_is_not_understood_is_refused(url: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        connection_options(url)


@pytest.mark.parametrize("query", ["", "?sslmode=require&channel_binding=require", "?sslmode=verify-full"])
def test_an_address_as_providers_show_it_is_taken(query: str) -> None:
    options = connection_options(f"postgresql://role.ref:p%40ss@aws-0.pooler.example.com:6543/postgres{query}")
    assert (options["user"], options["password"], options["port"]) == ("role.ref", "p@ss", 6543)


def test_a_socket_in_the_hosts_place_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"username": "u", "password": "p/:@", "host": "/var/run/PostgreSQL", "port": 5433, "dbname": "d"}
    monkeypatch.setattr(config, "_secret", lambda arn: json.dumps(secret))
    for url in ("postgresql://u:p%2F%3A%40@%2Fvar%2Frun%2FPostgreSQL:5433/d", DatabaseAddress(None, "arn")()):
        options = connection_options(url)
        assert options["unix_sock"] == "/var/run/PostgreSQL/.s.PGSQL.5433"
        assert (options["user"], options["password"], options["database"]) == ("u", "p/:@", "d")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@github.example.com/api",
        "https://secret@github.example.com/api",
        "https://[secret/api",
        "https://github.example.com/api?token=secret",
        "https://github.example.com/api#secret",
    ],
)
def test_an_address_of_github_that_holds_credentials_is_refused_without_showing_them(url: str) -> None:
    with pytest.raises(Misconfigured, match="GITHUB_API_URL") as refused:
        Transport(url)
    assert "secret" not in str(refused.value).replace("a secret of its own", "")


def test_text_that_is_not_an_address_is_refused() -> None:
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


def test_a_threshold_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ContractViolation, match="stuck_threshold"):
        recovery_event({"stuck_threshold": "soon"})


def test_the_sample_events_keep_their_contracts() -> None:
    for path in EVENTS.glob("planner*.json"):
        planner_event(json.loads(path.read_text(encoding="utf-8")))
    event = recovery_event(json.loads((EVENTS / "recovery.json").read_text(encoding="utf-8")))
    assert (event.stuck_threshold, event.cleanup_days) == (30, 7)
