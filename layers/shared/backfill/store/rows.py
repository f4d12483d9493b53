"""Rows of GitHub on their way into SQL: keyed by column name, one JSON array per statement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Statement = tuple[str, dict[str, Any]]


def of_rows(sql: str, rows: Rows, key: Sequence[str], **parameters: Any) -> Statement:
    """A statement on rows made unique by ``key``; the last of equal keys wins."""
    unique = {tuple(row[name] for name in key): row for row in rows}
    return sql, {"rows": json.dumps(list(unique.values())), **parameters}


def assigned(columns: Iterable[str], new: str, old: str) -> str:
    """SET of an upsert. GitHub's number of an object, once known, stays known."""
    return ", ".join(
        f"{name} = COALESCE({new}.{name}, {old}.{name})" if name == "github_id" else f"{name} = {new}.{name}"
        for name in columns
        if name != "number"
    )
