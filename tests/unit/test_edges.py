"""Untyped dictionaries live at the edges alone, where JSON or a row of Postgres enters or leaves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import backfill

SOURCES = Path(backfill.__file__).parent
UNTYPED = "dict[str, Any]"
# A module that names such a dictionary, and what enters or leaves there.
EDGES = {
    "answers.py": "answers of the console leave",
    "config.py": "secrets enter",
    "forecast/forecast.py": "the answer of a dry run leaves",
    "github/records.py": "GitHub's nodes enter, and become rows",
    "messages.py": "events and messages enter",
    "organisations.py": "answers of the console about organisations leave",
    "overview.py": "the overview leaves",
    "planner/run.py": "the answer of a planner run leaves",
    "pull_request_fields.py": "GitHub's fields become columns",
    "store/address.py": "the settings of a connection leave",
    "store/conclusions.py": "parameters of statements leave",
    "store/connection.py": "rows enter",
    "store/organisations.py": "rows and parameters of statements leave",
    "store/rows.py": "rows enter",
}
# Modules outside store/ and github/ that take an untyped dictionary by another name.
USERS = {"console.py": "Json"}
ALIASES = {"Row", "Node", "Json", "Tables"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        yield path.relative_to(SOURCES).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_only_the_edges_name_an_untyped_dictionary() -> None:
    found = {
        name
        for name, tree in modules()
        if any(isinstance(node, ast.Subscript) and ast.unparse(node) == UNTYPED for node in ast.walk(tree))
    }
    assert found == set(EDGES)


def test_no_use_case_takes_a_row_or_a_node_by_another_name() -> None:
    found = {
        (name, alias.name)
        for name, tree in modules()
        if not name.startswith(("store/", "github/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in ALIASES
    }
    assert found == set(USERS.items())
