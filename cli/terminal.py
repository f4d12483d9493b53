"""What reaches the terminal: text of GitHub and of its users is shown, and never obeyed."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console

# Control characters but for tab and line end, and those that turn the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def console(*, stderr: bool = False) -> Console:
    """A console that takes no brackets for markup and no colons for emoji."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def plain(value: Any) -> Any:
    """An answer, or a text, without the characters that a terminal would act on."""
    if isinstance(value, str):
        return _CONTROLS.sub("", value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value
