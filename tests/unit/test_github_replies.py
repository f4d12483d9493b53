"""Each way in which GitHub is known to fail has one meaning: every row of the failure table, its variants, and unknown replies."""

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
    UnknownField,
    Unreachable,
    ValidationTimeout,
)
from backfill.github.replies import classify, classify_installation_token
from backfill.limits import LONGEST_WAIT_SECONDS, LONGEST_WINDOW_SECONDS
from local.simulator import LASTING, PASSING, REWORDED, Failure

NOW = 1_800_000_000
FAILURES = (*PASSING, *REWORDED, *LASTING)
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
    "secondary limit, time in the past": RateLimited,
    "secondary limit, no time at all": RateLimited,
    "secondary limit, by its type": RateLimited,
    "secondary limit, by its code": RateLimited,
    "secondary limit, by its words": RateLimited,
    "secondary limit, with data": RateLimited,
    "points spent, by its code": RateLimited,
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
    "timeout of validation": ValidationTimeout,
    "timeout of validation, with a type": ValidationTimeout,
    "field unknown": UnknownField,
    "field unknown, without a code": UnknownField,
    "type unknown": UnknownField,
    "argument unknown": UnknownField,
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
    assert {each.name for each in FAILURES} == {*MEANINGS, *AS_DATA, *ON_A_CONNECTION}


@pytest.mark.parametrize("failure", [each for each in FAILURES if each.name in MEANINGS], ids=lambda each: each.name)
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
        ("secondary limit, time in the past", "secondary", None),
        ("secondary limit, no time at all", "secondary", None),
        ("secondary limit, by its type", "secondary", 30.0),
        ("secondary limit, by its code", "secondary", None),
        ("secondary limit, by its words", "secondary", None),
        ("secondary limit, with data", "secondary", 20.0),
        ("points spent, by its code", "primary", 1800.0),
    ],
)
def test_a_limit_says_how_long_to_wait(name: str, kind: str, wait: float | None) -> None:
    with pytest.raises(RateLimited) as limited:
        classified(next(each for each in FAILURES if each.name == name))
    assert (limited.value.kind, limited.value.wait_seconds) == (kind, wait)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "0"}, None),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, None),
        ({"retry-after": formatdate(NOW, usegmt=True)}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_WAIT_SECONDS),
        # A word that says nothing does not hide the reset.
        ({"retry-after": "0", "x-ratelimit-remaining": "0"}, 1800.0),
        ({"retry-after": "²"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "60, 60"}, None),
        ({"retry-after": "9" * 5000}, LONGEST_WAIT_SECONDS),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "²"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 400}, LONGEST_WINDOW_SECONDS),
        ({"x-ratelimit-remaining": "0", "date": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ({"x-ratelimit-remaining": "0", "date": "Mon, 01 Jan 0001 00:00:00 +2359"}, LONGEST_WINDOW_SECONDS),
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


@pytest.mark.parametrize("status", [200, 403, 429])
@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        {"type": "SECONDARY_RATE_LIMITED"},
        {"type": "secondary_rate_limit_exceeded"},
        {"extensions": {"code": "SECONDARY_RATE_LIMITED"}},
        {"extensions": {"type": "SECONDARY_RATE_LIMITED"}},
        {"type": "INTERNAL", "message": "You have exceeded a SECONDARY Rate Limit."},
        {"type": "RATE_LIMITED", "message": "You have exceeded a secondary rate limit."},
        {"message": "You have triggered an Abuse Detection mechanism.", "path": ["node", "p0", "files"]},
    ],
)
def test_a_secondary_limit_among_the_errors_is_one_wherever_it_arrives(
    error: dict[str, Any], with_data: bool, status: int
) -> None:
    body = {**(COMPLETE if with_data else {}), "errors": [{"message": "Slow down."} | error]}
    with pytest.raises(RateLimited) as limited:
        classify(status, {**HEADERS, "retry-after": "17"}, json.dumps(body).encode())
    assert (limited.value.kind, limited.value.wait_seconds) == ("secondary", 17.0)


@pytest.mark.parametrize(
    "error",
    [
        {"extensions": {"code": "RATE_LIMITED"}},
        {"extensions": {"code": "RATE_LIMIT"}},
        {"type": "rate_limited"},
        {"extensions": {"code": "graphql_rate_limit"}},
        {"message": "API Rate Limit already exceeded for user ID 1."},
    ],
)
def test_spent_points_among_the_errors_wait_for_the_reset(error: dict[str, Any]) -> None:
    body = {"errors": [{"message": "Slow down."} | error]}
    with pytest.raises(RateLimited) as limited:
        classify(200, HEADERS, json.dumps(body).encode())
    assert (limited.value.kind, limited.value.wait_seconds) == ("primary", 1800.0)


def test_text_of_a_user_about_limits_does_not_count_as_a_limit() -> None:
    node = {"title": "Handle the secondary rate limit", "body": "API rate limit exceeded"}
    body = json.dumps({"data": {**COMPLETE["data"], "node": node}})
    assert classify(200, HEADERS, body.encode()).data["node"] == node
    with pytest.raises(BrokenOff):
        classify(200, HEADERS, body[:-3].encode())
    with pytest.raises(Unreachable):
        classify(503, HEADERS, b"<html>no secondary rate limit</html>")


VALIDATIONS: list[tuple[dict[str, Any], str]] = [
    ({"message": "Field 'a' doesn't exist on type '[B!]!'"}, "'a'"),
    ({"message": "Field 'a' doesn't exist on type 'B'", "extensions": {"code": "undefinedField"}}, "'a'"),
    ({"message": "Not here", "extensions": {"code": "undefinedField", "fieldName": "a", "typeName": "B"}}, "a, B"),
    ({"message": "Not here", "type": "X", "extensions": {"code": "undefinedField", "fieldName": "a"}}, "(a)"),
    ({"message": "No such type Bot, so it can't be a fragment condition"}, "Bot"),
    ({"message": "No type", "extensions": {"code": "undefinedType", "typeName": "Bot"}}, "Bot"),
    ({"message": "Field 'files' doesn't accept argument 'last'"}, "'last'"),
    ({"message": "m", "extensions": {"code": "argumentNotAccepted", "name": "files", "argumentName": "last"}}, "last"),
    ({"message": "m", "extensions": {"code": "fragmentOnNonCompositeType", "typeName": "Int"}}, "Int"),
    ({"message": "m", "extensions": {"code": "missingRequiredArguments", "name": "files"}}, "files"),
    ({"message": "m", "extensions": {"code": "argumentLiteralsIncompatible", "argumentName": "orderBy"}}, "orderBy"),
    ({"message": "Fragment on Bot can't be spread inside Team"}, "Bot"),
    ({"message": "m", "extensions": {"code": "cannotSpreadFragment", "typeName": "Bot"}}, "Bot"),
    ({"message": "Objects must have selections (field 'a' returns B but has no selections)"}, "'a'"),
    ({"message": "m", "extensions": {"code": "selectionMismatch", "nodeName": "field 'a'", "typeName": "B"}}, "B"),
    ({"message": "Cannot query field 'a' on type 'B'."}, "'a'"),
    ({"message": 'Unknown type "Bot".', "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}, "Bot"),
]


@pytest.mark.parametrize(("error", "named"), VALIDATIONS)
@pytest.mark.parametrize("data", [{}, {"data": None}])
def test_a_field_that_a_server_lacks_is_named_with_the_oldest_server(
    error: dict[str, Any], named: str, data: dict[str, Any]
) -> None:
    path = ["query ListPullRequests", "node", "... on Repository", "pullRequests", "nodes", "a"]
    with pytest.raises(UnknownField) as unknown:
        classify(200, HEADERS, json.dumps({**data, "errors": [{"path": path, **error}]}).encode())
    assert named in str(unknown.value) and "Enterprise Server that works is 3.14" in str(unknown.value)


@pytest.mark.parametrize(
    "error",
    [
        {"type": "INTERNAL", "message": "Timeout on validation of query"},
        {"type": "undefined", "message": "timeout on Validation of query", "path": ["query"]},
        {"message": "Timeout on validation of query", "extensions": {"code": "validationTimeout"}},
        {"message": "Too slow", "extensions": {"code": "validationTimeout"}},
        {"type": "SERVICE_UNAVAILABLE", "message": "Something went wrong while executing your query."},
        {"type": "X", "message": "Query has complexity of 9000, which exceeds max complexity of 8000"},
        {"message": "This query is too large to execute."},
    ],
)
def test_a_request_that_is_too_much_is_known_whatever_its_type(error: dict[str, Any]) -> None:
    with pytest.raises(TooLarge) as large:
        classify(200, HEADERS, json.dumps({"errors": [error]}).encode())
    assert error["message"] in str(large.value)


@pytest.mark.parametrize("kind", [{"type": "INTERNAL"}, {}])
def test_something_that_went_wrong_in_one_place_concerns_that_place(kind: dict[str, str]) -> None:
    body = json.loads(json.dumps(COMPLETE))
    body["data"]["node"]["p0"]["files"] = None
    body["errors"] = [{**kind, "message": "Something went wrong", "path": ["node", "p0", "files"]}]
    assert not classify(200, HEADERS, json.dumps(body).encode()).refused["node", "p0", "files"].is_definite


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("2027-01-15T08:30:00Z", 1800.0),
        ("2027-01-15T08:00:00Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", LONGEST_WINDOW_SECONDS),
        ("9999-12-31T23:59:59-23:59", LONGEST_WINDOW_SECONDS),
    ],
)
def test_a_reset_of_a_reply_is_clamped_and_in_the_past_no_information(reset: str, seconds: float | None) -> None:
    body = {"data": {"rateLimit": {"cost": -1, "limit": 10**30, "remaining": 5, "resetAt": reset}}}
    reply = classify(200, HEADERS, json.dumps(body).encode())
    # A column of the budget holds what is reported.
    assert (reply.reset_seconds, reply.cost, reply.limit) == (seconds, 0, 2**31 - 1)


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


def test_places_that_github_does_not_have_are_missing_and_the_rest_is_data() -> None:
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
def test_an_undocumented_reply_is_not_stored(body: bytes) -> None:
    with pytest.raises((Unexplained, TooLarge)):
        classify(200, HEADERS, body)


def test_a_reply_tells_the_budget_by_githubs_clock() -> None:
    reply = classify(200, {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}, json.dumps(COMPLETE).encode())
    assert (reply.cost, reply.limit, reply.remaining, reply.reset_seconds) == (1, 5000, 4200, 1800.0)


def test_an_enterprise_server_without_limits_works() -> None:
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
