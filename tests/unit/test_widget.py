"""The contract with CloudWatch: parameters, context, forms, documentation, and the ARNs of the functions to call."""

from __future__ import annotations

import doctest
from types import ModuleType
from typing import Any, Literal

import pytest

from backfill import repository_names
from backfill.messages import console_event
from backfill.widget import contract, words
from backfill.widget.asking import question
from backfill.widget.contract import DESCRIPTION, STATES, View, view


@pytest.mark.parametrize("module", [contract, words, repository_names])
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
            "params": {"actions": False, "plot": "day", "show": "rust-lang/rust"},
            "forms": {"all": {"filter": " rust ", "state": "trouble"}},
        },
    }
    seen = view(event)
    assert (seen.dark, seen.width, seen.rows, seen.page, seen.actions) == (True, 588, 20, 2, False)
    assert (seen.filter, seen.state, seen.plot, seen.show) == ("rust", "trouble", "day", "rust-lang/rust")
    assert view({**event, "show": ""}).show == "", "a button leads away from the repository of the parameters"


def test_a_button_keeps_the_view_that_it_is_in() -> None:
    seen = View(show="octo/hello", filter="o", state="done", plot="day", page=3)
    assert view(seen.kept) == seen
    assert View().kept == {"show": ""}


@pytest.mark.parametrize(
    ("asked", "typed", "expected"),
    [
        ("add", "octo/hello", {"action": "add", "repositories": ["octo/hello"]}),
        (
            "add",
            " https://github.com/octo/hello/pull/7, Octo/World\nocto/HELLO",
            {"action": "add", "repositories": ["octo/HELLO", "Octo/World"]},
        ),
        ("sync", "#12, 7;12", {"action": "sync", "repository": "octo/hello", "pr_numbers": [7, 12]}),
    ],
)
def test_typed_text_is_read_back_and_becomes_an_event(asked: str, typed: str, expected: dict[str, Any]) -> None:
    field = "names" if asked == "add" else "numbers"
    seen = question(view({"show": "octo/hello", "asked": asked, field: typed}))
    assert seen is not None and seen.action is not None
    assert seen.action.event == expected
    assert console_event(expected) == expected


@pytest.mark.parametrize(
    ("asked", "typed"),
    [
        ("add", ""),
        ("add", "octo"),
        ("add", "octo/hello and more"),
        ("add", "https://example.com/octo/hello"),
        ("add", " ".join(f"o/r{number}" for number in range(101))),
        ("sync", ""),
        ("sync", "0"),
        ("sync", "seven"),
        ("sync", "2147483648"),
        ("sync", " ".join(map(str, range(1, 502)))),
    ],
)
def test_impossible_text_is_refused_and_has_no_button(asked: Literal["add", "sync"], typed: str) -> None:
    seen = question(View(show="octo/hello", asked=asked, typed=typed))
    assert seen is not None and seen.wrong and seen.action is None


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"widgetContext": None},
        {"widgetContext": {"forms": [], "timezone": {"offsetISO": "x"}, "width": "wide", "params": 3}},
        {"page": "x", "rows": None, "state": "other", "filter": None, "actions": True},
        {"show": "octo", "plot": "week", "asked": "remove"},
    ],
)
def test_a_senseless_value_counts_as_missing(event: dict[str, Any]) -> None:
    assert view(event) == View()


def test_limits_hold() -> None:
    assert (view({"rows": 0}).rows, view({"rows": 10**9}).rows, view({"page": -5}).page) == (5, 200, 1)


def test_the_documentation_names_every_parameter_and_state() -> None:
    for word in ("actions", "filter", "state", "rows", "show", "plot", *STATES):
        assert word in DESCRIPTION
