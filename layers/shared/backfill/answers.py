"""Answers of the console: plain JSON that fits into one answer of Lambda."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

Json = dict[str, Any]

# Lambda takes answers of 6 MB. These are bytes of JSON for the rows of one page.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAGE_BYTES = 4_000_000


def fitting(rows: Sequence[Json]) -> list[Json]:
    """The first rows, as many as one answer holds, and at least one."""
    size, page = 0, list[Json]()
    for row in rows:
        size += len(json.dumps(plain(row)))
        if page and size > PAGE_BYTES:
            break
        page.append(row)
    return page


def plain(value: Any) -> Any:
    """As JSON takes it: times in ISO 8601, numerics as numbers, uuids as text."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
