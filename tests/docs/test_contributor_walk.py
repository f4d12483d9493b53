"""CONTRIBUTING.md's walk "Add a field of GitHub", applied to a copy of the checkout: four files, and a backfill fills the column."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, files

MOST_FILES = 4
# `make data-dictionary` writes these.
GENERATED = {"docs/data.md", "migrations/schema.sql"}


def section() -> str:
    """The text of the walk."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split("\n## Add a field of GitHub\n")[1].split("\n## ")[0]


def steps() -> list[tuple[str, list[str]]]:
    """What each step says, and its blocks of code without their indentation in the list."""
    found = []
    for step in re.split(r"^\d\. ", section(), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^   ```\w+\n(.*?)^   ```", step, re.MULTILINE | re.DOTALL)
        words = re.sub(r"^   ```.*?^   ```", "", step, flags=re.MULTILINE | re.DOTALL)
        found.append(
            (
                " ".join(words.split()),
                ["".join(line[3:] if line.strip() else line for line in block.splitlines(True)) for block in blocks],
            )
        )
    return found


def copy_of_the_checkout(folder: Path) -> None:
    for file in files():
        target = folder / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target, follow_symlinks=False)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())


def apply(words: str, block: str, folder: Path) -> None:
    """Do what a step says: create a file, put lines below a line of one, or replace a line."""
    created = re.match(r"Create `([^`]+)`", words)
    if created:
        last = max(int(path.name[:4]) for path in (folder / "migrations/versions").glob("*.sql"))
        path = folder / created[1].replace("00NN", f"{last + 1:04}")
        assert not path.exists()
        path.write_text(block, encoding="utf-8")
        return
    number = max(path.name[:4] for path in (folder / "migrations/versions").glob("*.sql"))
    replaced = re.match(r"In `([^`]+)`, in place of `(\w+)`", words)
    if replaced:
        path = folder / replaced[1]
        text, count = re.subn(
            rf"^ *{replaced[2]}: .*\n",
            block.replace("00NN", number),
            path.read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
        assert count == 1
        path.write_text(text, encoding="utf-8")
        return
    changed = re.match(r"In `([^`]+)`, below `([^`]+)`", words)
    assert changed is not None, words
    path = folder / changed[1]
    text = path.read_text(encoding="utf-8")
    assert text.count(f"{changed[2]}\n") == 1, f"{changed[2]} is not one line of {changed[1]}"
    path.write_text(text.replace(f"{changed[2]}\n", f"{changed[2]}\n{block}"), encoding="utf-8")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder}/layers/shared", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def touched(folder: Path) -> set[str]:
    """Files of the copy that the checkout has not, or has otherwise."""
    ours = {file.relative_to(ROOT): file for file in files()}
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        if not path.is_file() or name.parts[0] == ".venv" or (hidden and name not in ours):
            continue
        if name not in ours or ours[name].read_bytes() != path.read_bytes():
            found.add(str(name))
    return found


@pytest.mark.timeout(900)
def test_a_field_is_added_by_touching_four_files(tmp_path: Path) -> None:
    copy_of_the_checkout(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert touched(tmp_path) == set()
    for words, blocks in steps():
        (block,) = blocks
        if words.startswith("Run "):
            commands = [shlex.split(line) for line in textwrap.dedent(block).splitlines()]
            continue
        apply(words, block, tmp_path)

    # Without the dictionary, its test fails: nobody forgets it.
    dictionary, tests = commands
    assert dictionary == ["make", "data-dictionary"]
    page = "tests/docs/test_data_dictionary.py::test_the_page_is_what_the_schema_says"
    early = run(tmp_path, ".venv/bin/python", "-m", "pytest", page, "-p", "no:cacheprovider")
    assert early.returncode == 1 and "run: make data-dictionary" in early.stdout, early.stdout[-3000:]
    # As the target of make does, without its set-up.
    written = run(tmp_path, ".venv/bin/python", "-m", "local.data_dictionary")
    assert written.returncode == 0, written.stderr
    done = run(tmp_path, *tests, "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert not re.search("skipped|no tests ran", done.stdout)

    changed = touched(tmp_path)
    assert "docs/data.md" in changed and "`last_edited_at`" in (tmp_path / "docs/data.md").read_text(encoding="utf-8")
    assert changed >= GENERATED and len(changed - GENERATED) <= MOST_FILES, changed
    for check in (["check"], ["format", "--check"]):
        style = run(tmp_path, ".venv/bin/ruff", *check, *[name for name in changed if name.endswith(".py")])
        assert style.returncode == 0, style.stdout
