"""Every way in which GitHub is known to fail, as replies to play: the failure table of the facts about the API, with variants."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply in place of the true one. ``body`` is text, bytes, or what is sent as JSON.

    ``change`` makes the body of what would have been answered, which GitHub then charges. ``cut``: the connection is reset
    before a reply, or ends in the middle of the body.
    """

    name: str
    status: int = 200
    body: str | bytes | Node = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[Node], Node | str] | None = None
    cut: Literal["", "reset", "end"] = ""

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return encoded(self.body)


def encoded(body: str | bytes | Node) -> bytes:
    """Text, bytes, or JSON as bytes."""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _error(message: str, **fields: Any) -> Node:
    return {"errors": [{**fields, "message": message}]}


def _pull_requests(answer: Node) -> list[str]:
    """The aliases of pull requests that were asked for by number."""
    node = (answer.get("data") or {}).get("node") or {}
    return [alias for alias in node if alias[0] == "p" and alias[1:].isdigit()]


def _resource_limits(answer: Node) -> str:
    """Each pull request null, an error for each of thousands of paths, and the document breaks off."""
    for alias in _pull_requests(answer):
        answer["data"]["node"][alias] = None
    paths = [["node", f"p{index}", "comments"] for index in range(3000)]
    error = {"type": "RESOURCE_LIMITS_EXCEEDED", "message": "Resource limits for this query exceeded."}
    text = json.dumps({**answer, "errors": [{**error, "path": path} for path in paths]})
    return text[: len(text) * 2 // 3]


def _resource_limit(answer: Node) -> Node:
    error = {"type": "RESOURCE_LIMITS_EXCEEDED", "message": "Resource limits for this query exceeded."}
    aliases = _pull_requests(answer)[::2]
    for alias in aliases:
        answer["data"]["node"][alias] = None
    return {**answer, "errors": [{**error, "path": ["node", alias]} for alias in aliases or ["pullRequests"]]}


def _missing_number(answer: Node) -> Node:
    """One pull request is said not to exist; where none was asked for, nothing is changed."""
    for alias in _pull_requests(answer)[:1]:
        answer["data"]["node"][alias] = None
        message = "Could not resolve to a PullRequest with the number of 1."
        answer["errors"] = [{"type": "NOT_FOUND", "path": ["node", alias], "message": message}]
    return answer


def _null_without_reason(answer: Node) -> Node:
    for alias in _pull_requests(answer)[:1]:
        answer["data"]["node"][alias] = None
    return answer


def _beside_complete_data(answer: Node) -> Node:
    return {**answer, **_error("Something else is the matter.", type="SOMETHING_NEW")}


_SECONDARY = {
    "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    "documentation_url": "https://docs.github.com/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api",
}
_TIMEOUT = {
    "data": None,
    **_error(
        "Something went wrong while executing your query. This may be the result of a timeout, or it could be a GitHub bug."
    ),
}
_HTML = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
_BAD_CREDENTIALS = {"message": "Bad credentials", "documentation_url": "https://docs.github.com/graphql"}

# Gone by themselves: the next request may have its answer.
PASSING = (
    Failure("points spent", body=_error("API rate limit exceeded for user ID 1.", type="RATE_LIMITED")),
    Failure(
        "points spent, another word",
        body=_error("API rate limit already exceeded for user ID 1.", type="RATE_LIMIT", code="graphql_rate_limit"),
        headers={"x-ratelimit-remaining": "4"},
    ),
    Failure(
        "points spent, 403", 403, {"message": "API rate limit exceeded for user ID 1."}, {"x-ratelimit-remaining": "0"}
    ),
    Failure("secondary limit, 403", 403, _SECONDARY, {"retry-after": "60"}),
    Failure("secondary limit, 403 without a time", 403, _SECONDARY),
    Failure("secondary limit, 429", 429, _SECONDARY, {"retry-after": "30"}),
    Failure("secondary limit, 429 without a time", 429, _SECONDARY),
    Failure("secondary limit, 200", 200, _SECONDARY, {"retry-after": "5"}),
    Failure("secondary limit, 200 without a time", 200, _SECONDARY),
    Failure("bad token", 401, _BAD_CREDENTIALS),
    Failure("bad token, as nobody", 401, _BAD_CREDENTIALS, {"x-ratelimit-limit": "60"}),
    Failure(
        "repository missing",
        body={
            "data": {"repository": None},
            **_error("Could not resolve to a Repository with the name 'o/r'.", type="NOT_FOUND", path=["repository"]),
        },
    ),
    Failure(
        "node missing",
        body={
            "data": {"node": None},
            **_error("Could not resolve to a node with the global id of 'R_1'.", type="NOT_FOUND", path=["node"]),
        },
    ),
    Failure("number missing", change=_missing_number),
    Failure(
        "single sign-on",
        body={
            "data": {"node": None},
            **_error(
                "Resource protected by organization SAML enforcement. You must grant your OAuth token access to it.",
                type="FORBIDDEN",
                path=["node"],
                extensions={"saml_failure": True},
            ),
        },
        headers={"x-github-sso": "required; url=https://github.com/orgs/o/sso?authorization_request=A1"},
    ),
    Failure(
        "permission missing",
        body={
            "data": {"node": None},
            **_error("Resource not accessible by integration", type="FORBIDDEN", path=["node", "pullRequests"]),
        },
    ),
    Failure("permission missing, 403", 403, {"message": "Resource not accessible by integration"}),
    Failure(
        "too many nodes",
        body=_error("This query requests up to 600,000 possible nodes.", type="MAX_NODE_LIMIT_EXCEEDED"),
    ),
    Failure(
        "no bounds", body=_error("You must provide a `first` or `last` value.", type="MISSING_PAGINATION_BOUNDARIES")
    ),
    Failure("large page", body=_error("Requesting 200 records exceeds the limit.", type="EXCESSIVE_PAGINATION")),
    Failure("too many ids", body=_error("You may not provide more than 100 node ids.", type="ARGUMENT_LIMIT")),
    Failure("bad cursor", body=_error("`abc` does not appear to be a valid cursor.", type="INVALID_CURSOR_ARGUMENTS")),
    Failure("timeout, 502 JSON", 502, _TIMEOUT),
    Failure("timeout, 502 HTML", 502, _HTML.format("502 Bad Gateway")),
    Failure("timeout, 504 JSON", 504, _TIMEOUT),
    Failure("timeout, 504 HTML", 504, _HTML.format("504 Gateway Time-out")),
    Failure("timeout, 200", 200, _TIMEOUT),
    Failure("stream reset", cut="reset"),
    Failure("unexpected end of file", change=lambda answer: answer, cut="end"),
    Failure("resource limit", change=_resource_limit),
    Failure("resource limit, thousands", change=_resource_limits),
    # Beyond the table: what a server may answer that nobody has written down.
    Failure("truncated document", change=lambda answer: json.dumps(answer)[:-20]),
    Failure("empty body"),
    Failure("HTML with 200", 200, _HTML.format("Please sign in")),
    Failure("null data", body={"data": None}),
    Failure("no data", body={}),
    Failure("null without a reason", change=_null_without_reason),
    Failure("errors beside complete data", change=_beside_complete_data),
    Failure("unknown error", body={"data": None, **_error("It hurts.", type="SOMETHING_NEW")}),
    Failure("500", 500, "Oops"),
    Failure("unavailable", 503, _HTML.format("503 Service Unavailable"), {"retry-after": "7"}),
    Failure("too large", headers={"content-encoding": "gzip"}, body=gzip.compress(b" " * 100_000_000, 9)),
)
