"""How `make test` shares its files among workers."""

from __future__ import annotations

import re
from pathlib import Path

from tests import conftest

ROOT = Path(__file__).parents[2]


def test_every_file_that_the_gate_names_exists() -> None:
    for name in (*conftest.ONE_STACK, *conftest.LONGEST):
        assert (ROOT / name).is_file(), name


def test_the_files_of_one_stack_and_no_others_run_on_one_worker() -> None:
    using = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests/e2e").glob("test_*.py")
        if re.search(r"one_stack: OneStack", path.read_text(encoding="utf-8"))
    }
    assert using == set(conftest.ONE_STACK)
    scopes = {conftest.scope_of(f"{name}::test_one[a::b]") for name in using}
    assert len(scopes) == 1
    assert conftest.scope_of("tests/unit/test_gate.py::test_one") == "tests/unit/test_gate.py"
