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


def _first_connection(answer: Node) -> tuple[str, str, Node] | None:
    """Alias, name and page of a connection that has nodes, of a pull request that was asked for by number."""
    for alias in _pull_requests(answer):
        node = answer["data"]["node"][alias] or {}
        for name, page in node.items():
            if isinstance(page, dict) and page.get("nodes") and not name.endswith("Last"):
                return alias, name, page
    return None


def _refused(kind: str, message: str, **fields: Any) -> Callable[[Node], Node]:
    """A refusal at the fork of a pull request, listed or detailed, with all other data beside it."""

    def change(answer: Node) -> Node:
        node = (answer.get("data") or {}).get("node") or {}
        rows = (node.get("pullRequests") or {}).get("nodes") or []
        places: list[tuple[list[Any], Node]] = [
            (["node", "pullRequests", "nodes", index], row) for index, row in enumerate(rows)
        ]
        places += [(["node", alias], node[alias] or {}) for alias in _pull_requests(answer)]
        for path, row in places[:1]:
            row["headRepository"] = None
            answer["errors"] = [{**fields, "type": kind, "path": [*path, "headRepository"], "message": message}]
        return answer

    return change


def _in_connection(spoil: Callable[[Node], None]) -> Callable[[Node], Node]:
    """Something lacks in one connection of one pull request."""

    def change(answer: Node) -> Node:
        found = _first_connection(answer)
        if found is not None:
            spoil(found[2])
        return answer

    return change


def _null_connection(answer: Node) -> Node:
    found = _first_connection(answer)
    if found is not None:
        answer["data"]["node"][found[0]][found[1]] = None
    return answer


def _null_node(page: Node) -> None:
    page["nodes"][0] = None


def _ends_too_early(page: Node) -> None:
    page["nodes"].pop()
    page["pageInfo"]["hasNextPage"] = False


def _no_cursor(page: Node) -> None:
    page["pageInfo"].update(hasNextPage=True, endCursor=None)


def _null_row(answer: Node) -> Node:
    """One pull request of a listing page is null, and GitHub says that the token may not see it."""
    rows = ((answer.get("data") or {}).get("node") or {}).get("pullRequests", {}).get("nodes") or []
    if rows:
        rows[0] = None
        path = ["node", "pullRequests", "nodes", 0]
        answer["errors"] = [{"type": "FORBIDDEN", "path": path, "message": _SAML, "extensions": {"saml_failure": True}}]
    return answer


def _impossible_date(answer: Node) -> Node:
    for alias in _pull_requests(answer)[:1]:
        (answer["data"]["node"][alias] or {})["closedAt"] = "300000-01-01T00:00:00Z"
    return answer


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


_SAML = "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to it."
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

# The same as some of them, in other words.
REWORDED = (
    Failure("secondary limit, time in the past", 429, _SECONDARY, {"retry-after": "Thu, 01 Jan 2015 00:00:00 GMT"}),
    Failure("secondary limit, no time at all", 403, _SECONDARY, {"retry-after": "0"}),
    Failure(
        "secondary limit, by its type",
        body=_error("Slow down.", type="SECONDARY_RATE_LIMITED"),
        headers={"retry-after": "30"},
    ),
    Failure("secondary limit, by its code", 403, _error("Slow down.", extensions={"code": "SECONDARY_RATE_LIMITED"})),
    Failure("secondary limit, by its words", 429, _error("You have exceeded a Secondary Rate Limit.")),
    Failure(
        "secondary limit, with data",
        change=lambda answer: {**answer, **_error("You have exceeded a secondary rate limit.", type="RATE_LIMITED")},
        headers={"retry-after": "20"},
    ),
    Failure("points spent, by its code", body=_error("Slow down.", extensions={"code": "RATE_LIMITED"})),
    Failure("timeout of validation", body=_error("Timeout on validation of query")),
    Failure("timeout of validation, with a type", body=_error("Timeout on validation of query", type="INTERNAL")),
)


def _undefined(message: str, **extensions: str) -> Node:
    """A document that does not fit the server's schema, as graphql-ruby says it."""
    path = ["query PullRequestDetails", "node", "... on Repository", "p1", "fullDatabaseId"]
    return _error(message, path=path, **({"extensions": extensions} if extensions else {}))


# They stay until somebody replaces the server.
LASTING = (
    Failure(
        "field unknown",
        body=_undefined(
            "Field 'fullDatabaseId' doesn't exist on type 'PullRequest'",
            code="undefinedField",
            typeName="PullRequest",
            fieldName="fullDatabaseId",
        ),
    ),
    Failure("field unknown, without a code", body=_undefined("Field 'a' doesn't exist on type '[B!]!'")),
    Failure(
        "type unknown",
        body=_undefined(
            "No such type Mannequin, so it can't be a fragment condition", code="undefinedType", typeName="Mannequin"
        ),
    ),
    Failure(
        "argument unknown",
        body=_undefined(
            "Field 'files' doesn't accept argument 'last'",
            code="argumentNotAccepted",
            name="files",
            argumentName="last",
        ),
    ),
)

# One place is missing, with good data beside it: the pull request is incomplete, and everything else is whole.
PARTIAL = (
    Failure("a fork that is forbidden", change=_refused("FORBIDDEN", "Resource not accessible by integration")),
    Failure("a fork behind single sign-on", change=_refused("FORBIDDEN", _SAML, extensions={"saml_failure": True})),
    Failure("a fork that is missing", change=_refused("NOT_FOUND", "Could not resolve to a Repository")),
    Failure("a null node", change=_in_connection(_null_node)),
    Failure("a null connection", change=_null_connection),
    Failure("a connection that ends too early", change=_in_connection(_ends_too_early)),
    Failure("a page without a cursor", change=_in_connection(_no_cursor)),
    Failure("a null row of the listing", change=_null_row),
    Failure("an impossible date", change=_impossible_date),
)
