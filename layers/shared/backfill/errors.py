"""Errors that say what to do. Decisions are taken on the type, never on the text of a message."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from backfill.error_codes import ErrorCode


class BackfillError(Exception):
    """Any error of this package."""


class Retryable(BackfillError):
    """The same work may succeed later. Counts as one attempt of the chunk."""

    code: ClassVar[ErrorCode] = ErrorCode.RETRYABLE


class Deferred(BackfillError):
    """Nothing is wrong: the work may go on at ``until``, in ``seconds`` from now. No attempt is counted.

    ``until`` is by the clock of whoever set it, the database's; delays are made of ``seconds``, which no clock bends.
    """

    def __init__(self, until: datetime, seconds: float, reason: str) -> None:
        super().__init__(f"{reason}; deferred until {until.isoformat(timespec='seconds')}")
        self.until = until
        self.seconds = seconds
        self.reason = reason


class Permanent(BackfillError):
    """Trying again cannot help. ``code`` is a stable word for columns and metrics."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StaleClaim(BackfillError):
    """The chunk belongs to somebody else by now: roll back everything and acknowledge the message."""


class Removed(BackfillError):
    """The operator removed the repository meanwhile: acknowledge the message, there is nothing left to do."""


class DatabaseUnavailable(BackfillError):
    """Postgres cannot be reached or ended the connection; after a COMMIT the result may be unknown.

    No attempt of a chunk and no error of a backfill is to blame, so this is not Retryable: SQS brings the message back.
    """

    code: ClassVar[ErrorCode] = ErrorCode.DATABASE_UNAVAILABLE


class LeaseLost(Retryable):
    """The backfill has had another planner since, whose business it is now: nothing of this one's is stored any more."""

    def __init__(self) -> None:
        super().__init__("another planner took the backfill over")


class NotSent(Retryable):
    """SQS did not take a message that follows from the one at hand: that one comes back, and whoever gets it sends again."""


class Misconfigured(BackfillError):
    """A setting or a secret of the deployment is wrong: ``setting`` breaks ``rule``. No message is to blame for it."""

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
