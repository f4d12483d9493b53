"""The version of this command and of the stack, and whether they fit together."""

from __future__ import annotations

import re
from importlib import metadata

from backfill import __version__
from cli.stack import DeployedStack, InvocationFailed

# A person who asks for the version waits no longer for a stack.
SECONDS = 10.0


def own() -> str:
    """The version of the installed wheel; in a checkout that of the source."""
    try:
        return metadata.version("progressive-backfill")
    except metadata.PackageNotFoundError:
        return __version__


def of_stack(stack: DeployedStack) -> str:
    """The version that the stack tells. Raises InvocationFailed."""
    answer = stack.invoke("console", {"action": "version"}, SECONDS)
    return str(answer["version"])


def fit(command: str, stack: str) -> bool:
    """Whether both are of the same minor version: actions and answers may change with that number.

    >>> fit("0.1.4.dev3+g1234567", "0.1.0"), fit("0.2.0", "0.1.0")
    (True, False)
    """
    return _minor(command) == _minor(stack)


def told(stack: DeployedStack) -> tuple[list[str], str | None]:
    """Lines for the output, and a warning if the two do not fit together. A stack that cannot be reached is told too."""
    command = own()
    lines = [f"backfill {command}"]
    try:
        theirs = of_stack(stack)
    except InvocationFailed as failure:
        return [*lines, f"stack {stack.name}: version not known: {failure}"], None
    lines.append(f"stack {stack.name}: {theirs}")
    if fit(command, theirs):
        return lines, None
    return lines, (
        f"the command ({command}) and the stack ({theirs}) are of different versions; deploy the version of the command,"
        " or install that of the stack (docs/installing.md)"
    )


def _minor(version: str) -> tuple[str, ...] | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return found.groups() if found else None
