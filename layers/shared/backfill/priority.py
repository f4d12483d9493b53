"""Priority: how large the chunks of a backfill are and how many of them may be outstanding.

All chunks wait in one queue, so a backfill's share of the budget is its share of the outstanding pull requests. With
equal settings that is high 4 : normal 2 : low 1. Low has fewer chunks, not smaller ones: a chunk that fills a request
costs the same point as one that does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Factors of the chunk size and of the outstanding chunks.
FACTORS = {"high": (2.0, 1.0), "normal": (1.0, 1.0), "low": (1.0, 0.5)}
LARGEST_CHUNK = 100


def marks(backfill: Mapping[str, Any], chunk_size: int | None = None, max_chunks: int | None = None) -> tuple[int, int]:
    """Most pull requests of a chunk, and most outstanding chunks. What is given, for one run, is taken as it is.

    A chunk size that would be scaled beyond GitHub's page of 100 becomes more chunks instead: the share stays.
    """
    size_factor, chunks_factor = FACTORS[backfill["metadata"].get("priority") or "normal"]
    wanted = backfill["chunk_size"] * size_factor
    size = chunk_size or max(1, min(LARGEST_CHUNK, round(wanted)))
    most = backfill["max_chunks"] * chunks_factor * max(1.0, wanted / LARGEST_CHUNK)
    return size, max_chunks or max(1, round(most))


def is_low(outstanding: int, max_chunks: int) -> bool:
    """Whether to ask for more: at three quarters of the mark.

    Planning takes its time, a listing page of it most. A backfill whose chunks run out meanwhile loses its share to others.
    """
    return outstanding * 4 <= max_chunks * 3
