"""HTTP to GitHub: one session per container, and one place that turns a reply into data or into an error type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from backfill.github.errors import (
    BadCredentials,
    Forbidden,
    InvalidQuery,
    RateLimited,
    RepositoryUnavailable,
    TooLarge,
    Unexplained,
    Unreachable,
)

USER_AGENT = "progressive-backfill/1 (+https://github.com/topics/progressive-backfill)"
CONNECT_SECONDS = 5.0
# GitHub gives a query 10 seconds; a little more for the way back.
READ_SECONDS = 25.0

_LIMIT_TYPES = {"RATE_LIMITED", "RATE_LIMIT"}
_QUERY_TYPES = {
    "MAX_NODE_LIMIT_EXCEEDED",
    "MISSING_PAGINATION_BOUNDARIES",
    "EXCESSIVE_PAGINATION",
    "ARGUMENT_LIMIT",
    "INVALID_CURSOR_ARGUMENTS",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable reply. ``missing`` are the paths of nodes that GitHub does not have (NOT_FOUND)."""

    data: dict[str, Any]
    missing: frozenset[tuple[str | int, ...]]
    cost: int | None
    limit: int | None
    remaining: int | None
    reset_seconds: float | None
    """From now until the budget's reset, by GitHub's own clock: other clocks do no harm."""


class Transport:
    """POSTs queries with a bearer token. Raises the types of backfill.github.errors; never shows the token."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url.rstrip("/")
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})

    def query(self, token: str, document: str, variables: Mapping[str, Any], seconds: float) -> Reply:
        """Run one query; give up after ``seconds``."""
        return classify(
            *self._post(f"{self.api_url}/graphql", token, {"query": document, "variables": variables}, seconds)
        )

    def installation_token(self, jwt: str, installation_id: str) -> tuple[str, datetime]:
        """A token of a GitHub App's installation, and when it expires."""
        url = f"{self.api_url}/app/installations/{installation_id}/access_tokens"
        status, _, body = self._post(url, jwt, {}, READ_SECONDS)
        if status == 401 or status == 404:
            raise BadCredentials("GitHub refuses the app's id, installation id or private key")
        if status != 201:
            raise Unreachable(f"GitHub answered {status} when asked for an installation token")
        answer = json.loads(body)
        return answer["token"], datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00"))

    def _post(
        self, url: str, token: str, body: Mapping[str, Any], seconds: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            response = self._session.post(
                url,
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=(CONNECT_SECONDS, max(1.0, min(READ_SECONDS, seconds))),
                allow_redirects=False,
            )
            return response.status_code, response.headers, response.content
        except (requests.exceptions.ReadTimeout, requests.exceptions.ChunkedEncodingError) as error:
            raise TooLarge(f"GitHub's reply broke off: {type(error).__name__}") from None
        except requests.exceptions.ConnectionError as error:
            # A reset while the query ran is how an overloaded request may end; no connection at all is no such sign.
            if "Connection aborted" in str(error) or "RemoteDisconnected" in str(error):
                raise TooLarge("GitHub closed the connection without a reply") from None
            raise Unreachable(f"cannot reach GitHub at {self.api_url}: {type(error).__name__}") from None
        except requests.exceptions.RequestException as error:
            raise Unreachable(f"the request to GitHub failed: {type(error).__name__}") from None


def classify(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Data, or the error type that says what to do. What is not understood raises Unexplained."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status == 401:
        raise BadCredentials("GitHub answered 401, bad credentials")
    if status in (403, 429) or _says_limit(answer):
        _raise_limit_or_forbidden(status, headers, answer)
    if status >= 500:
        raise TooLarge(f"GitHub answered {status}")
    if status != 200:
        raise Unexplained(f"GitHub answered {status}")
    if not isinstance(answer, dict):
        raise TooLarge("GitHub's reply is no complete JSON document")
    errors = answer.get("errors") or []
    missing = _judge(errors)
    data = answer.get("data")
    if not isinstance(data, dict):
        raise Unexplained("GitHub's reply holds no data")
    return _reply(data, missing, headers)


def _judge(errors: list[dict[str, Any]]) -> frozenset[tuple[str | int, ...]]:
    """The paths that are merely missing; raises for every other error."""
    missing = set()
    for error in errors:
        kind = str(error.get("type") or (error.get("extensions") or {}).get("code") or "")
        message = str(error.get("message", ""))
        path = tuple(error.get("path") or ())
        if kind == "NOT_FOUND" and path:
            if path == ("repository",):
                raise RepositoryUnavailable(message)
            missing.add(path)
        elif kind == "RESOURCE_LIMITS_EXCEEDED" or (not kind and "Something went wrong" in message):
            raise TooLarge(message)
        elif kind == "FORBIDDEN":
            raise Forbidden(message)
        elif kind in _QUERY_TYPES:
            raise InvalidQuery(f"{kind}: {message}")
        else:
            raise Unexplained(f"GitHub error {kind or 'without a type'}: {message[:200]}")
    return frozenset(missing)


def _says_limit(answer: Any) -> bool:
    if not isinstance(answer, dict):
        return False
    if "secondary rate limit" in str(answer.get("message", "")):
        return True
    return any(isinstance(error, dict) and error.get("type") in _LIMIT_TYPES for error in answer.get("errors") or [])


def _raise_limit_or_forbidden(status: int, headers: Mapping[str, str], answer: Any) -> None:
    message = str(answer.get("message", "")) if isinstance(answer, dict) else ""
    if "Resource not accessible" in message or "SAML" in message:
        raise Forbidden(message)
    kind = "secondary" if "secondary" in message else "primary"
    retry_after = headers.get("retry-after")
    if retry_after is not None and retry_after.isdigit():
        raise RateLimited(kind, float(retry_after))
    spent = kind == "primary" or headers.get("x-ratelimit-remaining") == "0"
    reset = headers.get("x-ratelimit-reset")
    if spent and reset is not None and reset.isdigit():
        raise RateLimited(kind, max(1.0, float(reset) - _clock(headers).timestamp()))
    raise RateLimited(kind, None)


def _reply(data: dict[str, Any], missing: frozenset[tuple[str | int, ...]], headers: Mapping[str, str]) -> Reply:
    limit = data.get("rateLimit") or {}
    reset = limit.get("resetAt")
    seconds = None
    if reset:
        seconds = (datetime.fromisoformat(reset.replace("Z", "+00:00")) - _clock(headers)).total_seconds()
    return Reply(data, missing, limit.get("cost"), limit.get("limit"), limit.get("remaining"), seconds)


def _clock(headers: Mapping[str, str]) -> datetime:
    """GitHub's time of the reply; this machine's where it gave none."""
    date = headers.get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)
