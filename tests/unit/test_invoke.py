"""`make invoke-…` tells failure from success, and names a file that it cannot read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from local.invoke import answer_of_sam, main, settings_of_file
from local.stack import Failed


def test_an_error_of_the_function_is_a_failure_though_sam_ends_with_0() -> None:
    printed = '{"errorMessage": "chunk_size: 101 is too much", "errorType": "ContractViolation", "stackTrace": []}\n'
    with pytest.raises(Failed, match="ContractViolation: chunk_size: 101 is too much"):
        answer_of_sam(0, printed)


@pytest.mark.parametrize("printed", ["", "\n", "no JSON"])
def test_no_answer_is_a_failure(printed: str) -> None:
    with pytest.raises(Failed, match="the function gave no answer"):
        answer_of_sam(0, printed)


def test_the_status_of_sam_is_kept() -> None:
    with pytest.raises(Failed, match="sam local invoke ended with 3"):
        answer_of_sam(3, "{}")


@pytest.mark.parametrize("answer", [{"ok": True}, "<div></div>", {"applied": []}, None])
def test_any_other_answer_is_one(answer: object) -> None:
    assert answer_of_sam(0, json.dumps(answer)) == answer


@pytest.mark.parametrize("option", ["--event", "--env-vars"])
@pytest.mark.parametrize("content", [None, "[1", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path,
    option: str,
    content: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "given.json"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    monkeypatch.setattr(sys, "argv", ["local.invoke", "planner", option, str(file)])
    assert main() == 1
    assert f"{file} cannot be read: " in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "5", '{"Parameters": []}', '{"PlannerFunction": "x"}'])
def test_an_env_file_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "env.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(Failed, match=r"the env file .* must be"):
        settings_of_file("PlannerFunction", file)


def test_settings_of_one_function_come_over_those_of_all(tmp_path: Path) -> None:
    file = tmp_path / "env.json"
    given = {"Parameters": {"A": "1", "B": 2}, "PlannerFunction": {"A": "3"}, "WidgetFunction": {"A": "4"}}
    file.write_text(json.dumps(given), encoding="utf-8")
    assert settings_of_file("PlannerFunction", file) == {"A": "3", "B": "2"}
