"""Wait for a sync request, and report the result of each pull request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# Seconds between two requests.
EVERY_SECONDS = 2.0


def wait_for(look: Callable[[], Sequence[Row]], seconds: float, tell: Callable[[str], None]) -> Sequence[Row]:
    """Ask until no pull request waits, at most so many ``seconds``; the last rows. ``tell`` gets each change of the counts."""
    deadline = time.monotonic() + seconds
    before = ""
    while True:
        rows = look()
        now = counted(rows)
        if now != before:
            tell(now)
            before = now
        if not any(row["state"] == "waiting" for row in rows) or time.monotonic() >= deadline:
            return rows
        time.sleep(EVERY_SECONDS)


def counted(rows: Sequence[Row]) -> str:
    """``2 read, 1 waiting``."""
    counts = Counter(row["state"] for row in rows)
    return ", ".join(
        f"{counts[state]} {state}" for state in ("read", "incomplete", "failed", "gone", "waiting") if counts[state]
    )


def trouble(rows: Sequence[Row]) -> list[str]:
    """A line for each pull request that was not read whole."""
    return [
        f"#{row['number']}: {row['state']}" + (f" ({row['reason']})" if row["reason"] else "")
        for row in rows
        if row["state"] != "read"
    ]
