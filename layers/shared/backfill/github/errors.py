"""What GitHub's replies mean for the caller, as types (docs: section 6 of the design, failure table of the API facts)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backfill.error_codes import ErrorCode
from backfill.errors import Permanent, Retryable


class TooLarge(Retryable):
    """GitHub ran out of time or resources on this request, or the reply broke off: ask for less."""

    code = ErrorCode.TOO_LARGE


class BrokenOff(TooLarge):
    """The reply broke off, or GitHub failed in a way that may be the size or chance: ask once more before asking for less."""

    code = ErrorCode.BROKEN_OFF


class ValidationTimeout(TooLarge):
    """GitHub gave up on the document before it ran it: ask with fewer fields (backfill.github.grouping)."""


class Unexplained(Retryable):
    """A reply that fits no known case. Nothing of it is used."""

    code = ErrorCode.UNEXPLAINED


class Unreachable(Retryable):
    """No reply at all: the network, or GitHub as a whole."""

    code = ErrorCode.UNREACHABLE


class OutOfTime(Retryable):
    """The function's own time ends; the rest is for the next attempt."""

    code = ErrorCode.OUT_OF_TIME


class OutOfMemory(Retryable):
    """A chunk that is read holds more than the function's memory is meant for; in smaller chunks it does not."""

    code = ErrorCode.OUT_OF_MEMORY


class RateLimited(Retryable):
    """A primary or secondary limit. ``wait_seconds`` is GitHub's word, or None where it gave none."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, kind: str, wait_seconds: float | None) -> None:
        super().__init__(f"GitHub's {kind} rate limit")
        self.kind = kind
        self.wait_seconds = wait_seconds


class RepositoryUnavailable(Permanent):
    """NOT_FOUND: deleted, made private, or the token may not see it."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.REPOSITORY_UNAVAILABLE, message)


class BadCredentials(Permanent):
    """401, also after the secret was read again; or a secret of which no token can be made.

    ``transient``: GitHub counted the request as nobody's (60 an hour), which it does in passing for good tokens too.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(ErrorCode.BAD_CREDENTIALS, message)
        self.transient = transient


class Forbidden(Permanent):
    """The token is valid and may not do this: SAML single sign-on, or a missing permission of the app."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.FORBIDDEN, message)


class ScopeMissing(Forbidden):
    """The token lacks a scope that one field of the query needs: without ``field`` the query may be asked again."""

    def __init__(self, message: str, *, field: str, scopes: str) -> None:
        super().__init__(message)
        self.field = field
        self.scopes = scopes


class InvalidQuery(Permanent):
    """GitHub refuses the query itself (node limit, paging bounds, cursor): a defect of this product."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_QUERY, message)


class UnknownField(InvalidQuery):
    """This GitHub does not know a field, a type or an argument of the query: an Enterprise Server that is too old, or
    another host."""


# What Python raises for a reply that has not the documented form.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def is_charged(error: BaseException) -> bool:
    """Whether GitHub may have taken points for a request that ended so: it charges what it broke off, and perhaps what fits no
    known case."""
    return isinstance(error, TooLarge | Unexplained)


@contextmanager
def understood() -> Iterator[None]:
    """Decorates what takes replies apart: one that has not the documented form is Unexplained, wherever that shows."""
    try:
        yield
    except (*MALFORMED, RecursionError) as error:
        raise Unexplained(f"GitHub's reply has an unknown form: {type(error).__name__}: {error}"[:300]) from error
