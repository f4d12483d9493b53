"""GitHub's node ids have a legacy and a next form. Both name an object; either may stand in an answer."""

from __future__ import annotations

import base64
import binascii

# How the legacy form of an id begins here, when it is decoded; GitHub has the length and the name of the type there.
_LEGACY = "00:"
_NEXT = "N_"


def other_form(node_id: str) -> str:
    """The same object's id in the other form. The next form begins with a word and an underscore, which base64 lacks."""
    if node_id.startswith(_NEXT):
        return node_id.removeprefix(_NEXT)
    if "_" in node_id:
        return base64.b64encode(f"{_LEGACY}{node_id}".encode()).decode()
    try:
        decoded = base64.b64decode(node_id, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    return decoded.removeprefix(_LEGACY) if decoded.startswith(_LEGACY) else f"{_NEXT}{node_id}"
