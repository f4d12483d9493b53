"""What became of a message of the chunk queue, in the word that the log has for it."""

from __future__ import annotations

from enum import StrEnum

from backfill import outcomes


class Handled(StrEnum):
    """PAUSED: the backfill is paused now, or was before the claim. GIVEN_BACK: released, and it is unknown how."""

    COMPLETED = "completed"
    DEFERRED = "deferred"
    RETRIED = "retried"
    SPLIT = "split"
    PAUSED = "paused"
    FAILED = "failed"
    STALE = "stale"
    GIVEN_BACK = "given back"
    EARLY = "early"
    DUPLICATE = "duplicate"
    REMOVED = "removed"
    ACCEPTED = "accepted"
    BUSY = "busy"
    DEAD_LETTER = "dead letter"


_ENDINGS: dict[type[outcomes.Ending], Handled] = {
    outcomes.Completed: Handled.COMPLETED,
    outcomes.Deferred: Handled.DEFERRED,
    outcomes.Retried: Handled.RETRIED,
    outcomes.Split: Handled.SPLIT,
    outcomes.Stopped: Handled.PAUSED,
    outcomes.Failed: Handled.FAILED,
    outcomes.Superseded: Handled.STALE,
    outcomes.Released: Handled.GIVEN_BACK,
}


def handled(ending: outcomes.Ending) -> Handled:
    """The word for the end of a claim."""
    return _ENDINGS[type(ending)]
