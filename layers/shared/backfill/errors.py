"""Errors that say what to do. Decide on the type, never on the text of a message."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backfill.error_codes import ErrorCode

# Postgres keeps the text of an error up to here.
MOST_TEXT = 2000


class BackfillError(Exception):
    """Any error of this package."""


class Retryable(BackfillError):
    """The same work may succeed later. Counts as one attempt of the chunk."""

    code: ClassVar[ErrorCode] = ErrorCode.RETRYABLE


class Deferred(BackfillError):
    """Nothing is wrong: the work may continue at ``until``, in ``seconds`` from now. No attempt is counted.

    ``until`` is by the database's clock. Delays use ``seconds``, which depends on no clock.
    """

    def __init__(self, until: datetime, seconds: float, reason: str) -> None:
        super().__init__(f"{reason}; deferred until {until.isoformat(timespec='seconds')}")
        self.until = until
        self.seconds = seconds
        self.reason = reason


class Permanent(BackfillError):
    """A retry cannot help. ``code`` is a stable word for columns and metrics."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StaleClaim(BackfillError):
    """Recovery or another worker has the chunk. Roll everything back and acknowledge the message."""


class Removed(BackfillError):
    """The operator has removed the repository. Acknowledge the message: nothing is left to do."""


class DatabaseUnavailable(BackfillError):
    """Postgres cannot be reached or ended the connection. After a COMMIT the result may be unknown.

    This is not Retryable: it counts neither as an attempt nor as an error of a backfill. SQS returns the message.
    """

    code: ClassVar[ErrorCode] = ErrorCode.DATABASE_UNAVAILABLE


class LeaseLost(Retryable):
    """Another planner took over the lease. Discard this run's uncommitted work."""

    def __init__(self) -> None:
        super().__init__("another planner took the backfill over")


class NotSent(Retryable):
    """SQS rejected a follow-up message. The incoming message returns, and its next delivery sends the follow-up again."""


class Misconfigured(BackfillError):
    """A setting or a secret of the deployment is wrong: ``setting`` breaks ``rule``. The messages are not at fault."""

    def __init__(self, setting: str, rule: str) -> None:
        super().__init__(f"{setting}: {rule}")
        self.setting = setting
        self.rule = rule


class ContractViolation(BackfillError):
    """An event or a message breaks its contract: ``field`` breaks ``rule``."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule
