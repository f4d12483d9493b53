"""What the errors of a reply concern: the whole request, or one place in the data beside them.

GitHub answers in parts. A refusal (FORBIDDEN, missing scopes, single sign-on, NOT_FOUND) can stand at any path, with good data
beside it. Only a refusal of the query, of the repository or of its ``pullRequests`` concerns the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backfill.github.errors import (
    Forbidden,
    InvalidQuery,
    RepositoryUnavailable,
    ScopeMissing,
    TooLarge,
    Unexplained,
    UnknownField,
    ValidationTimeout,
)

Path = tuple[str | int, ...]

_ACCESS_TYPES = {"FORBIDDEN", "INSUFFICIENT_SCOPES"}
_QUERY_TYPES = {
    "MAX_NODE_LIMIT_EXCEEDED",
    "MISSING_PAGINATION_BOUNDARIES",
    "EXCESSIVE_PAGINATION",
    "ARGUMENT_LIMIT",
    "INVALID_CURSOR_ARGUMENTS",
}
_SIZE_TYPES = {"RESOURCE_LIMITS_EXCEEDED", "MAX_COMPLEXITY_EXCEEDED", "MAX_DEPTH_EXCEEDED"}
_SIZE_WORDS = re.compile(r"Something went wrong|exceeds max complexity|query is too (large|complex)", re.I)
# Validation runs before execution and has a time limit of its own.
_VALIDATION = re.compile(r"timeout on validation", re.I)
# PullRequest.fullDatabaseId is the newest field of the queries. GitHub announced it with the end of databaseId, for July 2024
# (breaking changes of the GraphQL API); 3.14 is the first server that was released after that. Not tried on a server.
OLDEST_ENTERPRISE_SERVER = "3.14"
_UNKNOWN_FIELD = re.compile(r"Field '\w+' doesn't exist on type '\w+'")
# A repository's pull requests, as the documents name them.
_PULL_REQUESTS = {"pullRequests", "newest"}
_SCOPES = re.compile(r"The '(\w+)' field requires one of the following scopes: \[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one place of a reply is null. ``is_definite``: GitHub gave a reason that asking again does not change."""

    code: str
    reason: str
    is_definite: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """``missing``: paths of nodes that GitHub does not have. ``refused``: deeper places that it does not show."""

    missing: frozenset[Path] = frozenset()
    refused: Mapping[Path, Refusal] = field(default_factory=dict)


def judge(errors: list[dict[str, Any]], data: Any) -> Judged:
    """Sort the errors of a reply by what they concern. Raises the type of an error that concerns the whole request."""
    missing: set[Path] = set()
    refused: dict[Path, Refusal] = {}
    for error in errors:
        extensions = error["extensions"] if isinstance(error.get("extensions"), dict) else {}
        kind = str(error.get("type") or extensions.get("code") or "")
        message = str(error.get("message", ""))[:500]
        path: Path = tuple(error["path"]) if isinstance(error.get("path"), list) else ()
        if kind == "NOT_FOUND" and path == ("repository",):
            raise RepositoryUnavailable(message)
        if not kind and _VALIDATION.search(message):
            raise ValidationTimeout(message)
        if _is_too_much(kind, message):
            raise TooLarge(message)
        if kind in _QUERY_TYPES:
            raise InvalidQuery(f"{kind}: {message}")
        unknown = _UNKNOWN_FIELD.search(message)
        if kind == "undefinedField" or unknown is not None:
            raise UnknownField(
                f"{message}; the oldest GitHub Enterprise Server that works is {OLDEST_ENTERPRISE_SERVER}"
            )
        if kind in _ACCESS_TYPES or "SAML" in message or extensions.get("saml_failure"):
            refusal = _access(kind, message, path, bool(extensions.get("saml_failure")))
            if _concerns_everything(path):
                raise refusal
            refused[path] = Refusal(refusal.code, str(refusal))
        elif kind == "NOT_FOUND" and 0 < len(path) <= 2 and _is_null(data, path):
            # A repository, one of several, or a pull request by its number.
            missing.add(path)
        elif len(path) > 2 and not _concerns_everything(path) and _is_null(data, path):
            is_missing = kind == "NOT_FOUND"
            refused[path] = Refusal("not_found" if is_missing else "unexplained", message, is_definite=is_missing)
        else:
            raise Unexplained(f"GitHub error {kind or 'without a type'}: {message}")
    return Judged(frozenset(missing), refused)


def why_forbidden(message: str, *, needs_single_sign_on: bool = False) -> str:
    """GitHub's words, and what the operator does about them."""
    if needs_single_sign_on or "SAML" in message:
        return f"{message}; authorize the token for the organization's SAML single sign-on"
    if "integration" in message:
        return f"{message}; give the GitHub App the permission, and accept it for the installation"
    return message or "GitHub forbids it without a reason"


def below(refused: Mapping[Path, Refusal], prefix: Path) -> dict[Path, Refusal]:
    """The refusals at and under a path, by the rest of their paths."""
    return {path[len(prefix) :]: each for path, each in refused.items() if path[: len(prefix)] == prefix}


def _is_too_much(kind: str, message: str) -> bool:
    """GitHub ran out of time or resources, or refuses the size of the query: a smaller one may pass."""
    if kind in _SIZE_TYPES:
        return True
    return not kind and bool(_SIZE_WORDS.search(message))


def _access(kind: str, message: str, path: Path, needs_single_sign_on: bool) -> Forbidden:
    scopes = _SCOPES.search(message)
    if kind == "INSUFFICIENT_SCOPES" and scopes is not None:
        return ScopeMissing(message, field=scopes[1], scopes=scopes[2])
    place = ".".join(str(step) for step in path)
    text = f"{message} (at {place})" if place else message
    return Forbidden(why_forbidden(text, needs_single_sign_on=needs_single_sign_on))


def _concerns_everything(path: Path) -> bool:
    """Whether a path is that of the query, of a repository, or of its pull requests as a whole."""
    if path and path[0] == "nodes":
        return len(path) <= 2 or (len(path) == 3 and path[2] in _PULL_REQUESTS)
    if path and path[0] in ("node", "repository"):
        return len(path) == 1 or (len(path) == 2 and path[1] in _PULL_REQUESTS)
    return not path or path[0] in ("viewer", "rateLimit")


def _is_null(data: Any, path: Path) -> bool:
    """Whether the data at a path is null, or a null on the way took its place."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return data is None
    return data is None
