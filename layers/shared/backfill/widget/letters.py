"""Dead letters in the words of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backfill.widget import actions
from backfill.widget.actions import Action

LONGEST_BODY = 500
# A letter that SQS itself moved there has no reason.
NO_REASON = "Lambda received the message as often as the queue allows, and it was not processed. Look at the log."


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, and the button that deletes it."""

    message_id: str
    reason: str
    body: str
    discard: Action


@dataclass(frozen=True, slots=True)
class Letters:
    """What was received ``at`` a time. ``hidden`` ones could not be: others have them in hand, or an answer cannot hold them."""

    shown: tuple[Letter, ...]
    hidden: int
    at: datetime


def letters(answer: Mapping[str, Any], at: datetime) -> Letters:
    """The console's answer to ``dead_letters``."""
    return Letters(tuple(map(_letter, answer["dead_letters"])), answer["hidden"] + answer["more"], at)


def _letter(found: Mapping[str, Any]) -> Letter:
    return Letter(
        message_id=found["message_id"],
        reason=found["reason"] or NO_REASON,
        body=found["body"][:LONGEST_BODY],
        discard=actions.discard(found["message_id"]),
    )
