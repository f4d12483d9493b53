"""What CloudWatch and a custom widget say to each other.

CloudWatch invokes the function with the widget's own parameters and a ``widgetContext``, and shows the HTML of the answer.
``{"describe": true}`` asks for documentation. A ``<cwdb-action>`` invokes a function with the *viewer's* permissions: a viewer
who may not invoke the console function can look and nothing more.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard_about.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DESCRIPTION = """
## Progressive Backfill: table of backfills

How far every backfill is, how fast, when it will be done, in what state it is and why, and its last error. The name of a
repository opens its page. Every time is UTC.

Parameters, all optional:

param | meaning
---|---
**actions** | `false` hides the buttons, for a dashboard that only shows. Default `true`
**show** | `OWNER/NAME` shows the page of this repository in place of the table
**filter** | show only repositories whose name contains this
**state** | show only `trouble`, `working`, `waiting`, `resting` or `done`
**rows** | backfills on one page, 5 to 200. Default `50`
**plot** | `hour` or `day`: what one bar of the plots is. Default `hour`

Showing needs `lambda:InvokeFunction` on this function; the buttons need it on the stack's console function.

### Example
``` yaml
state: trouble
rows: 20
```
"""

# In the order of the table: first what needs somebody.
STATES = ("trouble", "working", "waiting", "resting", "done")
DEFAULT_ROWS, MOST_ROWS, LEAST_ROWS = 50, 200, 5
DEFAULT_WIDTH = 1200
# What a person types into a field, at the most.
LONGEST_TEXT = 2000

Asked = Literal["", "add", "sync"]


@dataclass(frozen=True, slots=True)
class View:
    """What the viewer wants to see. ``width`` is in CSS pixels; ``page`` counts from 1; ``show`` is OWNER/NAME, or empty.

    ``asked``: the viewer typed ``typed`` and is asked whether to add these names, or to sync these numbers.
    """

    dark: bool = False
    width: int = DEFAULT_WIDTH
    show: str = ""
    filter: str = ""
    state: str = ""
    plot: Literal["hour", "day"] = "hour"
    page: int = 1
    rows: int = DEFAULT_ROWS
    actions: bool = True
    asked: Asked = ""
    typed: str = ""

    @property
    def kept(self) -> Mapping[str, Any]:
        """What every button sends along, so that its answer shows the same view. The usual values are left out."""
        chosen = {"page": self.page, "filter": self.filter, "state": self.state, "plot": self.plot}
        return {"show": self.show, **{name: value for name, value in chosen.items() if value not in ("", 1, "hour")}}


def view(event: Mapping[str, Any]) -> View:
    """The view that an event asks for. Form fields go before parameters. A value that makes no sense counts as not given."""
    context = _mapping(event.get("widgetContext"))
    forms = _mapping(_mapping(context.get("forms")).get("all"))
    parameters = {**_mapping(context.get("params")), **event, **forms}
    state, show, asked = (_text(parameters.get(name)).strip() for name in ("state", "show", "asked"))
    given: Asked = "add" if asked == "add" else "sync" if asked == "sync" else ""
    field = "names" if given == "add" else "numbers"
    return View(
        dark=context.get("theme") == "dark",
        width=_number(context.get("width"), DEFAULT_WIDTH, 100, 10_000),
        show=show[:200] if "/" in show else "",
        filter=_text(parameters.get("filter")).strip()[:200],
        state=state if state in STATES else "",
        plot="day" if parameters.get("plot") == "day" else "hour",
        page=_number(event.get("page"), 1, 1, 1_000_000),
        rows=_number(parameters.get("rows"), DEFAULT_ROWS, LEAST_ROWS, MOST_ROWS),
        actions=parameters.get("actions") not in (False, "false"),
        asked=given,
        # A question stays as it was asked, whatever is typed meanwhile.
        typed=_text(event.get(field, forms.get(field))).strip() if given else "",
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
    """Half a surrogate pair can be neither stored nor sent, and Postgres takes no NUL."""
    return str(value or "")[:LONGEST_TEXT].encode("utf-8", "replace").decode().replace("\x00", "")


def _number(value: Any, default: int, least: int, most: int) -> int:
    try:
        return max(least, min(most, int(value)))
    except (OverflowError, TypeError, ValueError):
        return default
