"""Every error code of the product is in one list, which docs/operations.md explains."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import backfill
from backfill.error_codes import ErrorCode
from backfill.errors import Retryable

SOURCES = Path(backfill.__file__).parent
# Which argument of a call is a code.
ARGUMENT = {"Refusal": 0, "Permanent": 0, "Flaw": 1, "_doubt": 1, "fail": 0, "Failed": 0, "Retried": 1, "Deferred": 1}
RETURNS = {"_code", "_note_code"}


def words(node: ast.expr) -> Iterator[str]:
    """The strings that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ErrorCode":
        yield ErrorCode[node.attr]
    elif isinstance(node, ast.IfExp):
        yield from words(node.body)
        yield from words(node.orelse)


def written(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ARGUMENT and len(node.args) > ARGUMENT[name]:
                yield from words(node.args[ARGUMENT[name]])
            for keyword in node.keywords:
                if keyword.arg in ("code", "error_code"):
                    yield from words(keyword.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            if ast.unparse(node.targets[0].value).endswith("failed") and isinstance(node.value, ast.Tuple):
                yield from words(node.value.elts[0])
        elif isinstance(node, ast.FunctionDef) and node.name in RETURNS:
            for each in ast.walk(node):
                if isinstance(each, ast.Return) and each.value is not None:
                    yield from words(each.value)
    yield from re.findall(r"error_code = '(\w+)'", source)


def kinds_of(error: type[Retryable]) -> Iterator[type[Retryable]]:
    yield error
    for each in error.__subclasses__():
        yield from kinds_of(each)


def test_every_code_in_the_source_is_in_the_list() -> None:
    found = {word for path in SOURCES.rglob("*.py") for word in written(path.read_text(encoding="utf-8"))}
    assert len(found) > 10, "the search finds them"
    assert found <= set(ErrorCode)


def test_every_error_type_has_a_code_of_the_list_and_no_class_name_is_one() -> None:
    for module in pkgutil.walk_packages(backfill.__path__, "backfill."):
        importlib.import_module(module.name)
    for kind in kinds_of(Retryable):
        assert isinstance(kind.code, ErrorCode), kind
    assert all("__name__" not in line for line in _lines("error_code="))
    assert all(re.fullmatch(r"[a-z_]+", code) for code in ErrorCode)


def test_the_operations_page_explains_every_code_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("## Error codes\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == sorted(ErrorCode)


def _lines(text: str) -> list[str]:
    return [line for path in SOURCES.rglob("*.py") for line in path.read_text().splitlines() if text in line]
