"""pull_request_numbers: numbers that GitHub has and does not list, with the reason and the time of the next request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from backfill.store.connection import Database
from backfill.store.rows import of_rows

# Waits before the next request for such a number, in turn; the last one repeats. An incomplete pull request has the same waits, and is
# also read again as soon as it changes.
ASK_AGAIN_AFTER = ("1 day", "7 days", "30 days")

# The backfill is locked first, as by the trigger on pull requests.
_REFUSED = """
    WITH backfill AS (
        SELECT id FROM progressive_backfill_state WHERE repository_id = :repository_id FOR NO KEY UPDATE)
    INSERT INTO pull_request_numbers (repository_id, number, refused_code, refused_reason, refusals, ask_again_at)
    SELECT :repository_id, i.number, i.code, i.reason, 1, now() + (CAST(:waits AS interval[]))[1]
    FROM jsonb_to_recordset(:rows) AS i(number integer, code text, reason text)
    WHERE (SELECT count(*) FROM backfill) >= 0
      AND NOT EXISTS (SELECT FROM pull_requests AS p WHERE p.repository_id = :repository_id AND p.number = i.number)
    ORDER BY i.number
    ON CONFLICT (repository_id, number) DO UPDATE SET
        refused_code = EXCLUDED.refused_code, refused_reason = EXCLUDED.refused_reason,
        refusals = CASE WHEN :is_asked_again THEN pull_request_numbers.refusals + 1 ELSE GREATEST(1, pull_request_numbers.refusals) END,
        ask_again_at = CASE WHEN :is_asked_again OR pull_request_numbers.ask_again_at IS NULL
            THEN now() + (CAST(:waits AS interval[]))[LEAST(pull_request_numbers.refusals + 1, 3)]
            ELSE pull_request_numbers.ask_again_at END
"""
_TO_ASK_AGAIN = """
    SELECT number FROM pull_request_numbers
    WHERE repository_id = :repository_id AND ask_again_at <= now() ORDER BY number
"""
_FORGET_REFUSED = """
    DELETE FROM pull_request_numbers
    WHERE repository_id = :repository_id AND number = ANY(:numbers) AND refused_code IS NOT NULL
"""


class Refused(Protocol):
    """Why GitHub does not list a number."""

    @property
    def code(self) -> str: ...
    @property
    def reason(self) -> str: ...


def note_refused(
    db: Database, repository_id: str, refused: Mapping[int, Refused], *, is_asked_again: bool = False
) -> None:
    """Store numbers that GitHub has and does not list, with the reason. ``is_asked_again`` makes the next wait longer."""
    rows = [{"number": number, "code": each.code, "reason": each.reason} for number, each in refused.items()]
    if rows:
        waits = list(ASK_AGAIN_AFTER)
        statement, parameters = of_rows(_REFUSED, rows, ("number",), repository_id=repository_id, waits=waits)
        db.pipeline([(statement, {**parameters, "is_asked_again": is_asked_again})])


def to_ask_again(db: Database, repository_id: str) -> list[int]:
    """Numbers whose next request is due."""
    return [row["number"] for row in db.rows(_TO_ASK_AGAIN, repository_id=repository_id)]


def forget_refused(db: Database, repository_id: str, numbers: Sequence[int]) -> None:
    """These are not pull requests any more."""
    if numbers:
        db.execute(_FORGET_REFUSED, repository_id=repository_id, numbers=list(numbers))
