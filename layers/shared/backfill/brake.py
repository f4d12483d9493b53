"""The brake: how long a message waits when the run that sends it has moved nothing.

Lambda's own loop detection is off (RecursiveLoop in template.yaml), because planner and workers call each other on purpose.
"""

from __future__ import annotations

# The longest delay of an SQS message.
LONGEST_SECONDS = 900.0
# The least delay of a message after a run without progress.
SHORTEST_SECONDS = 1.0


def delay_seconds(idle_runs: int) -> float:
    """The delay after so many runs in a row without progress: none, 1 s, 2 s, 4 s … 15 minutes."""
    if idle_runs == 0:
        return 0.0
    return min(LONGEST_SECONDS, SHORTEST_SECONDS * 2.0 ** min(idle_runs - 1, 10))
