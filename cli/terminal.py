"""What reaches the terminal: text of GitHub and of its users is shown, and never obeyed."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from rich.console import Console

# Control characters but for tab and line end, and those that turn the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _Sentences(Console):
    """Breaks text between words where a terminal would break it within one; never an address or a name."""

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal:
            objects = tuple(wrapped(each, self.width) if isinstance(each, str) else each for each in objects)
        super().print(*objects, **options)


def console(*, stderr: bool = False) -> Console:
    """A console that takes no brackets for markup and no colons for emoji."""
    return _Sentences(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def wrapped(text: str, width: int) -> str:
    """Lines that are longer than the terminal, broken between words.

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
    """An answer, or a text, without the characters that a terminal would act on."""
    if isinstance(value, str):
        return _CONTROLS.sub("", value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value
