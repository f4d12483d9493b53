"""Hard cases that once broke the product. Each test says the right behaviour.

Time is moved in the database: hours pass in a second or two.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pg8000.exceptions import DatabaseError
from typer.testing import CliRunner

from backfill.errors import ContractViolation
from backfill.store import levels
from backfill.store.connection import Database
from cli.main import app
from cli.stack import DeployedStack
from local.postgres import Postgres
from local.simulator import generate
from local.simulator.server import Answer
from tests.adversarial.adversarial_harness import Contended, Deployed, GitHub

NAME, SIZE = "octo/a", 25
TEMPLATE = Path(__file__).parents[2] / "template.yaml"
Connect = Callable[[], Database]


def said(kind: str, message: str) -> Answer:
    """GitHub refuses the repository's node."""
    error = {"type": kind, "path": ["node"], "message": message}
    return Answer(200, {}, json.dumps({"data": {"node": None}, "errors": [error]}).encode())


REFUSED = Answer(401, {}, b'{"message": "Bad credentials"}')
FORBIDDEN = said("FORBIDDEN", "Resource protected by organization SAML enforcement")
NOT_FOUND = said("NOT_FOUND", "Could not resolve to a node")


@pytest.fixture
def simulator() -> Iterator[GitHub]:
    with GitHub(generate(1, {NAME: SIZE}), speed=5000) as running:
        yield running


@pytest.fixture
def stack(db: Database, simulator: GitHub, connect: Connect) -> Deployed:
    return Deployed(db, simulator, connect())


@pytest.fixture
def completed(stack: Deployed) -> Deployed:
    stack.add(NAME)
    stack.live(0.2)
    assert stack.state()["status"] == "completed"
    return stack


def read(stack: Deployed, condition: str = "true") -> int:
    """How many pull requests have their detail."""
    row = stack.db.one(f"SELECT count(*) AS n FROM pull_requests WHERE detail_synced_at IS NOT NULL AND {condition}")
    return int((row or {})["n"])


def chunks(stack: Deployed) -> list[tuple[Any, ...]]:
    """What there is of them."""
    return [tuple(row.values()) for row in stack.db.rows("SELECT status, attempts, error FROM backfill_chunks")]


# 1, 2. One pull request that Postgres does not take.


def others_are_stored(stack: Deployed, bad: int) -> None:
    stack.add(NAME)
    stack.live(12)
    good = read(stack, f"number <> {bad}")
    assert (good, stack.queues.deaths) == (SIZE - 1, []), f"{good} of {SIZE - 1} good ones; chunks {chunks(stack)[:1]}"
    gap = stack.db.one("SELECT error FROM pull_request_gaps WHERE number = :n", n=bad)
    assert gap is None or gap["error"], "no word about the bad one"


def test_a01_a_path_that_no_index_holds(stack: Deployed) -> None:
    """c01: git and GitHub take paths of 4,096 bytes, an index entry 2,704 where they do not compress."""
    repository, rng = stack.repository(NAME), random.Random(5)
    bad = max(repository.pull_requests)
    path = "/".join("".join(rng.choices(string.ascii_letters + string.digits, k=200)) for _ in range(15))[:2900]
    repository.change(
        bad, files=[{"path": path, "changeType": "ADDED", "additions": 1, "deletions": 0}], changedFiles=1
    )
    others_are_stored(stack, bad)


def test_a02_a_date_that_postgres_cannot_hold(stack: Deployed) -> None:
    """c02: a commit may bear any date."""
    pulls = stack.repository(NAME).pull_requests
    bad = next(number for number in sorted(pulls) if pulls[number]["commits"])
    pulls[bad]["commits"][0]["commit"]["authoredDate"] = "300000-01-01T00:00:00Z"
    others_are_stored(stack, bad)


@pytest.mark.parametrize("reply", [REFUSED, FORBIDDEN, NOT_FOUND], ids=["bad token", "forbidden", "gone"])
def test_a03_a_sync_that_github_refuses_does_not_spin(completed: Deployed, simulator: GitHub, reply: Answer) -> None:
    """c12: the chunk of a person's message is sent again at once, whatever the backfill's state."""
    simulator.reply, simulator.asked = reply, 0
    number = min(completed.repository(NAME).pull_requests)
    completed.console.act({"action": "sync", "repository": NAME, "pr_numbers": [number]})
    handled = completed.live(1, most=60, heartbeats=False, recovery=False)
    assert simulator.asked <= 10, (
        f"{simulator.asked} requests, {len(handled)} messages in {completed.queues.now - 720:.0f} s"
    )
    assert len(handled) <= 20


def test_a04_the_shortest_worker_timeout_lets_a_heartbeat_end(
    db: Database, connect: Connect, simulator: GitHub
) -> None:
    """c03: with 30 seconds the planner never has the time that it wants before it begins, and asks for another run."""
    allowed = re.search(r"WorkerTimeout:\n(?: {4}.*\n)*? {4}AllowedValues: (.*)", TEMPLATE.read_text(encoding="utf-8"))
    if allowed is None or "30" not in re.findall(r"\d+", allowed[1]):
        return
    stack = Deployed(db, simulator, connect(), seconds_left=lambda: 30.0)
    stack.add(NAME)
    stack.live(0.2)
    stack.repository(NAME).open_pull_requests(3)
    handled = stack.live(1, most=60)
    assert (read(stack), len(handled) < 60) == (SIZE + 3, True), f"{read(stack)} of {SIZE + 3}, {len(handled)} messages"


def visible(stack: Deployed) -> tuple[dict[str, Any], set[str]]:
    """What alarms see, and what of this kind of trouble a person reads."""
    status = json.dumps(stack.console.act({"action": "status"}), default=str)
    words = re.findall(r'"kind": "trouble"|credential|token|refuse|"dead_letters": [1-9]', status)
    return levels.read(stack.db), set(words)


def test_a05_a_token_that_is_revoked_when_all_is_completed_is_told(completed: Deployed, simulator: GitHub) -> None:
    """c04: every heartbeat fails, and every backfill is called completed."""
    completed.live(0.8)
    before, words = visible(completed)
    simulator.tokens.personal = "another"
    completed.live(24)
    after, words_now = visible(completed)
    risen = {name for name, value in after.items() if value > before.get(name, 0) + (60 if value > 60 else 0)}
    assert risen or words_now - words, f"levels {after}, and no word of it in status"


def test_a06_a_connection_to_a_server_that_takes_no_writes_is_left(
    connect: Connect, postgres: Postgres, database_url: str
) -> None:
    """c14: after a failover a warm container is connected to what is a standby now, and every write of it ends in 25006."""
    name, warm = urlsplit(database_url).path[1:], connect()
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    warm.one("SELECT 1 AS connected")
    postgres.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    failures = []
    for _ in range(3):
        try:
            with warm.transaction():
                warm.execute("INSERT INTO github_budget (identity) VALUES ('i') ON CONFLICT DO NOTHING")
            return
        except Exception as error:
            failures.append(repr(error)[:120])
    pytest.fail(f"still not left: {failures}")


@pytest.mark.parametrize("apart", [0, 21], ids=["at once", "three weeks apart"])
def test_a08_two_hiccups_do_not_make_a_repository_gone(stack: Deployed, simulator: GitHub, apart: int) -> None:
    """c09: NOT_FOUND twice within a tenth of a second, or twice with weeks of successes between."""
    stack.add(NAME, chunk_size=2)
    stack.plan_once()
    simulator.reply = NOT_FOUND
    outcomes = [stack.work_once()]
    if apart:
        simulator.reply = None
        outcomes += [stack.work_once() for _ in range(5)]
        # For the database alone: SQS keeps no message for three weeks.
        stack.pass_time(apart * 86400, *stack.times)
        simulator.reply = NOT_FOUND
    outcomes.append(stack.work_once())
    simulator.reply = None
    stack.live(4)
    state = stack.state()
    assert state["status"] == "completed", (
        f"four hours later {state['status']}, {state['pause_reason']}, after {outcomes}"
    )


def test_a09_commands_reach_the_repository_that_has_the_name_now(completed: Deployed, simulator: GitHub) -> None:
    """c11: deleted on GitHub, and created anew under its name."""
    (old,), (new,) = simulator.repositories.values(), generate(2, {NAME: 9})
    new.node = {**new.node, "id": "R_new"}
    empty = {"reviews": [], "comments": [], "reviewThreads": [], "labels": [], "totalCommentsCount": 0}
    new.pull_requests = {n: {**each, **empty, "id": f"{each['id']}_new"} for n, each in new.pull_requests.items()}
    del simulator.repositories[old.node["id"]]
    simulator.repositories["R_new"] = new
    completed.add(NAME)
    completed.live(2)
    completed.console.act({"action": "pause", "repository": NAME})
    (living,) = completed.db.rows(
        "SELECT status, pause_reason FROM progressive_backfill_state JOIN repositories AS r ON r.id = repository_id"
        " WHERE r.node_id = 'R_new'"
    )
    (shown,) = completed.console.act({"action": "status", "repository": NAME})["backfills"]
    assert (living["status"], shown["total_prs"]) == ("paused", 9), (
        f"pause: {living}; status: {shown['total_prs']} of 9"
    )


@pytest.mark.parametrize("status", [503, 502])
def test_a10_an_outage_of_a_moment_does_not_stop_the_work_for_an_hour(
    stack: Deployed, simulator: GitHub, status: int
) -> None:
    """c10: three workers meet it at once, which is three errors in a row."""
    stack.add(NAME, chunk_size=5)
    stack.plan_once()
    simulator.reply = Answer(status, {}, b"<html>unavailable</html>")
    outcomes = [stack.work_once() for _ in range(3)]
    simulator.reply = None
    stack.live(5 / 6)
    state = stack.state()
    assert read(stack) == SIZE, f"50 minutes later {read(stack)} of {SIZE}, {state['pause_reason']}, after {outcomes}"


def test_a11_a_sync_is_done_or_said_to_wait(stack: Deployed) -> None:
    """c18: a pending chunk of a paused backfill holds the number: accepted, and nothing comes of it."""
    stack.add(NAME, chunk_size=5)
    stack.plan_once()
    stack.console.act({"action": "pause", "repository": NAME})
    stack.live(0.2)
    number = min(stack.repository(NAME).pull_requests)
    try:
        answer = stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [number]})
    except ContractViolation:
        return
    outcomes = stack.live(2)
    is_plain = answer == {"ok": True, "requested": 1}
    assert read(stack, f"number = {number}") or not is_plain, f"{answer}, then {outcomes}, and it is not read"


@pytest.mark.parametrize("metadata", ["[]", "null", "5"])
def test_a12_metadata_that_is_not_an_object(db: Database, connect: Connect, metadata: str) -> None:
    """c05: one row of it, and no backfill is planned any more."""
    with GitHub(generate(1, {NAME: 6, "octo/b": 6}), speed=5000) as simulator:
        stack = Deployed(db, simulator, connect())
        stack.add(NAME)
        stack.add("octo/b")
        stack.queues.plans.clear()
        with suppress(DatabaseError):
            db.execute(
                "UPDATE progressive_backfill_state SET metadata = CAST(:m AS jsonb)"
                " WHERE repository_id = (SELECT id FROM repositories WHERE name = 'a')",
                m=metadata,
            )
        failure = ""
        try:
            stack.heartbeat()
        except Exception as error:
            failure = f"the heartbeat: {error!r}"
        stack.live(1)
        other = stack.state("octo/b")["status"]
        assert (failure, other) == ("", "completed")


@pytest.mark.parametrize("where", ["worker", "planner"])
@pytest.mark.parametrize("odd", ["\x00", "\ud83d"], ids=["NUL", "surrogate"])
def test_a13_any_text_of_an_error_is_recorded(stack: Deployed, simulator: GitHub, odd: str, where: str) -> None:
    """c07: both are legal in JSON, and neither is text for Postgres."""
    stack.add(NAME)
    if where == "worker":
        stack.plan_once()
    simulator.reply = said("WEIRD", f"strange {odd} text")
    (outcome,) = stack.live(1, most=1, heartbeats=False)
    assert not outcome.startswith("raised"), outcome.encode("ascii", "backslashreplace").decode()
    assert "strange" in (stack.state()["last_error"] or "")


def test_a15_conflicts_of_transactions_do_not_count_as_attempts(
    simulator: GitHub, connect: Connect, postgres: Postgres, database_url: str
) -> None:
    """c37: default_transaction_isolation = 'serializable', and other workers whose chunks end while this one stores its own."""
    postgres.run(f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET default_transaction_isolation = 'serializable'")
    other, outcomes = connect(), list[str]()
    with closing(Contended(lambda: database_url)) as mine:
        stack = Deployed(mine, simulator, connect())
        stack.add(NAME)
        stack.plan_once()
        while stack.queues.chunks and len(outcomes) < 8:
            mine.rival = lambda: other.execute("UPDATE progressive_backfill_state SET last_processed_at = now()")
            outcomes.append(stack.work_once())
            stack.pass_time(900)
        assert [row for row in chunks(stack) if row[0] == "failed"] == [], outcomes


@pytest.mark.parametrize("text", ["[/x] is down", "\x1b[2J\x1b]0;title\x07"], ids=["brackets", "escape"])
def test_a16_a_text_of_github_in_a_terminal(
    stack: Deployed, simulator: GitHub, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c06: rich takes brackets for markup, and the terminal takes the rest."""
    stack.add(NAME)
    stack.plan_once()
    simulator.reply = said("WEIRD", text)
    assert stack.work_once() == "retried"
    monkeypatch.setattr(
        DeployedStack,
        "invoke",
        lambda _, function, event: json.loads(json.dumps(stack.console.act(event), default=str)),
    )
    done = CliRunner().invoke(app, ["status"])
    assert (done.exit_code, done.exception) == (0, None)
    assert "\x1b" not in done.output, repr(done.output[done.output.index("\x1b") - 60 :][:80])


def test_a18_a_removed_repository_leaves_no_dead_letter(stack: Deployed) -> None:
    """c33: what was on its way when it was deleted is dead, and nobody can say what it was about: the alarm stays on."""
    stack.add(NAME, chunk_size=5)
    stack.plan_once()
    stack.queues.request_plan(stack.state()["repository_id"])
    stack.db.execute("DELETE FROM repositories")
    stack.live(5)
    assert [letter.reason for letter in stack.queues.dead] == []


# 19. Three more, cheap and clear.


def test_a19_a_pipeline_that_fails_leaves_nothing(db: Database) -> None:
    """c35: the second statement cannot be encoded; the first one is in the socket's buffer, and the next Sync commits it."""
    db.execute("CREATE TABLE t (a text)")
    wanted = 2
    try:
        db.pipeline([("INSERT INTO t VALUES (:a)", {"a": each}) for each in ("first", "\ud800")])
    except Exception:
        wanted = 0
    assert len(db.rows("SELECT a FROM t")) == wanted


def test_a21_the_gaps_fit_into_an_answer_of_lambda(completed: Deployed) -> None:
    """c39: 6 MB is the most; a reason may have 2,000 characters, and 10,000 gaps are shown."""
    completed.db.execute(
        "INSERT INTO pull_requests SELECT made.* FROM (SELECT * FROM pull_requests LIMIT 1) AS p, generate_series(1, 10000) AS n,"
        " jsonb_populate_record(CAST(NULL AS pull_requests), to_jsonb(p) || jsonb_build_object('number', 100 + n, 'node_id', n,"
        " 'detail_error', repeat('x', 2000), 'detail_error_code', 'attempts_spent', 'detail_failed_at', now(),"
        " 'detail_updated_at', NULL, 'detail_synced_at', NULL)) AS made"
    )
    size = len(json.dumps(completed.console.act({"action": "gaps", "repository": NAME})))
    assert size <= 6_291_556, f"{size:,} bytes"
