"""Every word that the columns error_code, detail_error_code and refused_code and the objects in incomplete may hold.

An error type names its code itself: renaming a class changes no data. docs/operations.md ("Error codes") explains each word.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """A stable word for a column. Never change a value: stored rows hold it."""

    ATTEMPTS_SPENT = "attempts_spent"
    BAD_CREDENTIALS = "bad_credentials"
    BROKEN_OFF = "broken_off"
    CURSOR = "cursor"
    DATABASE_UNAVAILABLE = "database_unavailable"
    DEAD_LETTER = "dead_letter"
    DEFERRED = "deferred"
    FORBIDDEN = "forbidden"
    IMPOSSIBLE_VALUE = "impossible_value"
    INSUFFICIENT_SCOPES = "insufficient_scopes"
    INVALID_QUERY = "invalid_query"
    MEMBERS_FAILED = "members_failed"
    MEMBERS_GONE = "members_gone"
    MEMBERS_INCOMPLETE = "members_incomplete"
    MOVING = "moving"
    NOT_FOUND = "not_found"
    NULL = "null"
    OLDER_THAN_LISTED = "older_than_listed"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_TIME = "out_of_time"
    RATE_LIMITED = "rate_limited"
    REPOSITORY_UNAVAILABLE = "repository_unavailable"
    RETRYABLE = "retryable"
    STALE = "stale"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    UNEXPLAINED = "unexplained"
    UNREACHABLE = "unreachable"
    VALUE_REFUSED = "value_refused"
