"""Reported behaviour of GitHub that once broke the product. Each test says the right behaviour."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Iterator
from typing import Any

import pytest

from backfill.github.errors import RateLimited
from backfill.github.replies import classify
from backfill.store.connection import Database
from local.in_process import Stack, differences
from local.light import light
from local.simulator import generate
from local.simulator.data import connect
from local.simulator.server import Answer
from local.simulator.viewers import EVERYBODY, Viewer
from tests.integration.demanding import comments, reviews
from tests.reported.harness import Altered, days, detailed, listed_nodes, pass_time

NAME, SIZE = "octo/alpha", 40
SAML = "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization."


@pytest.fixture
def simulator() -> Iterator[Altered]:
    with Altered(generate(3, {NAME: SIZE}), speed=5000) as running:
        yield running


@pytest.fixture
def stack(db: Database, simulator: Altered) -> Stack:
    return Stack(db, simulator)


def eighth(stack: Stack) -> tuple[Any, int]:
    repository = stack.repository(NAME)
    return repository, sorted(repository.pull_requests)[7]


def stored(stack: Stack) -> int:
    row = stack.db.one("SELECT count(*) AS n FROM pull_requests WHERE detail_synced_at IS NOT NULL")
    return int((row or {})["n"])


def no_more_than(simulator: Altered, most: int) -> None:
    """After so many requests a test has seen enough."""
    real = simulator.answer

    def answer(body: dict[str, Any], viewer: Viewer = EVERYBODY) -> Answer:
        return Answer(401, {}, b'{"message": "enough"}') if simulator.asked > most else real(body, viewer)

    simulator.answer = answer  # type: ignore[method-assign]


# 1. One place that the token may not see stops the whole repository.


def test_f01a_a_fork_behind_single_sign_on(stack: Stack, simulator: Altered) -> None:
    """cli/cli#7881: the head repository of one pull request belongs to an organization with SAML."""
    _, bad = eighth(stack)

    def alter(answer: Any, query: str, variables: Any) -> None:
        places = [(["node", "pullRequests", "nodes", i], n) for i, n in enumerate(listed_nodes(answer))]
        places += [(["node", alias], n) for alias, n in detailed(answer).items()]
        errors = []
        for path, node in places:
            if node.get("number") == bad:
                node["headRepository"] = None
                errors.append(
                    {
                        "type": "FORBIDDEN",
                        "path": [*path, "headRepository"],
                        "extensions": {"saml_failure": True},
                        "message": SAML,
                    }
                )
        if errors:
            answer["errors"] = errors

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 4)
    assert stored(stack) >= SIZE - 1, f"{stored(stack)} of {SIZE}; {stack.state()['last_error']}"


def test_f01b_a_pull_request_behind_single_sign_on(stack: Stack, simulator: Altered) -> None:
    """fwouts/prmonitor#1042: one pull request is null, with an error at its place."""
    _, bad = eighth(stack)

    def alter(answer: Any, query: str, variables: Any) -> None:
        nodes = listed_nodes(answer)
        for index, node in enumerate(nodes):
            if node["number"] == bad:
                nodes[index] = None
                path = ["node", "pullRequests", "nodes", index]
                answer["errors"] = [
                    {"type": "FORBIDDEN", "path": path, "extensions": {"saml_failure": True}, "message": SAML}
                ]

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 4)
    assert stored(stack) >= SIZE - 1, f"{stored(stack)} of {SIZE}; {stack.state()['last_error']}"


def test_f01c_a_team_that_the_app_may_not_see(stack: Stack, simulator: Altered) -> None:
    """dust-tt/dust#29326: an app without Members: read. docs/operations.md does not ask for that permission."""
    repository, bad = eighth(stack)
    team = {
        "__typename": "Team",
        "id": "T_1",
        "databaseId": 7,
        "slug": "core",
        "combinedSlug": "octo/core",
        "avatarUrl": None,
        "url": "u",
    }
    repository.change(bad, reviewRequests=[team])

    def alter(answer: Any, query: str, variables: Any) -> None:
        errors = []
        for alias, node in detailed(answer).items():
            for index, each in enumerate((node.get("reviewRequests") or {}).get("nodes") or []):
                if node["number"] == bad:
                    each["requestedReviewer"] = None
                    path = ["node", alias, "reviewRequests", "nodes", index, "requestedReviewer"]
                    errors.append(
                        {"type": "FORBIDDEN", "path": path, "message": "Resource not accessible by integration"}
                    )
        if errors:
            answer["errors"] = errors

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 4)
    assert stored(stack) >= SIZE - 1, f"{stored(stack)} of {SIZE}; {stack.state()['last_error']}"


def test_f01d_a_classic_token_with_the_scope_repo(stack: Stack, simulator: Altered) -> None:
    """cli/cli#812, abhinav/git-spice#984: any field of Team wants read:org, for each requested reviewer."""
    needing = sum(1 for each in stack.repository(NAME).pull_requests.values() if each["reviewRequests"])

    def alter(answer: Any, query: str, variables: Any) -> None:
        if "combinedSlug" in query:
            message = "Your token has not been granted the required scopes to execute this query. The 'combinedSlug' field requires one of the following scopes: ['read:org', 'read:discussion'], but your token has only been granted the: ['repo'] scopes."
            answer.clear()
            answer["errors"] = [
                {"type": "INSUFFICIENT_SCOPES", "locations": [{"line": 1, "column": 9}], "message": message}
            ]

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 4)
    assert stored(stack) >= SIZE - needing, f"{stored(stack)} of {SIZE}; {stack.state()['last_error']}"


# 2. A sync request for a repository that GitHub refuses returns at once, again and again.


@pytest.mark.parametrize("kind", ["bad token", "repository gone", "forbidden"])
def test_f02_a_sync_request_does_not_spin(stack: Stack, simulator: Altered, kind: str) -> None:
    stack.add(NAME)
    days(stack, 3)
    gone = {
        "data": {"node": None},
        "errors": [{"type": "NOT_FOUND", "path": ["node"], "message": "Could not resolve to a node"}],
    }
    saml = {"data": {"node": None}, "errors": [{"type": "FORBIDDEN", "path": ["node"], "message": SAML}]}
    replies = {
        "bad token": Answer(401, {}, b'{"message": "Bad credentials"}'),
        "repository gone": Answer(200, {}, json.dumps(gone).encode()),
        "forbidden": Answer(200, {}, json.dumps(saml).encode()),
    }
    # The planner has seen it before, where that matters.
    stack.db.execute("UPDATE repositories SET unavailable_since = now() WHERE :gone", gone=kind == "repository gone")
    simulator.alter = lambda *_: replies[kind]
    stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [eighth(stack)[1]]})
    asked, deliveries = simulator.asked, 0
    waiting = "SELECT 1 FROM backfill_chunks WHERE status = 'pending' AND available_at > now() + interval '5 seconds'"
    while stack.queues.chunks and deliveries < 40 and not stack.db.rows(waiting):
        stack.work_once()
        deliveries += 1
    assert deliveries < 10, (
        f"{deliveries} deliveries without a wait, {simulator.asked - asked} requests, and on it goes"
    )


# 3. One repository that GitHub cannot answer for hides the changes of all completed ones.


@pytest.mark.parametrize("batch", [100])
@pytest.mark.parametrize("kind", ["times out", "null without a reason"])
def test_f03_one_bad_repository_does_not_hide_the_changes_of_the_others(
    db: Database, kind: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rpothin/PowerPlatform-OpenSource-Hub#64: a large repository makes the whole batch end in a 502.

    With batches of one, the bad one comes first: those behind it are never reached.
    """
    monkeypatch.setattr("backfill.planner.completed.CHECKED_AT_ONCE", batch)
    names = [f"octo/r{index}" for index in (3, 0, 1, 2)]
    with Altered(generate(3, dict.fromkeys(names, 5)), speed=5000) as simulator:
        stack = Stack(db, simulator)
        for name in names:
            stack.add(name)
        stack.run()

        def alter(answer: Any, query: str, variables: Any) -> Answer | None:
            ids = variables.get("ids") or []
            if "R_octo/r3" not in ids:
                return None
            if kind == "times out":
                return Answer(
                    502,
                    {},
                    b'{"data": null, "errors": [{"message": "Something went wrong while executing your query."}]}',
                )
            answer["data"]["nodes"][ids.index("R_octo/r3")] = None
            return None

        simulator.alter = alter
        db.execute(
            "UPDATE progressive_backfill_state AS s SET examined_at = now() - interval '1 day' * (CASE WHEN r.name = 'r3' THEN 2 ELSE 1 END) FROM repositories AS r WHERE r.id = s.repository_id"
        )
        good = stack.repository("octo/r0")
        good.change(min(good.pull_requests), title="News")
        for _ in range(4):
            stack.heartbeat()
            stack.run()
            db.execute("UPDATE github_budget SET free_at = now()")
        said = [
            (row["repository"], row["status"], row["last_error"])
            for row in stack.console.act({"action": "status"})["backfills"]
        ]
        assert db.rows("SELECT 1 FROM pull_requests WHERE title = 'News'"), said


# 4. One value that Postgres does not take fails its whole chunk.


def test_f04b_a_very_long_path_fails_alone_and_says_why(stack: Stack) -> None:
    """karanhudia/borg-ui#911: a B-tree entry holds 2,704 bytes; the path is part of the primary key of files."""
    repository, bad = eighth(stack)
    rng = random.Random(1)
    repository.pull_requests[bad]["files"][0]["path"] = "/".join(
        "".join(rng.choices(string.ascii_letters, k=60)) for _ in range(60)
    )
    stack.add(NAME)
    days(stack, 6)
    assert stored(stack) >= SIZE - 1


def test_f04c_one_row_of_a_page_does_not_stop_the_listing(stack: Stack, simulator: Altered) -> None:
    _, bad = eighth(stack)

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in listed_nodes(answer):
            if node.get("number") == bad:
                node["closedAt"] = "0000-01-01T00:00:00Z"

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 4)
    assert stored(stack) >= SIZE - 1, f"{stored(stack)} of {SIZE}; {stack.state()['last_error']}"


# 5. A null in one connection costs the whole pull request, and two dozen requests.


@pytest.mark.parametrize("connection", ["labels", "commits", "closingIssuesReferences"])
@pytest.mark.parametrize("reason", [None, "NOT_FOUND"])
def test_f05_a_null_node_does_not_cost_the_pull_request(
    stack: Stack, simulator: Altered, connection: str, reason: str | None
) -> None:
    """daintreehq/daintree#1554, microsoft/vscode-pull-request-github#5322, entrius/gittensor#1582."""
    repository, bad = eighth(stack)
    label = {"id": "L_a", "name": "a", "color": "ffffff"}
    repository.change(
        bad, labels=[label, {**label, "id": "L_b"}], closingIssuesReferences=[{"number": 5}, {"number": 6}]
    )
    commit = repository.pull_requests[bad]["commits"][0]
    repository.change(bad, commits=[commit, {**commit, "commit": {**commit["commit"], "oid": "a" * 40}}])

    def alter(answer: Any, query: str, variables: Any) -> None:
        for alias, node in detailed(answer).items():
            if node["number"] == bad and node.get(connection):
                node[connection]["nodes"][0] = None
                if reason:
                    answer.setdefault("errors", []).append(
                        {
                            "type": reason,
                            "path": ["node", alias, connection, "nodes", 0],
                            "message": "Could not resolve",
                        }
                    )

    simulator.alter = alter
    stack.add(NAME)
    asked = simulator.asked
    days(stack, 2)
    row = stack.db.one("SELECT body FROM pull_requests WHERE number = :n", n=bad) or {}
    assert row["body"] is not None, f"nothing of it is stored, for {simulator.asked - asked} requests"


# 6. A diff that GitHub does not compute.


def test_f06b_files_that_cannot_be_had_do_not_cost_the_conversation(stack: Stack, simulator: Altered) -> None:
    _, bad = eighth(stack)

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in detailed(answer).values():
            if node["number"] == bad:
                node.update({name: None for name in ("files", "filesLast") if name in node})

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    assert stack.db.rows("SELECT 1 FROM comments WHERE pull_request_number = :n", n=bad), (
        "no comment, no review, no body"
    )


def test_f07_a_path_that_is_deleted_and_added_again_is_two_files(stack: Stack) -> None:
    """openclaw/gitcrawl#77: jj-vcs/jj#9355 and #2986 have two entries of one path."""
    repository, bad = eighth(stack)
    pair = [("DELETED", 0, 9), ("ADDED", 1, 0)]
    repository.change(
        bad,
        files=[{"path": "A.md", "changeType": k, "additions": a, "deletions": d} for k, a, d in pair],
        changedFiles=2,
    )
    stack.add(NAME)
    days(stack, 3)
    assert len(stack.db.rows("SELECT 1 FROM files WHERE pull_request_number = :n", n=bad)) == 2


# 7. Counts and cursors that are wrong.


def test_f08a_a_total_that_is_too_low_loses_nothing(stack: Stack, simulator: Altered) -> None:
    repository, bad = eighth(stack)
    kept = repository.pull_requests[bad]
    more = kept["totalCommentsCount"] - len(kept["comments"])
    repository.change(bad, comments=comments(repository, bad, 170), totalCommentsCount=150 + more)

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in [*listed_nodes(answer), *detailed(answer).values()]:
            for name in ("comments", "commentsLast", "commentsCount"):
                if node["number"] == bad and node.get(name):
                    node[name]["totalCount"] = 150

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    rows = stack.db.rows("SELECT 1 FROM comments WHERE pull_request_number = :n AND kind = 'issue_comment'", n=bad)
    assert len(rows) == 170 or stack.db.rows("SELECT 1 FROM pull_request_gaps WHERE number = :n", n=bad), (
        f"{len(rows)} of 170"
    )


def test_f08b_a_connection_that_ends_too_early_does_not_count_as_success(stack: Stack, simulator: Altered) -> None:
    """simonw/simonw#6: for a day hasNextPage was false after the first page."""
    repository, bad = eighth(stack)
    kept = repository.pull_requests[bad]
    more = kept["totalCommentsCount"] - len(kept["comments"])
    repository.change(bad, comments=comments(repository, bad, 90), totalCommentsCount=90 + more)

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in detailed(answer).values():
            if node["number"] == bad and node.get("comments"):
                node["comments"]["nodes"] = node["comments"]["nodes"][:30]
                node["comments"]["pageInfo"]["hasNextPage"] = False

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    rows = stack.db.rows("SELECT 1 FROM comments WHERE pull_request_number = :n AND kind = 'issue_comment'", n=bad)
    assert len(rows) == 90 or stack.db.rows("SELECT 1 FROM pull_request_gaps WHERE number = :n", n=bad), (
        f"{len(rows)} of 90"
    )


@pytest.mark.parametrize("where", ["listing", "review"])
def test_f09_a_cursor_that_stands_still_is_noticed(stack: Stack, simulator: Altered, where: str) -> None:
    """zerocracy/judges-action#2142, cli/cli#3728."""
    repository, bad = eighth(stack)
    repository.change(bad, **reviews(repository, bad, [130], 60))

    def alter(answer: Any, query: str, variables: Any) -> None:
        data = answer.get("data") or {}
        node = data.get("node") or {}
        if where == "listing" and node.get("pullRequests"):
            node["pullRequests"]["pageInfo"].update(hasNextPage=True, endCursor=None)
        elif where == "review":
            below = [r for n in detailed(answer).values() for r in (n.get("reviews") or {}).get("nodes", [])]
            for each in [*below, *(v for k, v in data.items() if k[0] == "n" and k[1:].isdigit() and v)]:
                if each["comments"]["pageInfo"]["hasNextPage"]:
                    each["comments"]["pageInfo"]["endCursor"] = None

    simulator.alter = alter
    no_more_than(simulator, 200)
    stack.add(NAME)
    days(stack, 1)
    assert simulator.asked < 200, "200 requests, and no end"


# 8. Identity.


def test_f10_commands_by_name_reach_the_repository_that_has_the_name_now(stack: Stack, simulator: Altered) -> None:
    """polarsource/polar#2502, harness/harness#2658: deleted, and created again under its name."""
    stack.add(NAME)
    days(stack, 3)
    (old,) = simulator.repositories.values()
    (new,) = generate(9, {NAME: 12})
    text = json.dumps(list(new.pull_requests.values()))
    for kind in ("PR", "PRR", "PRRC", "PRRT", "IC", "PRC"):
        text = text.replace(f'"{kind}_octo', f'"{kind}_new_octo')
    new.node, new.pull_requests = {**new.node, "id": "R_reborn"}, {each["number"]: each for each in json.loads(text)}
    for each in new.pull_requests.values():
        connect(each)
    del simulator.repositories[old.node["id"]]
    simulator.repositories["R_reborn"] = new
    stack.add(NAME)
    stack.run()
    for _ in range(3):
        stack.heartbeat()
        stack.run()
    (shown,) = stack.console.act({"action": "status", "repository": NAME})["backfills"]
    assert shown["total_prs"] == 12, (
        f"status, pause, gaps and sync reach the dead one: {shown['status']}, {shown['total_prs']}"
    )


# 9. Other servers and other clocks.


def test_f12_an_enterprise_server_that_lacks_a_field_is_told_at_once(stack: Stack, simulator: Altered) -> None:
    """refined-github/refined-github#6946, turbot/steampipe-plugin-github#306."""

    def alter(answer: Any, query: str, variables: Any) -> None:
        if "fullDatabaseId" in query:
            answer.clear()
            path = ["query ListPullRequests", "node", "... on Repository", "pullRequests", "nodes", "fullDatabaseId"]
            extensions = {"code": "undefinedField", "typeName": "PullRequest", "fieldName": "fullDatabaseId"}
            answer["errors"] = [
                {
                    "path": path,
                    "extensions": extensions,
                    "message": "Field 'fullDatabaseId' doesn't exist on type 'PullRequest'",
                }
            ]

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 6)
    state = stack.state()
    assert (state["pause_reason"], state["requests_made"] < 5) == ("invalid_query", True), (
        f"{state['pause_reason']}, {state['error_count']} errors, {state['requests_made']} requests"
    )


def test_f13_a_date_in_the_future_does_not_end_the_watching(stack: Stack) -> None:
    """constructorfabric/insight#3356: a record with a clock set ahead becomes the cursor, and the stream goes silent."""
    repository, bad = eighth(stack)
    first = min(repository.pull_requests)
    repository.change(first, updatedAt="2033-05-05T00:00:00Z")
    stack.add(NAME)
    days(stack, 3)
    repository.change(bad, title="Changed today", state="CLOSED")
    for _ in range(4):
        stack.heartbeat()
        stack.run()
    assert differences(stack.db, stack.simulator) == []


def test_f14_a_limit_whose_reset_has_passed_waits_longer_each_time(stack: Stack, simulator: Altered) -> None:
    """Mergifyio/mergify#4940, kubernetes/test-infra#1261."""
    stack.add(NAME)
    stack.plan_once()
    body = b'{"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."}]}'
    simulator.alter = lambda *_: Answer(
        200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) - 30)}, body
    )
    waits = []
    for _ in range(5):
        pass_time(stack.db)
        stack.work_once()
        row = (
            stack.db.one(
                "SELECT CAST(EXTRACT(epoch FROM blocked_until - clock_timestamp()) AS float8) AS s FROM github_budget"
            )
            or {}
        )
        waits.append(round(row["s"], 1))
    assert waits[-1] > 30, f"seconds between requests under one limit: {waits}"


@pytest.mark.parametrize("kind", [{}, {"type": "SECONDARY_RATE_LIMITED"}])
def test_f15_a_secondary_limit_among_the_errors_is_a_limit(kind: dict[str, str]) -> None:
    """GitHub documents 200 or 403 for it, and GraphQL says what is wrong in errors (octokit/plugin-throttling.js#632)."""
    body = {
        "errors": [
            {
                **kind,
                "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
            }
        ]
    }
    with pytest.raises(RateLimited):
        classify(200, {"retry-after": "60"}, json.dumps(body).encode())


def test_f16_one_answer_of_a_lagging_replica_does_not_fail_for_a_day(stack: Stack, simulator: Altered) -> None:
    """ExpediaGroup/insights-explorer#271: now and then an old updatedAt comes back right after a change."""
    _, bad = eighth(stack)
    lag = [1]

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in detailed(answer).values():
            if node["number"] == bad and lag[0]:
                lag[0] -= 1
                node["updatedAt"] = "2018-01-02T00:00:00Z"

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    for _ in range(3):
        pass_time(stack.db)
        stack.heartbeat()
        stack.run()
    assert stored(stack) == SIZE, stack.db.rows("SELECT number, error_code FROM pull_request_gaps")


def test_f17_an_actor_of_a_kind_that_is_new_keeps_its_login(stack: Stack, simulator: Altered) -> None:
    """The kind of apache/devlake#9085, for the next type that implements Actor."""
    _, bad = eighth(stack)

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in [*listed_nodes(answer), *detailed(answer).values()]:
            if node["number"] == bad:
                node["author"] = {"__typename": "Agent", "login": "coding-agent", "avatarUrl": "a", "url": "u"}

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    assert stack.db.rows("SELECT 1 FROM contributors WHERE login = 'coding-agent'"), (
        "stored as if its user had been deleted"
    )


def test_f18_hidden_ones_that_grow_do_not_list_everything_again(db: Database) -> None:
    """Spam that GitHub counts and does not show: one more at every heartbeat."""
    with Altered(light(450, NAME), speed=50000) as simulator:
        hidden = [0]

        def alter(answer: Any, query: str, variables: Any) -> None:
            data = answer.get("data") or {}
            for node in [
                data.get("node") or {},
                data.get("repository") or {},
                *(each for each in data.get("nodes") or [] if each),
            ]:
                if "totalCount" in node.get("pullRequests", {}):
                    node["pullRequests"]["totalCount"] += hidden[0]

        simulator.alter = alter
        stack = Stack(db, simulator)
        stack.add(NAME, chunk_size=100)
        stack.run()
        asked = simulator.asked
        for _ in range(4):
            hidden[0] += 1
            stack.heartbeat()
            stack.run()
        assert simulator.asked - asked < 4 * 5, (
            f"{simulator.asked - asked} requests for 4 heartbeats over 5 pages in which nothing has changed"
        )
