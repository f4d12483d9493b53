"""Numbers and times in the words of the page. Every time is UTC, as in the logs, the database and the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime


def percent(part: float, whole: float) -> float:
    """0 to 100 with one decimal; 100.0 only if nothing is missing."""
    if not whole:
        return 0.0
    return math.floor(1000 * min(part, whole) / whole) / 10


def span(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> [span(each) for each in (-5, 8, 75, 7380, 200000)]
    ['0 s', '8 s', '1 min', '2 h 3 min', '2 d 7 h']
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def clock(moment: datetime) -> str:
    """Date and time, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def counted(number: int, one: str, many: str = "") -> str:
    """
    >>> counted(1, "chunk"), counted(1200, "chunk"), counted(2, "repository", "repositories")
    ('1 chunk', '1,200 chunks', '2 repositories')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str], most: int = 5) -> str:
    """
    >>> listed(["a", "b", "c"]), listed(["a"]), listed(list("abcdefg"))
    ('a, b and c', 'a', 'a, b, c, d, e and 2 more')
    """
    shown = list(words[:most]) if len(words) <= most else [*words[:most], f"{len(words) - most:,} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
