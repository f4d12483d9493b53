"""What the errors of a reply concern: the whole request, or one place in the data beside them.

GitHub answers in parts. A refusal (FORBIDDEN, missing scopes, single sign-on, NOT_FOUND) can stand at any path, with good data
beside it. Only a refusal of the query, of the repository or of its ``pullRequests`` concerns the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backfill.error_codes import ErrorCode
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
Node = Mapping[str, Any]

_ACCESS_TYPES = {"FORBIDDEN", "INSUFFICIENT_SCOPES"}
_QUERY_TYPES = {
    "MAX_NODE_LIMIT_EXCEEDED",
    "MISSING_PAGINATION_BOUNDARIES",
    "EXCESSIVE_PAGINATION",
    "ARGUMENT_LIMIT",
    "INVALID_CURSOR_ARGUMENTS",
}
_SIZE_TYPES = re.compile(r"RESOURCE_LIMITS_EXCEEDED|MAX_(QUERY_)?(COMPLEXITY|DEPTH)(_EXCEEDED)?", re.I)
# These say what they mean: words beside them change nothing.
_SETTLED_TYPES = _QUERY_TYPES | _ACCESS_TYPES | {"NOT_FOUND"}
# Whatever other type stands beside these words.
_SIZE_WORDS = re.compile(
    r"exceeds max(imum)? (complexity|depth)|query is too (large|complex|deep)|too many (tokens|aliases)", re.I
)
# Validation runs before execution and has a time limit of its own. graphql-ruby's code of it is validationTimeout.
_VALIDATION = re.compile(r"timeout on validation", re.I)
_VALIDATION_TYPES = re.compile(r"VALIDATION_?TIMEOUT", re.I)
# A limit, as GitHub's type, as the code of an extension or in a sentence, whatever its capitals.
_SECONDARY_KIND = re.compile(r"SECONDARY_?RATE|ABUSE", re.I)
_PRIMARY_KIND = re.compile(r"(^|_)RATE_?LIMIT(S|ED|_EXCEEDED)?$", re.I)
_SECONDARY_WORDS = re.compile(r"secondary\s+rate|abuse\s+(detection|rate)", re.I)
_PRIMARY_WORDS = re.compile(r"API\s+rate\s+limit\s+(already\s+)?exceeded", re.I)
# PullRequest.fullDatabaseId is the newest field of the queries. GitHub announced it with the end of databaseId, for July 2024
# (breaking changes of the GraphQL API); 3.14 is the first server that was released after that. Not tried on a server.
OLDEST_ENTERPRISE_SERVER = "3.14"
# The codes of graphql-ruby's validation, which GitHub and GitHub Enterprise Server run on every document. The documents are
# valid by GitHub's published schema: a server that refuses one has another schema.
_VALIDATION_CODES = {
    "undefinedField",
    "undefinedType",
    "undefinedDirective",
    "argumentNotAccepted",
    "argumentNotUnique",
    "argumentLiteralsIncompatible",
    "missingRequiredArguments",
    "missingRequiredInputObjectAttribute",
    "selectionMismatch",
    "fieldConflict",
    "fragmentOnNonCompositeType",
    "fragmentNotUnique",
    "cannotSpreadFragment",
    "useAndDefineFragment",
    "anonymousFragment",
    "infiniteLoop",
    "directiveCannotBeApplied",
    "directiveNotUniqueForLocation",
    "missingQueryConfiguration",
    "uniquelyNamedOperations",
    "variableMismatch",
    "variableRequiresValidType",
    "variableNotDefined",
    "variableNotUsed",
    "variableNotUnique",
    "defaultValueInvalidType",
    "defaultValueInvalidOnNonNullVariable",
    # Servers that are not written in Ruby.
    "GRAPHQL_VALIDATION_FAILED",
}
# The same without a code: graphql-ruby's sentences, and those of graphql-js. A type may be written as [Name!]!.
_VALIDATION_WORDS = re.compile(
    r"Field '[^']+' doesn't exist on type '[^']+'|No such type \S+|doesn't accept argument|is missing required arguments"
    r"|has an invalid value|Fragment .*(was used, but not defined|can't be spread)|Invalid fragment on type"
    r"|Selections can't be made|must have selections|Directive @\S+ is not defined|isn't a defined input type"
    r"|mismatch on variable|Cannot query field|Unknown (type|argument|directive|fragment)|^Parse error on",
    re.I,
)
# One of several things that a document asks for side by side.
_ALIAS = re.compile(r"[a-z]\d+")
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


def judge(errors: list[Node], data: object) -> Judged:
    """Sort the errors of a reply by what they concern. Raises the type of an error that concerns the whole request."""
    missing: set[Path] = set()
    refused: dict[Path, Refusal] = {}
    for error in errors:
        kind = str(error.get("type") or _extensions(error).get("code") or "")
        message = str(error.get("message", ""))[:500]
        path: Path = tuple(error["path"]) if isinstance(error.get("path"), list) else ()
        _raise_for_query(error, kind, message, path)
        access = _access(error, kind, message, path)
        if access is not None:
            if _concerns_everything(path):
                raise access
            refused[path] = Refusal(access.code, str(access))
        elif kind == "NOT_FOUND" and 0 < len(path) <= 2 and _is_null(data, path):
            # A repository, one of several, or a pull request by its number.
            missing.add(path)
        elif _is_inside(path) and _is_null(data, path):
            is_missing = kind == "NOT_FOUND"
            code = ErrorCode.NOT_FOUND if is_missing else ErrorCode.UNEXPLAINED
            refused[path] = Refusal(code, message, is_definite=is_missing)
        else:
            raise Unexplained(f"GitHub error {kind or 'without a type'}: {message}")
    return Judged(frozenset(missing), refused)


def _raise_for_query(error: Node, kind: str, message: str, path: Path) -> None:
    """Raise for an error that is about the query as a whole."""
    if kind == "NOT_FOUND" and path == ("repository",):
        raise RepositoryUnavailable(message)
    if _is_validation_timeout(error, kind, message):
        raise ValidationTimeout(message)
    if _is_too_much(error, kind, message, path):
        raise TooLarge(message)
    if kind in _QUERY_TYPES:
        raise InvalidQuery(f"{kind}: {message}")
    if _is_invalid(error, kind, message):
        raise UnknownField(
            f"{_named(message, _extensions(error))}; the oldest GitHub Enterprise Server that works is {OLDEST_ENTERPRISE_SERVER}"
        )


def rate_limit(answer: Mapping[str, Any], *, is_refused: bool) -> str | None:
    """``primary`` or ``secondary`` if a reply, or one of its errors, says that a limit is reached, by its kind or its words.

    ``is_refused``: the reply has a status of refusals (403, 429), so that any words about a rate limit count.
    """
    errors = answer.get("errors")
    places = [answer, *(errors if isinstance(errors, list) else [errors])]
    places = [{"message": each} if isinstance(each, str) else each for each in places]
    found = [each for each in places if isinstance(each, Mapping)]
    kinds = [str(kind) for each in found for kind in _kinds(each)]
    words = [str(each.get("message") or "")[:2000] for each in found]
    if any(map(_SECONDARY_KIND.search, kinds)) or any(map(_SECONDARY_WORDS.search, words)):
        return "secondary"
    if any(map(_PRIMARY_KIND.search, kinds)) or any(map(_PRIMARY_WORDS.search, words)):
        return "primary"
    return "primary" if is_refused and any("rate limit" in each.casefold() for each in words) else None


def why_forbidden(message: str, *, needs_single_sign_on: bool = False) -> str:
    """GitHub's words, and what the operator does about them."""
    if needs_single_sign_on or "SAML" in message:
        return f"{message}; authorize the token for the organization's SAML single sign-on"
    if "integration" in message:
        return f"{message}; give the GitHub App the permission, and accept it for the installation"
    if "suspended" in message:
        return f"{message}; the owner of the account unsuspends it in its settings, below Installed GitHub Apps"
    return message or "GitHub forbids it without a reason"


def below(refused: Mapping[Path, Refusal], prefix: Path) -> dict[Path, Refusal]:
    """The refusals at and under a path, by the rest of their paths."""
    return {path[len(prefix) :]: each for path, each in refused.items() if path[: len(prefix)] == prefix}


def _extensions(error: Node) -> Mapping[str, Any]:
    return error["extensions"] if isinstance(error.get("extensions"), dict) else {}


def _kinds(error: Node) -> list[Any]:
    """Everything by which an error may be named."""
    extensions = _extensions(error)
    return [
        kind for kind in (error.get("type"), error.get("code"), extensions.get("code"), extensions.get("type")) if kind
    ]


def _is_validation_timeout(error: Node, kind: str, message: str) -> bool:
    """GitHub did not come to the end of the document's validation, whatever type it gives that."""
    if any(_VALIDATION_TYPES.fullmatch(str(each)) for each in _kinds(error)):
        return True
    return kind not in _SETTLED_TYPES and bool(_VALIDATION.search(message))


def _is_too_much(error: Node, kind: str, message: str, path: Path) -> bool:
    """GitHub ran out of time or resources, or refuses the size of the query: a smaller one may pass."""
    if any(_SIZE_TYPES.fullmatch(str(each)) for each in _kinds(error)):
        return True
    if kind in _SETTLED_TYPES:
        return False
    if _SIZE_WORDS.search(message):
        return True
    return "Something went wrong" in message and _concerns_everything(path)


def _is_invalid(error: Node, kind: str, message: str) -> bool:
    """The server's schema lacks something that the query names."""
    if kind in _ACCESS_TYPES | {"NOT_FOUND"}:
        return False
    return any(str(each) in _VALIDATION_CODES for each in _kinds(error)) or bool(_VALIDATION_WORDS.search(message))


def _named(message: str, extensions: Mapping[str, Any]) -> str:
    """The message, and the field, type or argument where it does not name them itself."""
    names = [str(extensions[key]) for key in ("fieldName", "argumentName", "name", "typeName") if extensions.get(key)]
    lacking = [name for name in dict.fromkeys(names) if name not in message]
    return f"{message} ({', '.join(lacking)})"[:500] if lacking else message


def _access(error: Node, kind: str, message: str, path: Path) -> Forbidden | None:
    """The error type of a refusal of access; None for any other error."""
    needs_single_sign_on = bool(_extensions(error).get("saml_failure"))
    if kind not in _ACCESS_TYPES and "SAML" not in message and not needs_single_sign_on:
        return None
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


def _is_inside(path: Path) -> bool:
    """Whether a path is that of one thing among several that were asked for, or below it."""
    return not _concerns_everything(path) and (len(path) > 1 or _ALIAS.fullmatch(str(path[0])) is not None)


def _is_null(data: Any, path: Path) -> bool:
    """Whether the data at a path is null, or a null on the way took its place."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return data is None
    return data is None
