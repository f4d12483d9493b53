"""Priority: how large the chunks of a backfill are and how many of them may be outstanding.

All chunks wait in one queue, so a backfill's share of the budget is its share of the outstanding pull requests. With
equal settings that is high 4 : normal 2 : low 1. Low has fewer chunks, not smaller ones: a chunk that fills a request
costs the same point as one that does not.
"""

from __future__ import annotations

from typing import NamedTuple

from backfill.model import Backfill

# Factors of the chunk size and of the outstanding chunks.
FACTORS = {"high": (2.0, 1.0), "normal": (1.0, 1.0), "low": (1.0, 0.5)}
LARGEST_CHUNK = 100


class Marks(NamedTuple):
    """Most pull requests of a chunk, and most outstanding chunks of a backfill."""

    chunk_size: int
    chunks: int


def marks(backfill: Backfill, chunk_size: int | None = None, max_chunks: int | None = None) -> Marks:
    """The marks of a backfill. A given value, for one run, is not scaled."""
    scaled = scale(backfill.priority, backfill.chunk_size, backfill.max_chunks)
    return Marks(chunk_size or scaled.chunk_size, max_chunks or scaled.chunks)


def scale(level: str, chunk_size: int, max_chunks: int) -> Marks:
    """The marks of a priority.

    A chunk size that would be scaled beyond GitHub's page of 100 becomes more chunks instead: the share stays.
    """
    size_factor, chunks_factor = FACTORS[level]
    wanted = chunk_size * size_factor
    most = max_chunks * chunks_factor * max(1.0, wanted / LARGEST_CHUNK)
    return Marks(max(1, min(LARGEST_CHUNK, round(wanted))), max(1, round(most)))


def is_low(outstanding: int, max_chunks: int) -> bool:
    """Whether to request planning: at three quarters of the mark.

    Planning takes its time, a listing page of it most. A backfill whose chunks run out meanwhile loses its share to others.
    """
    return outstanding * 4 <= max_chunks * 3
