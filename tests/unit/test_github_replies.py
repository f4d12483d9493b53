"""Each way in which GitHub is known to fail has one meaning: every row of the failure table, its variants, and what is beyond it."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

import pytest

from backfill.errors import BackfillError
from backfill.github.errors import (
    BadCredentials,
    BrokenOff,
    Forbidden,
    InvalidQuery,
    RateLimited,
    RepositoryUnavailable,
    TooLarge,
    Unexplained,
    Unreachable,
)
from backfill.github.transport import (
    LONGEST_WAIT_SECONDS,
    LONGEST_WINDOW_SECONDS,
    classify,
    classify_installation_token,
)
from local.simulator import PASSING, Failure

NOW = 1_800_000_000
# GitHub's own clock, an hour before the reset; nobody else's is asked.
HEADERS = {
    "date": formatdate(NOW, usegmt=True),
    "x-ratelimit-limit": "5000",
    "x-ratelimit-remaining": "4200",
    "x-ratelimit-reset": str(NOW + 1800),
}
COMPLETE: dict[str, Any] = {
    "data": {
        "rateLimit": {"cost": 1, "limit": 5000, "remaining": 4200, "resetAt": "2027-01-15T08:30:00Z"},
        "node": {"id": "R_1", "p0": {"number": 1}, "p1": {"number": 2}},
    }
}

# What each reply that the simulator can play means; those that cut the connection are tested on a connection.
MEANINGS: dict[str, type[BackfillError]] = {
    "points spent": RateLimited,
    "points spent, another word": RateLimited,
    "points spent, 403": RateLimited,
    "secondary limit, 403": RateLimited,
    "secondary limit, 403 without a time": RateLimited,
    "secondary limit, 429": RateLimited,
    "secondary limit, 429 without a time": RateLimited,
    "secondary limit, 200": RateLimited,
    "secondary limit, 200 without a time": RateLimited,
    "bad token": BadCredentials,
    "bad token, as nobody": BadCredentials,
    "repository missing": RepositoryUnavailable,
    "single sign-on": Forbidden,
    "permission missing": Forbidden,
    "permission missing, 403": Forbidden,
    "too many nodes": InvalidQuery,
    "no bounds": InvalidQuery,
    "large page": InvalidQuery,
    "too many ids": InvalidQuery,
    "bad cursor": InvalidQuery,
    "timeout, 502 JSON": TooLarge,
    "timeout, 502 HTML": TooLarge,
    "timeout, 504 JSON": TooLarge,
    "timeout, 504 HTML": TooLarge,
    "timeout, 200": TooLarge,
    "resource limit": TooLarge,
    "resource limit, thousands": TooLarge,
    "truncated document": BrokenOff,
    "empty body": BrokenOff,
    "HTML with 200": Unexplained,
    "null data": Unexplained,
    "no data": Unexplained,
    "errors beside complete data": Unexplained,
    "unknown error": Unexplained,
    "500": BrokenOff,
    "unavailable": Unreachable,
}
# These two are data: GitHub says that it has no such node. Nulls without a reason are the client's to refuse.
AS_DATA = ("node missing", "number missing", "null without a reason")
ON_A_CONNECTION = ("stream reset", "unexpected end of file", "too large")


def classified(failure: Failure) -> Any:
    answer = json.loads(json.dumps(COMPLETE))
    changed = failure.change(answer) if failure.change else failure.content
    body = changed if isinstance(changed, bytes) else changed if isinstance(changed, str) else json.dumps(changed)
    return classify(failure.status, {**HEADERS, **failure.headers}, body if isinstance(body, bytes) else body.encode())


def test_every_failure_has_its_meaning_here() -> None:
    assert {each.name for each in PASSING} == {*MEANINGS, *AS_DATA, *ON_A_CONNECTION}


@pytest.mark.parametrize("failure", [each for each in PASSING if each.name in MEANINGS], ids=lambda each: each.name)
def test_a_failure_is_never_data(failure: Failure) -> None:
    with pytest.raises(BackfillError) as raised:
        classified(failure)
    assert type(raised.value) is MEANINGS[failure.name]
    assert str(raised.value)


@pytest.mark.parametrize(
    ("name", "kind", "wait"),
    [
        ("points spent", "primary", 1800.0),
        ("points spent, another word", "primary", 1800.0),
        ("points spent, 403", "primary", 1800.0),
        ("secondary limit, 403", "secondary", 60.0),
        ("secondary limit, 403 without a time", "secondary", None),
        ("secondary limit, 429", "secondary", 30.0),
        ("secondary limit, 429 without a time", "secondary", None),
        ("secondary limit, 200", "secondary", 5.0),
        ("secondary limit, 200 without a time", "secondary", None),
    ],
)
def test_a_limit_says_how_long_to_wait(name: str, kind: str, wait: float | None) -> None:
    with pytest.raises(RateLimited) as limited:
        classified(next(each for each in PASSING if each.name == name))
    assert (limited.value.kind, limited.value.wait_seconds) == (kind, wait)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "99999999999"}, LONGEST_WAIT_SECONDS),
        ({"x-ratelimit-remaining": "0"}, 1800.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW - 5)}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 10**9)}, LONGEST_WINDOW_SECONDS),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "never"}, None),
    ],
)
def test_a_secondary_limit_waits_for_retry_after_else_for_the_reset_if_nothing_remains(
    headers: dict[str, str], wait: float | None
) -> None:
    with pytest.raises(RateLimited) as limited:
        classify(403, {**HEADERS, **headers}, b'{"message": "You have exceeded a secondary rate limit."}')
    assert limited.value.wait_seconds == wait


def test_a_limit_is_told_from_a_refusal_without_its_text() -> None:
    with pytest.raises(RateLimited):
        classify(429, HEADERS, b"<html>")
    with pytest.raises(RateLimited):
        classify(403, {**HEADERS, "retry-after": "9"}, b"<html>")
    with pytest.raises(RateLimited):
        classify(403, {**HEADERS, "x-ratelimit-remaining": "0"}, b"")
    with pytest.raises(Unexplained):
        classify(403, HEADERS, b"<html>")


def test_only_a_401_to_nobody_may_pass() -> None:
    for limit, transient in (("60", True), ("5000", False)):
        with pytest.raises(BadCredentials) as refused:
            classify(401, {**HEADERS, "x-ratelimit-limit": limit}, b'{"message": "Bad credentials"}')
        assert refused.value.transient is transient


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(Forbidden, match="single sign-on"):
        classified(next(each for each in PASSING if each.name == "single sign-on"))
    with pytest.raises(Forbidden, match=r"node\.pullRequests.*give the GitHub App the permission"):
        classified(next(each for each in PASSING if each.name == "permission missing"))
    with pytest.raises(Unreachable, match="GITHUB_API_URL"):
        classify(404, HEADERS, b'{"message": "Not Found"}')
    with pytest.raises(Unreachable, match="GITHUB_API_URL"):
        classify(301, {"location": "https://elsewhere"}, b"")


def test_a_block_for_legal_reasons_says_so() -> None:
    with pytest.raises(Forbidden, match=r"legal reasons.*DMCA"):
        classify(451, HEADERS, b'{"message": "Repository access blocked: DMCA"}')


def test_what_github_does_not_have_is_missing_and_the_rest_is_data() -> None:
    reply = classified(next(each for each in PASSING if each.name == "number missing"))
    assert reply.missing == {("node", "p0")}
    assert reply.data["node"]["p1"] == {"number": 2}
    assert classified(next(each for each in PASSING if each.name == "node missing")).missing == {("node",)}


@pytest.mark.parametrize("path", [["node", "p0"], ["node", "p0", "author"], [], None, "node"])
def test_not_found_explains_a_null_of_what_was_asked_for_and_nothing_else(path: Any) -> None:
    """The data at the path is there, or lies deeper: something is missing in what was asked for."""
    body = {**COMPLETE, "errors": [{"type": "NOT_FOUND", "path": path, "message": "Could not resolve"}]}
    with pytest.raises(Unexplained):
        classify(200, HEADERS, json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"errors": "many", "data": {}}',
        b'{"errors": [7], "data": {}}',
        b'{"data": {"rateLimit": {"resetAt": "never"}}}',
        b'{"data": {"rateLimit": {"limit": "much"}}}',
        b'{"data": {"rateLimit": 7}}',
        b'{"data": []}',
    ],
)
def test_what_nobody_has_written_down_is_not_stored(body: bytes) -> None:
    with pytest.raises((Unexplained, TooLarge)):
        classify(200, HEADERS, body)


def test_a_reply_tells_the_budget_by_githubs_clock() -> None:
    reply = classify(200, {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}, json.dumps(COMPLETE).encode())
    assert (reply.cost, reply.limit, reply.remaining, reply.reset_seconds) == (1, 5000, 4200, 1800.0)


def test_an_enterprise_server_without_limits_is_no_failure() -> None:
    reply = classify(200, {"date": HEADERS["date"]}, b'{"data": {"rateLimit": null, "node": {"id": "R_1"}}}')
    assert (reply.cost, reply.limit, reply.remaining, reply.reset_seconds) == (None, None, None, None)


@pytest.mark.parametrize(
    ("status", "headers", "body", "meaning"),
    [
        (401, {}, b'{"message": "A JSON web token could not be decoded"}', BadCredentials),
        (404, {}, b'{"message": "Not Found"}', BadCredentials),
        (403, {}, b'{"message": "This installation has been suspended"}', Forbidden),
        (403, {"retry-after": "60"}, b'{"message": "You have exceeded a secondary rate limit"}', RateLimited),
        (502, {}, b"<html>", Unreachable),
        (201, {}, b"{}", Unreachable),
        (201, {}, b'{"token": "t", "expires_at": 7}', Unreachable),
        (201, {}, b"<html>", Unreachable),
    ],
)
def test_no_installation_token_has_a_reason_too(
    status: int, headers: dict[str, str], body: bytes, meaning: type[BackfillError]
) -> None:
    with pytest.raises(BackfillError) as raised:
        classify_installation_token(status, headers, body)
    assert type(raised.value) is meaning
