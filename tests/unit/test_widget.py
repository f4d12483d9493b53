"""The contract with CloudWatch: parameters, context, forms, documentation, and the ARNs of the functions to call."""

from __future__ import annotations

import doctest
from datetime import UTC, timedelta
from types import ModuleType
from typing import Any

import pytest

from backfill.widget import contract, page
from backfill.widget.contract import DESCRIPTION, STATES, View, view


@pytest.mark.parametrize("module", [contract, page])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_events_of_cloudwatch_are_understood() -> None:
    event = {
        "rows": "20",
        "page": 2,
        "widgetContext": {
            "theme": "dark",
            "width": 588,
            "timezone": {"label": "Local", "offsetISO": "+05:30", "offsetInMinutes": 330},
            "params": {"actions": False},
            "forms": {"all": {"filter": " rust ", "state": "trouble"}},
        },
    }
    seen = view(event)
    assert (seen.dark, seen.width, seen.rows, seen.page, seen.actions) == (True, 588, 20, 2, False)
    assert (seen.filter, seen.state, seen.zone_label) == ("rust", "trouble", "Local")
    assert seen.zone.utcoffset(None) == timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"widgetContext": None},
        {"widgetContext": {"forms": [], "timezone": {"offsetISO": "x"}, "width": "wide", "params": 3}},
        {"page": "x", "rows": None, "state": "other", "filter": None, "actions": True},
    ],
)
def test_a_senseless_value_counts_as_missing(event: dict[str, Any]) -> None:
    assert view(event) == View(zone=UTC)


def test_limits_hold() -> None:
    assert (view({"rows": 0}).rows, view({"rows": 10**9}).rows, view({"page": -5}).page) == (5, 200, 1)


def test_the_documentation_names_every_parameter_and_state() -> None:
    for word in ("actions", "filter", "state", "rows", *STATES):
        assert word in DESCRIPTION
