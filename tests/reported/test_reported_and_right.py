"""Reported behaviour of GitHub that the product always withstood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backfill.errors import BackfillError
from backfill.github.errors import Forbidden, RateLimited, TooLarge
from backfill.github.replies import classify
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import generate
from local.simulator.server import Answer
from tests.reported.harness import Altered, days, detailed

NAME, SIZE = "octo/alpha", 40


@pytest.fixture
def simulator() -> Iterator[Altered]:
    with Altered(generate(3, {NAME: SIZE}), speed=5000) as running:
        yield running


@pytest.fixture
def stack(db: Database, simulator: Altered) -> Stack:
    return Stack(db, simulator)


def person(kind: str, node_id: str, login: str) -> dict[str, Any]:
    return {"__typename": kind, "id": node_id, "databaseId": 7, "login": login, "avatarUrl": "a", "url": "u"}


def test_p01_two_accounts_swap_their_logins(stack: Stack) -> None:
    repository = stack.repository(NAME)
    one, two = sorted(repository.pull_requests)[:2]
    repository.change(one, author=person("User", "U_a", "alice"))
    repository.change(two, author=person("User", "U_b", "bob"))
    stack.add(NAME)
    days(stack, 3)
    repository.change(one, author=person("User", "U_a", "bob"))
    repository.change(two, author=person("User", "U_b", "alice"))
    for _ in range(2):
        stack.heartbeat()
        stack.run()
    found = stack.db.rows("SELECT node_id, login FROM contributors WHERE node_id IN ('U_a', 'U_b') ORDER BY 1")
    assert [row["login"] for row in found] == ["bob", "alice"]


def test_p03_bots_mannequins_enterprise_accounts_and_a_pending_review(stack: Stack) -> None:
    repository = stack.repository(NAME)
    number = min(n for n, each in repository.pull_requests.items() if each["reviews"])
    kept = repository.pull_requests[number]
    kept["reviews"][0].update(state="PENDING", submittedAt=None, author=None, body="")
    kept["mergedBy"] = person("EnterpriseUserAccount", "EUA_1", "ent")
    kept["reviewRequests"] = [person("Bot", "BOT_c", "copilot-pull-request-reviewer"), person("Mannequin", "M_9", "m")]
    stack.add(NAME)
    days(stack, 3)
    stack.assert_equals_github()
    assert len(stack.db.rows("SELECT 1 FROM contributors WHERE node_id IN ('EUA_1', 'BOT_c', 'M_9')")) == 3
    assert stack.db.rows("SELECT 1 FROM reviews WHERE state = 'PENDING' AND submitted_at IS NULL AND author_id IS NULL")


def test_p04_a_reviewer_that_is_null_without_an_error(stack: Stack, simulator: Altered) -> None:
    """chdsbd/kodiak#146."""
    repository = stack.repository(NAME)
    number = min(repository.pull_requests)
    repository.change(number, reviewRequests=[person("User", "U_a", "a")])

    def alter(answer: Any, query: str, variables: Any) -> None:
        for node in detailed(answer).values():
            for each in (node.get("reviewRequests") or {}).get("nodes") or []:
                if node["number"] == number:
                    each["requestedReviewer"] = None

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    assert stack.state()["processed_prs"] == SIZE


def test_p05_halves_of_surrogates_and_nul_in_every_text(stack: Stack) -> None:
    repository = stack.repository(NAME)
    bad = "x\ud83d\x00y"
    kept = repository.pull_requests[min(repository.pull_requests)]
    names = ["a,b \U0001f600" + bad, "Bug", "bug"]
    kept["title"], kept["headRefName"], kept["milestone"] = bad, bad, {"number": 1, "title": bad}
    kept["labels"] = [{"id": f"L_{i}", "name": name, "color": "ededed"} for i, name in enumerate(names)]
    for each in kept["commits"]:
        each["commit"].update(messageHeadline=bad, author={"name": bad, "user": None})
    for each in kept["files"]:
        each["path"] += bad
    stack.add(NAME)
    days(stack, 3)
    assert stack.state()["processed_prs"] == SIZE
    assert stack.db.rows("SELECT 1 FROM labels WHERE name = 'a,b \U0001f600xy'")


def test_p06_bodies_of_262144_characters_of_four_bytes(stack: Stack) -> None:
    repository = stack.repository(NAME)
    long = sorted(repository.pull_requests)[:12]
    for number in long:
        repository.change(number, body="\U0001f600" * 262_144, title="")
    stack.add(NAME)
    days(stack, 3)
    found = (
        stack.db.one("SELECT count(*) AS n FROM pull_requests WHERE octet_length(body) = 1048576 AND title = ''") or {}
    )
    assert (found["n"], stack.state()["processed_prs"]) == (len(long), SIZE)


def test_p08_an_empty_archived_repository_whose_id_is_too_large_for_32_bits(db: Database) -> None:
    with Altered(generate(3, {"octo/empty": 1}), speed=5000) as simulator:
        repository = next(iter(simulator.repositories.values()))
        repository.node = {**repository.node, "databaseId": None, "defaultBranchRef": None, "isArchived": True}
        repository.pull_requests = {}
        stack = Stack(db, simulator)
        stack.add("octo/empty")
        stack.run()
        assert stack.state()["status"] == "completed"


POLICIES = {
    "an IP allow list (aquaproj/user-list#2101)": "Although you appear to have the correct authorization credentials, the `octo` organization has an IP allow list enabled, and your IP address is not permitted to access this resource.",
    "a lifetime policy (GladysAssistant/v4-website#408)": "The 'octo' organization forbids access via a fine-grained personal access tokens if the token's lifetime is greater than 366 days.",
    "no classic tokens": "`octo` forbids access via a personal access token (classic).",
}


@pytest.mark.parametrize("message", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("as_403", [True, False])
def test_p09_a_policy_of_the_organization_pauses_with_its_own_words(
    stack: Stack, simulator: Altered, message: str, as_403: bool
) -> None:
    stack.add(NAME)
    error = {"type": "FORBIDDEN", "path": ["node"], "extensions": {"saml_failure": False}, "message": message}
    body = {"message": message} if as_403 else {"data": {"node": None}, "errors": [error]}
    simulator.alter = lambda *_: Answer(403 if as_403 else 200, {}, json.dumps(body).encode())
    stack.run()
    state = stack.state()
    assert (state["pause_reason"], message[:40] in state["last_error"], state["requests_made"]) == (
        "forbidden",
        True,
        1,
    )


def test_p10_one_blocked_repository_among_those_checked(db: Database) -> None:
    names = [f"octo/r{index}" for index in range(4)]
    with Altered(generate(3, dict.fromkeys(names, 5)), speed=5000) as simulator:
        stack = Stack(db, simulator)
        for name in names:
            stack.add(name)
        stack.run()

        def alter(answer: Any, query: str, variables: Any) -> None:
            ids = variables.get("ids") or []
            if "R_octo/r3" in ids:
                answer["data"]["nodes"][ids.index("R_octo/r3")] = None
                answer["errors"] = [
                    {
                        "type": "FORBIDDEN",
                        "path": ["nodes", ids.index("R_octo/r3")],
                        "message": "Repository access blocked",
                    }
                ]

        simulator.alter = alter
        good = stack.repository(names[0])
        good.change(min(good.pull_requests), title="News")
        for _ in range(2):
            stack.heartbeat()
            stack.run()
        assert db.rows("SELECT 1 FROM pull_requests WHERE title = 'News'")
        assert stack.state("octo/r3")["pause_reason"] == "forbidden"


def test_p11_a_warning_about_an_old_node_id_is_not_an_error(stack: Stack, simulator: Altered) -> None:
    """github.blog changelog 2022-11-10; pwntester/octo.nvim#1373."""

    def alter(answer: Any, query: str, variables: Any) -> None:
        answer["extensions"] = {
            "warnings": [
                {"type": "DEPRECATION", "message": "The id M= is deprecated.", "data": {"next_global_id": "R_k"}}
            ]
        }

    simulator.alter = alter
    stack.add(NAME)
    days(stack, 3)
    assert stack.state()["processed_prs"] == SIZE


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (429, "<html>Whoa there! You have exceeded a secondary rate limit.", RateLimited),
        (504, {"message": "We couldn't respond to your request in time."}, TooLarge),
        (
            200,
            {
                "data": None,
                "errors": [{"message": "Something went wrong while executing your query on 2025-04-01T02:26:07Z."}],
            },
            TooLarge,
        ),
        (403, {"message": "Repository access blocked", "block": {"reason": "tos"}}, Forbidden),
        (403, {"message": "Sorry. Your account was suspended"}, Forbidden),
    ],
)
def test_p12_replies_that_were_seen_in_the_field(status: int, body: Any, meaning: type[BackfillError]) -> None:
    """flowwer-dev/pull-request-stats#103, caarlos0/fork-cleaner#99."""
    with pytest.raises(meaning):
        classify(status, {}, (body if isinstance(body, str) else json.dumps(body)).encode())
