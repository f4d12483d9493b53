"""If Postgres refuses a value, find the pull requests that have it, and store the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backfill.store.connection import Database, RowsRefused
from backfill.store.rows import Rows

Tables = Mapping[str, Rows]
# Stores rows, and returns the numbers of the pull requests that were written.
Store = Callable[[Tables], list[int]]
# Tables whose rows do not belong to one pull request: others name them.
_NAMED = ("contributors", "labels")


@dataclass(frozen=True, slots=True)
class Stored:
    """``accepted`` were written. ``refused`` have values that Postgres does not take, with its reason. The others were read as of an
    older ``updated_at`` than the stored row has."""

    accepted: list[int]
    refused: dict[int, str]


def store_divided(db: Database, tables: Tables, store: Store) -> Stored:
    """Store all at once. If Postgres refuses a value, store all at once but the pull requests that have one.

    Each failed attempt is undone with its locks, so the last one takes all locks in order.
    """
    try:
        return Stored(store(tables), {})
    except RowsRefused as error:
        db.undo()
        numbers = sorted({row["number"] for row in tables.get("pull_requests", ())})
        if not numbers:
            raise
        refused = _guilty(db, tables, store, str(error))
    if refused:
        return Stored(store(_of_numbers(tables, set(numbers) - set(refused))), refused)
    # None is refused alone: together they are too much for one statement.
    half = len(numbers) // 2
    halves = [store_divided(db, _of_numbers(tables, set(some)), store) for some in (numbers[:half], numbers[half:])]
    return Stored([*halves[0].accepted, *halves[1].accepted], {**halves[0].refused, **halves[1].refused})


def _guilty(db: Database, tables: Tables, store: Store, reason: str) -> dict[int, str]:
    """These pull requests were refused together for ``reason``: those that are refused alone, with the reason. All is undone."""
    numbers = sorted({row["number"] for row in tables.get("pull_requests", ())})
    if len(numbers) < 2:
        return dict.fromkeys(numbers, reason)
    half = len(numbers) // 2
    guilty: dict[int, str] = {}
    for some in (numbers[:half], numbers[half:]):
        part = _of_numbers(tables, set(some))
        try:
            store(part)
            db.undo()
        except RowsRefused as error:
            db.undo()
            guilty |= _guilty(db, part, store, str(error))
    return guilty


def _of_numbers(tables: Tables, numbers: set[int]) -> dict[str, Rows]:
    """The rows of some pull requests, and the people and labels that these rows name."""
    some: dict[str, Rows] = {}
    for name, rows in tables.items():
        if name not in _NAMED:
            column = "number" if name == "pull_requests" else "pull_request_number"
            some[name] = [row for row in rows if row[column] in numbers]
    ids = {value for rows in some.values() for row in rows for column, value in row.items() if column.endswith("_id")}
    return some | {name: [row for row in tables.get(name, ()) if row["node_id"] in ids] for name in _NAMED}
