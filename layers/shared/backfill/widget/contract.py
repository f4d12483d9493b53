"""What CloudWatch and a custom widget say to each other.

CloudWatch invokes the function with the widget's own parameters and a ``widgetContext``, and shows the HTML that comes
back; ``{"describe": true}`` asks for documentation. A ``<cwdb-action>`` invokes a function with the *viewer's* permissions:
who may not invoke the console function can look and nothing more.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard_about.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timezone, tzinfo
from typing import Any

DESCRIPTION = """
## Progressive Backfill: table of backfills

How far every backfill is, how fast, when it will be done, in what state it is and why, and its last error.

Parameters, all optional:

param | meaning
---|---
**actions** | `false` hides the buttons, for a dashboard that only shows. Default `true`
**filter** | show only repositories whose name contains this
**state** | show only `trouble`, `waiting`, `working`, `resting` or `done`
**rows** | backfills on one page, 5 to 200. Default `50`

Showing needs `lambda:InvokeFunction` on this function; the buttons need it on the stack's console function.

### Example
``` yaml
state: trouble
rows: 20
```
"""

STATES = ("trouble", "waiting", "working", "resting", "done")
DEFAULT_ROWS, MOST_ROWS, LEAST_ROWS = 50, 200, 5
DEFAULT_WIDTH = 1200


@dataclass(frozen=True, slots=True)
class View:
    """What the viewer wants to see. ``width`` is in CSS pixels; ``page`` counts from 1."""

    dark: bool = False
    width: int = DEFAULT_WIDTH
    zone: tzinfo = UTC
    zone_label: str = "UTC"
    filter: str = ""
    state: str = ""
    page: int = 1
    rows: int = DEFAULT_ROWS
    actions: bool = True


def view(event: Mapping[str, Any]) -> View:
    """The view that an event asks for. Form fields go before parameters; what makes no sense counts as not given."""
    context = _mapping(event.get("widgetContext"))
    forms = _mapping(_mapping(context.get("forms")).get("all"))
    parameters = {**_mapping(context.get("params")), **event, **forms}
    zone, label = _zone(_mapping(context.get("timezone")))
    state = str(parameters.get("state") or "")
    return View(
        dark=context.get("theme") == "dark",
        width=_number(context.get("width"), DEFAULT_WIDTH, 100, 10_000),
        zone=zone,
        zone_label=label,
        filter=_text(parameters.get("filter")).strip()[:200],
        state=state if state in STATES else "",
        page=_number(event.get("page"), 1, 1, 1_000_000),
        rows=_number(parameters.get("rows"), DEFAULT_ROWS, LEAST_ROWS, MOST_ROWS),
        actions=parameters.get("actions") not in (False, "false"),
    )


def sibling(arn: str, function: str) -> str:
    """The ARN of another function of the same stack: STACK-console for STACK-widget (the names are a contract).

    >>> sibling("arn:aws:lambda:eu-west-1:123456789012:function:prod-widget:live", "console")
    'arn:aws:lambda:eu-west-1:123456789012:function:prod-console'
    """
    parts = arn.split(":")[:7]
    return ":".join([*parts[:6], f"{parts[6].rsplit('-', 1)[0]}-{function}"])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """Half a surrogate pair can be neither stored nor sent."""
    return str(value or "")[:1000].encode("utf-8", "replace").decode()


def _number(value: Any, default: int, least: int, most: int) -> int:
    try:
        return max(least, min(most, int(value)))
    except (OverflowError, TypeError, ValueError):
        return default


def _zone(given: Mapping[str, Any]) -> tuple[tzinfo, str]:
    try:
        offset = datetime.strptime(str(given["offsetISO"]), "%z").utcoffset()
    except (KeyError, ValueError):
        offset = None
    if not offset:
        return UTC, "UTC"
    return timezone(offset), _text(given.get("label") or given["offsetISO"])[:20]
