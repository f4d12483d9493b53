"""Dead letters in an operator's hands: look at them, send them again, discard them.

``hidden`` counts letters that recovery or another command has in hand.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from backfill.observability import event
from backfill.queues import DeadLetter, Queues

MOST_LETTERS = 500
# A look hides the letters from the next command for no longer than a person takes to type it.
LOOK_SECONDS = 1
# To discard some hides the others for no longer than that takes.
DISCARD_SECONDS = 10
# A letter that could not be sent again is hidden for this long.
REDRIVE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Seen:
    """Letters that were received."""

    letters: Sequence[DeadLetter]
    hidden: int


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many letters were sent again."""

    redriven: int
    hidden: int


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many letters were deleted. ``missing``: those that were named and not received."""

    discarded: int
    missing: Sequence[str]
    hidden: int


def look(queues: Queues, hidden_seconds: int = LOOK_SECONDS) -> Seen:
    """Receive up to MOST_LETTERS."""
    waiting = queues.dead_letters_waiting()
    letters = queues.dead_letters(MOST_LETTERS, hidden_seconds=hidden_seconds)
    return Seen(letters, max(0, waiting - len(letters)))


def redrive(queues: Queues) -> Redriven:
    """Send every letter again as it is, to the queue that it comes from. Each is deleted only after it was sent."""
    seen = look(queues, REDRIVE_SECONDS)
    for letter in seen.letters:
        queues.redrive(letter)
        queues.delete_dead_letter(letter)
    return Redriven(len(seen.letters), seen.hidden)


def discard(queues: Queues, message_ids: Set[str]) -> Discarded:
    """Delete the letters that are named, or all. Each leaves a line in the log."""
    seen = look(queues, DISCARD_SECONDS)
    letters = [each for each in seen.letters if not message_ids or each.message_id in message_ids]
    for letter in letters:
        event("a dead letter was discarded", message_id=letter.message_id, reason=letter.reason)
        queues.delete_dead_letter(letter)
    missing = message_ids - {each.message_id for each in letters}
    return Discarded(len(letters), sorted(missing), seen.hidden)
