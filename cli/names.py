"""Names of repositories as a person types them: OWNER/NAME, a GitHub address, or a file with one per line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from backfill.repository_names import NotAName, repository_name


def unique(names: Iterable[str]) -> list[str]:
    """Each name once, in the order given; GitHub's names have no case."""
    return list({name.lower(): name for name in reversed(list(names))}.values())[::-1]


def names_of_file(file: str) -> list[str]:
    """Names and addresses of a file, one per line; ``#`` begins a comment, and ``-`` is the standard input.

    Raises NotAName that shows every wrong line, and OSError.
    """
    source = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    return _names_of_lines("the standard input" if file == "-" else file, source.splitlines())


def _names_of_lines(file: str, lines: Sequence[str]) -> list[str]:
    found, wrong = [], []
    for number, line in enumerate(lines, 1):
        # A comment follows a blank: an address may hold a fragment.
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        try:
            found.append(repository_name(text))
        except NotAName as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        raise NotAName(f"{file} has wrong lines, and nothing was added:\n" + "\n".join(wrong))
    return found
