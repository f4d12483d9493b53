"""Classification: one place that turns GitHub's reply into data or into an error type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from backfill.github import headers as header
from backfill.github.errors import (
    MALFORMED,
    BadCredentials,
    BrokenOff,
    Forbidden,
    RateLimited,
    TooLarge,
    Unexplained,
    Unreachable,
    understood,
)
from backfill.github.records import Node
from backfill.github.refusals import Judged, Path, Refusal, judge, rate_limit, why_forbidden
from backfill.installations import Installation
from backfill.limits import LONGEST_WINDOW_SECONDS

# What GitHub grants a request that it counts as nobody's, by the hour.
POINTS_OF_NOBODY = 60
# What an App needs to read a private repository whole (docs/incomplete.md).
PERMISSIONS = ("metadata", "pull_requests", "contents", "issues")
# What a column of the budget holds; GitHub's limits are far below.
MOST_POINTS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable reply of ``size`` bytes, with what is ``missing`` or ``refused`` in it (see backfill.github.refusals)."""

    data: Node
    missing: frozenset[Path]
    cost: int | None
    limit: int | None
    remaining: int | None
    reset_seconds: float | None
    """From now until the budget's reset, by GitHub's own clock: other clocks do no harm."""
    size: int = 0
    refused: Mapping[Path, Refusal] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@understood()
def classify(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Data, or the error type that says what to do. What is not understood raises Unexplained.

    ``headers`` are looked up in lower case. The cases are the rows of the failure table in the facts about the API.
    """
    answer = _object(body)
    _raise_for_access(status, headers, answer, body)
    if status in (413, 502, 504):
        raise TooLarge(f"GitHub answered {status}")
    if status == 500:
        raise BrokenOff("GitHub answered 500")
    if status != 200:
        raise Unreachable(f"GitHub answered {status}; check GITHUB_API_URL, and https://www.githubstatus.com")
    if answer is None:
        if b"RESOURCE_LIMITS_EXCEEDED" in body:
            raise TooLarge("GitHub's reply says that resource limits were exceeded, and breaks off")
        if body.lstrip()[:1] in (b"{", b""):
            raise BrokenOff("GitHub's reply is not a complete JSON document")
        raise Unexplained("GitHub's reply is no JSON document")
    data, errors = answer.get("data"), answer.get("errors") or []
    if not isinstance(errors, list) or not all(isinstance(error, dict) for error in errors):
        raise Unexplained("GitHub's reply holds errors of an unknown form")
    judged = judge(errors, data)
    if not isinstance(data, dict):
        raise Unexplained("GitHub's reply holds no data")
    return _reply(data, judged, headers, len(body))


def classify_installation_token(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, datetime]:
    """The token and its end, from the reply of POST /app/installations/{id}/access_tokens."""
    answer = _object(body)
    _raise_for_app(status, headers, answer, body)
    try:
        if status != 201 or answer is None:
            raise ValueError
        return str(answer["token"]), datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00"))
    except (KeyError, ValueError, AttributeError):
        pass
    raise Unreachable(f"GitHub answered {status} without a token when asked for one of the app's installation")


def classify_installations(status: int, headers: Mapping[str, str], body: bytes) -> list[Installation]:
    """The installations of a page, from the reply of GET /app/installations."""
    _raise_for_app(status, headers, _object(body), body)
    try:
        if status != 200:
            raise ValueError
        return [_installation(each) for each in json.loads(body)]
    except (*MALFORMED, RecursionError):
        pass
    raise Unreachable(f"GitHub answered {status} without a list when asked for the app's installations")


def _installation(node: Node) -> Installation:
    granted = node.get("permissions") or {}
    suspended = node.get("suspended_at")
    return Installation(
        int(node["id"]),
        str(node["account"]["login"]),
        str(node["repository_selection"]),
        datetime.fromisoformat(suspended.replace("Z", "+00:00")) if suspended else None,
        tuple(name for name in PERMISSIONS if granted.get(name) not in ("read", "write", "admin")),
    )


def _raise_for_app(status: int, headers: Mapping[str, str], answer: Node | None, body: bytes) -> None:
    """Refusals of a request that an App signed."""
    if status in (401, 404):
        raise BadCredentials(
            "GitHub refuses the app: check app_id, private_key and, if the secret has it, installation_id, "
            f"and that the app is still installed ({_message(answer) or status})"
        )
    _raise_for_access(status, headers, answer, body)


def _raise_for_access(status: int, headers: Mapping[str, str], answer: Node | None, body: bytes) -> None:
    """Refusals that have nothing to do with what was asked: credentials, limits, permissions."""
    if status == 401:
        transient = header.whole(headers, "x-ratelimit-limit") == POINTS_OF_NOBODY
        raise BadCredentials("GitHub answers 401 to this token: it is wrong, expired or revoked", transient=transient)
    kind = _limit(status, headers, answer, body)
    if kind is not None:
        raise RateLimited(kind, _wait(kind, headers))
    if status == 451:
        raise Forbidden(f"GitHub blocks this for legal reasons (451): {_message(answer) or 'no reason given'}")
    if status == 403:
        if answer is None:
            raise Unexplained("GitHub answered 403 without a reason")
        raise Forbidden(why_forbidden(_message(answer), needs_single_sign_on=bool(headers.get("x-github-sso"))))


def _limit(status: int, headers: Mapping[str, str], answer: Node | None, body: bytes) -> str | None:
    """``primary`` or ``secondary`` if the reply is a rate limit, else None. Only the text tells one 403 from another."""
    is_refused = status in (403, 429)
    if answer is None and is_refused:
        # A page of HTML. In a broken JSON document of another status the words may be somebody's comment.
        answer = {"message": body[:2000].decode(errors="replace")}
    kind = rate_limit(answer or {}, is_refused=is_refused)
    if kind is None and is_refused and header.whole(headers, "x-ratelimit-remaining") == 0:
        kind = "primary"
    return kind or ("secondary" if status == 429 or (status == 403 and "retry-after" in headers) else None)


def _wait(kind: str, headers: Mapping[str, str]) -> float | None:
    """Seconds that GitHub asks to wait: its retry-after; else, with points spent, its reset; else no word."""
    now = _clock(headers)
    seconds = header.retry_after_seconds(headers, now)
    if seconds is None and (kind == "primary" or header.whole(headers, "x-ratelimit-remaining") == 0):
        seconds = header.reset_seconds(headers, now)
    return seconds


def _reply(data: Node, judged: Judged, headers: Mapping[str, str], size: int) -> Reply:
    """``rateLimit`` is null where an Enterprise Server limits nothing."""
    budget = data.get("rateLimit") or {}
    try:
        cost, limit, remaining = (_points(budget.get(name)) for name in ("cost", "limit", "remaining"))
        return Reply(
            data, judged.missing, cost, limit, remaining, _until_reset(budget, headers), size, judged.refused, headers
        )
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        pass
    raise Unexplained("GitHub's rateLimit is of an unknown form")


def _points(value: Any) -> int | None:
    return None if value is None else min(MOST_POINTS, max(0, int(value)))


def _until_reset(budget: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    """Seconds until ``resetAt``; None for one that has passed, which must not make a window look full."""
    if not budget.get("resetAt"):
        return None
    until = datetime.fromisoformat(budget["resetAt"].replace("Z", "+00:00"))
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    seconds = (until - _clock(headers)).total_seconds()
    return min(LONGEST_WINDOW_SECONDS, seconds) if seconds > 0 else None


def _object(body: bytes) -> Node | None:
    """The JSON object that a body holds, or None."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _message(answer: Node | None) -> str:
    return str(answer.get("message", ""))[:500] if answer else ""


def _clock(headers: Mapping[str, str]) -> datetime:
    """GitHub's time of the reply; this machine's where it gave none."""
    return header.moment(headers, "date") or datetime.now(UTC)
