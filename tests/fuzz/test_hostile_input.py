"""Any event, message, page input or reply of GitHub gives an answer or an error of the product, and never markup.

`make test` plays some thousands of cases, always the same ones; `make soak` plays 100,000 others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill.errors import BackfillError, ContractViolation
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.errors import RepositoryUnavailable
from backfill.github.governor import Governor
from backfill.github.reading import Terms
from backfill.github.replies import Reply, classify
from backfill.github.transport import Transport
from backfill.messages import chunk_message, plan_message, planner_event, recovery_event
from backfill.recovery import Recovery
from backfill.store import pull_requests
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from backfill.widget.contract import view
from backfill.widget.page import show
from local.in_process import Stack
from local.memory_queue import MemoryQueues
from local.simulator import Simulator, generate

NAME = "octo/hostile"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:stack-widget"

# Text with what breaks parsers: NUL, lone surrogates, quotes, markup, SQL, newlines, and much of it.
TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "\x00",
        "\ud800",
        "octo/hostile\n",
        "octo/\x00",
        "'; DROP TABLE files; --",
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "${jndi:ldap://x}",
        "{{7*7}}",
        "../../etc/passwd",
        "octo/hostile",
        "A" * 100_000,
        "11111111-1111-1111-1111-111111111111",
        "٣",
    ]
)
NUMBER = (
    st.integers()
    | st.sampled_from([0, -1, 2**31 - 1, 2**31, 2**63, 10**40])
    | st.floats()
    | st.sampled_from([1.0, 25.0])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def near(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Objects that are nearly right: some fields as they should be, some hostile, some unknown."""
    some = st.fixed_dictionaries({}, optional={name: good | JSON for name, good in fields.items()})
    return st.tuples(some, st.dictionaries(TEXT, JSON, max_size=1)).map(lambda parts: {**parts[1], **parts[0]}) | JSON


REPOSITORY = st.sampled_from([NAME, "octo/other", "OCTO/Hostile"])
UUID = st.uuids().map(str)
CHUNK = near(
    {
        "schema_version": st.just(1),
        "chunk_id": UUID,
        "dispatch_id": UUID,
        "repository": REPOSITORY,
        "pr_numbers": st.lists(st.integers(1, 50), max_size=5),
    }
)
PLAN = near(
    {
        "schema_version": st.just(1),
        "repository_id": UUID,
        "repository": REPOSITORY,
        "chunk_size": st.integers(0, 101),
        "max_chunks": st.integers(0, 2**40),
        "dry_run": st.booleans(),
    }
)
RECOVERY = near(
    {"stuck_threshold": st.integers(0, 2**40), "cleanup_days": st.integers(-1, 2**40), "dry_run": st.booleans()}
)
ACTION = near(
    {
        "action": st.sampled_from(["status", "pause", "resume", "priority", "gaps", "sync", "dead_letters", "redrive"]),
        "repository": REPOSITORY,
        "priority": st.sampled_from(["high", "normal", "low"]),
        "chunk_size": st.integers(0, 101),
        "pr_numbers": st.lists(st.integers(0, 2**32), max_size=5),
        "stored": st.booleans(),
        "retry_failed": st.booleans(),
    }
)
WIDGET = near(
    {
        "filter": TEXT,
        "state": st.sampled_from(["trouble", "done", "x"]),
        "rows": NUMBER,
        "page": NUMBER,
        "actions": st.booleans(),
        "widgetContext": near(
            {
                "theme": st.sampled_from(["dark", "light"]),
                "width": NUMBER,
                "timezone": near({"label": TEXT, "offsetISO": st.sampled_from(["+02:00", "-99:99", "Z"])}),
                "forms": near({"all": near({"filter": TEXT, "page": TEXT, "state": TEXT})}),
            }
        ),
    }
)


def cases(gate: int, soak: int) -> pytest.MarkDecorator:
    """How many cases `make test` plays, and how many `make soak`."""
    return pytest.mark.parametrize("number", [gate, pytest.param(soak, marks=[pytest.mark.soak])])


def play(strategy: st.SearchStrategy[Any], number: int, check: Callable[[Any], None]) -> None:
    """``check`` many values: the same ones at every run of the gate, others at every long run."""
    repeatable = number < 10_000
    profile = settings(
        max_examples=number,
        derandomize=repeatable,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    profile(given(strategy)(check))()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(7, {NAME: 30}), speed=5000) as running:
        yield running


@pytest.fixture
def stack(db: Database, simulator: Simulator) -> Stack:
    """A backfill that is listed and half done."""
    made = Stack(db, simulator)
    made.console.act({"action": "add", "repository": NAME})
    made.planner.plan(plan_message(made.queues.plans.pop(0)))
    return made


@cases(400, 15_000)
def test_a_chunk_message_is_a_value_or_names_its_fault(stack: Stack, number: int) -> None:
    def check(message: Any) -> None:
        body = message if isinstance(message, str) else json.dumps(message)
        try:
            parsed = chunk_message(body)
            stack.worker.handle(parsed, body)
        except ContractViolation as violation:
            assert violation.field and violation.rule and len(str(violation)) < 1000

    play(CHUNK | CHUNK.map(json.dumps) | TEXT, number, check)


@cases(400, 15_000)
def test_a_planner_event_is_a_value_or_names_its_fault(stack: Stack, number: int) -> None:
    def check(event: Any) -> None:
        try:
            request = planner_event(event)
            stack.forecaster.forecast(request) if request.dry_run else stack.planner.plan(request)
        except ContractViolation as violation:
            assert violation.field and violation.rule and len(str(violation)) < 1000
        except RepositoryUnavailable as error:
            # Only a forecast asks GitHub for what is not tracked.
            assert request.dry_run and "octo/other" in str(error)

    play(PLAN, number, check)


@cases(400, 15_000)
def test_a_recovery_event_is_a_value_or_names_its_fault(db: Database, number: int) -> None:
    recovery = Recovery(db, MemoryQueues())

    def check(event: Any) -> None:
        try:
            recovery.recover(recovery_event(event))
        except ContractViolation as violation:
            assert violation.field and violation.rule

    play(RECOVERY, number, check)


@cases(400, 15_000)
def test_an_operators_action_is_done_or_names_its_fault(stack: Stack, number: int) -> None:
    def check(event: Any) -> None:
        stack.queues.chunks.clear()
        stack.queues.plans.clear()
        try:
            json.dumps(stack.console.act(event))
        except ContractViolation as violation:
            assert violation.field and violation.rule

    play(ACTION, number, check)


class Tags(HTMLParser):
    """Every tag with the names of its attributes; what is escaped is text and no tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, tuple(sorted(name for name, _ in attrs))))


@cases(150, 5_000)
def test_the_page_holds_no_markup_of_anybody_elses(stack: Stack, number: int) -> None:
    db = stack.db
    repository_id = (db.one("SELECT id FROM repositories") or {})["id"]
    usual: set[str] = set()
    db.execute("UPDATE progressive_backfill_state SET last_error = 'an error', last_error_at = now(), error_count = 1")
    for event in ({}, {"widgetContext": {"width": 300}}, {"filter": "nothing"}, {"filter": "octo"}, {"state": "done"}):
        page = show(db, stack.queues, view(event), ARN)
        usual |= {tag for tag, _ in Tags(page).found}

    def check(drawn: tuple[Any, str, str]) -> None:
        event, name, error = drawn
        storable = [text.replace("\x00", "").encode("utf-8", "replace").decode() for text in (name, error)]
        db.execute(
            "UPDATE repositories SET name = :name WHERE id = CAST(:id AS uuid)", name=storable[0], id=repository_id
        )
        db.execute(
            "UPDATE progressive_backfill_state SET last_error = :error, last_error_at = now()", error=storable[1]
        )
        page = show(db, stack.queues, view(event if isinstance(event, dict) else {}), ARN)
        page.encode("utf-8")
        found = Tags(page).found
        assert {tag for tag, _ in found} <= usual
        assert not [name for _, attributes in found for name in attributes if name.startswith("on")]

    play(st.tuples(WIDGET, TEXT, TEXT), number, check)


@cases(1_000, 20_000)
def test_a_reply_is_data_or_an_error_of_ours(number: int) -> None:
    errors = st.lists(
        near(
            {
                "type": st.sampled_from(["NOT_FOUND", "RATE_LIMITED", "FORBIDDEN"]),
                "path": st.lists(TEXT | NUMBER),
                "message": TEXT,
            }
        )
    )
    body = near(
        {
            "data": near({"rateLimit": near({"cost": NUMBER, "remaining": NUMBER, "resetAt": TEXT})}),
            "errors": errors,
            "message": TEXT,
        }
    )
    headers = st.fixed_dictionaries(
        {},
        optional={
            "retry-after": TEXT | NUMBER.map(str),
            "x-ratelimit-remaining": TEXT,
            "x-ratelimit-reset": TEXT | NUMBER.map(str),
            "date": TEXT,
        },
    )

    def check(drawn: tuple[int, dict[str, str], Any, int]) -> None:
        status, given_headers, answer, cut = drawn
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode("utf-8", "replace")
        try:
            assert isinstance(classify(status, given_headers, raw[: len(raw) - cut]), Reply)
        except BackfillError as error:
            assert str(error)

    statuses = st.sampled_from([200, 200, 200, 201, 301, 400, 401, 403, 404, 429, 500, 502, 504])
    play(st.tuples(statuses, headers, body | st.binary(max_size=200), st.sampled_from([0, 0, 1, 7])), number, check)


class Recorded(Transport):
    """Answers as GitHub did, but for one place of one reply, which is changed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.replies: dict[str, tuple[int, Any, bytes]] = {}
        self.change: Callable[[Any], Any] | None = None

    def _post(self, url: str, token: str, body: Any, seconds: float) -> tuple[int, Any, bytes]:
        asked = json.dumps(body, sort_keys=True)
        if asked not in self.replies:
            if self.change is not None:
                return 502, {}, b""
            self.replies[asked] = super()._post(url, token, body, seconds)
        status, headers, raw = self.replies[asked]
        if self.change is None or b"viewer" in body["query"].encode():
            return status, headers, raw
        return status, headers, json.dumps(self.change(json.loads(raw))).encode("utf-8", "replace")


def spoiled(value: Any, rng: random.Random, hostile: Any) -> Any:
    """The same JSON with one place replaced, left out or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: spoiled(value[key], rng, hostile)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        index = rng.randrange(len(value))
        if rng.random() < 0.1:
            return [*value, value[index]]
        return [*value[:index], spoiled(value[index], rng, hostile), *value[index + 1 :]]
    return hostile


@cases(400, 15_000)
def test_a_reply_with_one_wrong_place_is_stored_or_an_error_of_ours(stack: Stack, number: int) -> None:
    transport = Recorded(stack.simulator.url)
    governor = Governor(PostgresBudget(stack.db), sleep=lambda _: None)
    github = GitHub(transport, Credentials(transport, lambda _: {"token": "t"}), governor)
    (held,) = stack.db.rows("SELECT id, node_id FROM repositories")
    numbers = [row["number"] for row in stack.db.rows("SELECT number FROM pull_requests ORDER BY number LIMIT 6")]
    rows = pull_requests.by_numbers(stack.db, held["id"], numbers)

    def read() -> None:
        """Everything that is ever asked of GitHub, and into the database with it."""
        github.repository(*NAME.split("/"))
        github.check_for_changes([held["node_id"]])
        page = github.list_pull_requests(held["node_id"], None, page_size=5)
        found = github.details(held["node_id"], rows, Terms(seconds_left=lambda: 600.0))
        with stack.db.transaction():
            pull_requests.store_listed(stack.db, held["id"], page.contributors, page.pull_requests)
            pull_requests.store_details(stack.db, held["id"], found.tables)

    read()

    def check(drawn: tuple[int, Any]) -> None:
        seed, hostile = drawn
        rng = random.Random(seed)
        stack.db.execute(
            "UPDATE github_budget SET blocked_until = NULL, remaining = 5000, reserved = 0, free_at = NULL"
        )
        transport.change = lambda answer: spoiled(answer, rng, hostile)
        try:
            read()
        except BackfillError as error:
            assert str(error)

    play(st.tuples(st.integers(0, 2**32), JSON), number, check)
