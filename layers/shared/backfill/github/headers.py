"""The numbers and dates of GitHub's headers, read strictly: a malformed value is ignored.

Proxies and faults can put anything into a header. No value raises, and no wait leaves the documented limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from backfill.limits import LONGEST_WAIT_SECONDS, LONGEST_WINDOW_SECONDS

# Eighteen digits fit into every integer and float that they meet. str.isdigit also accepts "²", which float refuses.
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_LONG = re.compile(r"[0-9]+", re.ASCII)
SHORTEST_WAIT_SECONDS = 1.0


def whole(headers: Mapping[str, str], name: str) -> int | None:
    """A header that is a whole number of ASCII digits, else None. A longer number is the largest of 18 digits."""
    text = str(headers.get(name) or "").strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    return 10**18 - 1 if _LONG.fullmatch(text) else None


def moment(headers: Mapping[str, str], name: str) -> datetime | None:
    """A header that is a date of HTTP, else None. A date whose instant no datetime holds is None too."""
    text = str(headers.get(name) or "")
    try:
        found = parsedate_to_datetime(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (OverflowError, TypeError, ValueError, IndexError):
        return None


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """The wait that ``retry-after`` asks for, clamped; None where it says nothing or names a moment that has passed."""
    seconds: float | None = whole(headers, "retry-after")
    if seconds is None:
        until = moment(headers, "retry-after")
        seconds = None if until is None else (until - now).total_seconds()
    return _clamped(seconds, LONGEST_WAIT_SECONDS)


def reset_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """The time until ``x-ratelimit-reset``, clamped; None where it says nothing or lies in the past."""
    reset = whole(headers, "x-ratelimit-reset")
    return _clamped(None if reset is None else reset - now.timestamp(), LONGEST_WINDOW_SECONDS)


def _clamped(seconds: float | None, longest: float) -> float | None:
    """None for a moment that has passed. The caller then waits longer each time, not one second each time."""
    if seconds is None or seconds <= 0:
        return None
    return min(longest, max(SHORTEST_WAIT_SECONDS, seconds))
