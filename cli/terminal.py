"""Text for the terminal: control characters from GitHub and its users are removed."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from rich.console import Console

# Control characters except tab and line end, and those that change the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _Sentences(Console):
    """Wraps text between words; addresses and names stay whole."""

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal:
            objects = tuple(wrapped(each, self.width) if isinstance(each, str) else each for each in objects)
        super().print(*objects, **options)


def console(*, stderr: bool = False) -> Console:
    """A console that prints brackets and colons as they are."""
    return _Sentences(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def wrapped(text: str, width: int) -> str:
    """Long lines, broken between words.

    >>> wrapped("short\\none that is longer", 12).splitlines()
    ['short', 'one that is', '  longer']
    """
    lines = [
        part
        for line in text.split("\n")
        for part in (
            [line]
            if len(line) <= width
            else textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        )
    ]
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """An answer, or a text, without the characters that control a terminal."""
    if isinstance(value, str):
        return _CONTROLS.sub("", value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value
