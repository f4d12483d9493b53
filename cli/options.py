"""Arguments and options of several commands, with their shell completion."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from backfill.repository_names import NotAName
from backfill.repository_names import repository_name as parsed_name
from cli import local_stack
from cli.stack import STACK_NAME, DeployedStack, InvocationFailed

MOST_NUMBERS = 500
# The longest wait of a person for the shell's completion.
COMPLETION_SECONDS = 3.0


def chosen_stack(stack_name: str | None, region: str | None, profile: str | None) -> DeployedStack:
    """The local stack that runs, unless an option or the environment chooses another."""
    here = None if stack_name or region or profile else local_stack.found()
    if here is not None:
        return DeployedStack(here.name, local=here)
    return DeployedStack(stack_name or STACK_NAME, region, profile)


def repository_name(text: str | None) -> str | None:
    """OWNER/NAME, or a usage error."""
    try:
        return None if text is None else parsed_name(text)
    except NotAName as error:
        raise typer.BadParameter(str(error)) from None


def repository_names(texts: list[str] | None) -> list[str]:
    """Several names; a usage error lists every wrong one."""
    found, wrong = [], []
    for text in texts or ():
        try:
            found.append(parsed_name(text))
        except NotAName as error:
            wrong.append(str(error))
    if wrong:
        raise typer.BadParameter("\n".join(wrong))
    return found


def uuid_text(text: str | None) -> str | None:
    """The uuid of a repository, or a usage error."""
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise typer.BadParameter(f"{text!r} is not a uuid; give OWNER/NAME as an argument instead")
    return text


def few_numbers(numbers: list[int]) -> list[int]:
    """As many as one message takes, or a usage error."""
    if len(numbers) > MOST_NUMBERS:
        raise typer.BadParameter(f"{len(numbers)} numbers are too many: at most {MOST_NUMBERS} at once")
    return numbers


def tracked_names(context: typer.Context, incomplete: str) -> list[str]:
    """Tracked repositories that begin with the text, for the shell; empty without a stack."""
    given: dict[str, Any] = context.parent.params if context.parent is not None else {}
    # Only commands one level deep take names; `backfill dead-letters list` is two levels deep.
    stack = chosen_stack(given.get("stack_name"), given.get("region"), given.get("profile"))
    try:
        names = stack.invoke("console", {"action": "names", "prefix": incomplete}, COMPLETION_SECONDS)["names"]
    except (InvocationFailed, KeyError):  # an older stack does not know the action
        return []
    return [str(name) for name in names]


_NAME = "OWNER/NAME, or its address on GitHub."
Repository = Annotated[
    str,
    typer.Argument(help=_NAME, metavar="REPOSITORY", callback=repository_name, autocompletion=tracked_names),
]
OptionalRepository = Annotated[
    str | None,
    typer.Argument(help=_NAME, metavar="REPOSITORY", callback=repository_name, autocompletion=tracked_names),
]
Repositories = Annotated[
    list[str] | None,
    typer.Argument(
        help=f"{_NAME} One or several.",
        metavar="REPOSITORY",
        callback=repository_names,
        autocompletion=tracked_names,
    ),
]
# How the first releases named a repository.
NamedByOption = Annotated[str | None, typer.Option("--repository", hidden=True, callback=repository_name)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def one_of(argument: str | None, option: str | None) -> str | None:
    """The repository of the argument, or of --repository, which the first releases had."""
    if argument and option:
        raise typer.BadParameter("give the repository once")
    return argument or option
