"""The page of one repository: how far it is, what happened last, what is missing and why, its chunks and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from backfill.error_codes import ErrorCode
from backfill.overview import Shown
from backfill.store.chunk_history import ChunkRecord
from backfill.store.gaps import Gap
from backfill.widget import actions
from backfill.widget.actions import Action
from backfill.widget.contract import View
from backfill.widget.table import LONGEST_ERROR, Line, line
from backfill.widget.words import clock, counted, span

# So many of each are shown. The commands show all.
MOST_CHUNKS, MOST_GAPS, MOST_EVENTS, MOST_ERRORS = 20, 20, 12, 8


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened ``at`` a time, or that was last tried then."""

    at: datetime
    words: str
    when: str = ""


@dataclass(frozen=True, slots=True)
class ChunkLine:
    """One chunk, in the words of the page; ``words`` say what became of it."""

    number: int
    status: str
    pull_requests: int
    attempts: int
    begun: str
    took: str
    words: str


@dataclass(frozen=True, slots=True)
class Repository:
    """What the page shows. ``gaps`` are the failed and incomplete pull requests; ``gaps_in_all`` counts all of them."""

    line: Line
    url: str
    points: int
    plan: Action | None
    gaps: tuple[Gap, ...]
    gaps_in_all: int
    events: tuple[Event, ...]
    errors: tuple[Event, ...]
    chunks: tuple[ChunkLine, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What the store has about a repository."""

    row: Shown
    gaps: Sequence[Gap]
    gaps_in_all: int
    chunks: Sequence[ChunkRecord]


def repository(found: Found, view: View, now: datetime) -> Repository:
    """The page of what was found."""
    row = found.row
    return Repository(
        line=line(row, view, now),
        url=row.progress.url or "",
        points=row.progress.points_spent,
        plan=actions.plan(row.progress.repository) if view.actions and row.progress.status != "paused" else None,
        gaps=tuple(found.gaps),
        gaps_in_all=found.gaps_in_all,
        events=_latest(
            [*_of_backfill(row), *(each for chunk in found.chunks for each in _of_chunk(chunk))], now, MOST_EVENTS
        ),
        errors=_latest(_errors(row, found.chunks), now, MOST_ERRORS),
        chunks=tuple(_chunk_line(chunk, now) for chunk in found.chunks),
    )


def _of_backfill(row: Shown) -> Iterable[Event]:
    yield Event(row.progress.created_at, "The repository was added.")
    if row.progress.listing_completed_at:
        yield Event(
            row.progress.listing_completed_at, f"The listing ended: {counted(row.progress.listed_prs, 'pull request')}."
        )
    if row.progress.status == "completed":
        yield Event(row.progress.checked_at, "GitHub was asked for changes.")
    yield from _last_error(row)


def _of_chunk(chunk: ChunkRecord) -> Iterable[Event]:
    name = f"Chunk {chunk.chunk_number} ({counted(chunk.pull_requests, 'pull request')})"
    if chunk.completed_at:
        yield Event(chunk.completed_at, f"{name} was completed.")
    elif chunk.status == "processing" and chunk.started_at:
        yield Event(chunk.started_at, f"{name} was claimed by a worker.")
    elif chunk.status == "failed" and chunk.started_at:
        yield Event(chunk.started_at, f"{name} failed in its last attempt.")


def _errors(row: Shown, chunks: Sequence[ChunkRecord]) -> Iterable[Event]:
    yield from _last_error(row)
    for chunk in chunks:
        # A deferred chunk waits for a limit, and a completed one has a note.
        is_error = chunk.status != "completed" and chunk.error_code != ErrorCode.DEFERRED
        if is_error and chunk.error and chunk.started_at:
            code = f" ({chunk.error_code})" if chunk.error_code else ""
            yield Event(chunk.started_at, f"Chunk {chunk.chunk_number}: {chunk.error[:LONGEST_ERROR]}{code}")


def _last_error(row: Shown) -> Iterable[Event]:
    if row.progress.last_error and row.progress.last_error_at:
        yield Event(row.progress.last_error_at, f"Error: {row.progress.last_error[:LONGEST_ERROR]}")


def _latest(events: Iterable[Event], now: datetime, most: int) -> tuple[Event, ...]:
    """The newest first, each with its age."""
    newest = sorted(events, key=lambda each: each.at, reverse=True)[:most]
    return tuple(Event(each.at, each.words, f"{span((now - each.at).total_seconds())} ago") for each in newest)


def _chunk_line(chunk: ChunkRecord, now: datetime) -> ChunkLine:
    begin, end = chunk.started_at, chunk.completed_at
    took = ""
    if begin and chunk.status in ("completed", "processing"):
        took = span(((end or now) - begin).total_seconds())
    if chunk.error:
        words = (
            f"{chunk.error[:LONGEST_ERROR]} ({chunk.error_code})" if chunk.error_code else chunk.error[:LONGEST_ERROR]
        )
    else:
        words = ""
    if chunk.status == "pending" and chunk.available_at > now:
        words = f"waits until {clock(chunk.available_at)}{'; ' if words else ''}{words}"
    return ChunkLine(
        number=chunk.chunk_number,
        status=chunk.status,
        pull_requests=chunk.pull_requests,
        attempts=chunk.attempts,
        begun=clock(begin) if begin else "",
        took=took,
        words=words,
    )
