"""Shared by the commands: ask a function of the stack, and print the answer as text or as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from cli.stack import DeployedStack, InvocationFailed
from cli.terminal import console, plain

Row = dict[str, Any]
out, err = console(), console(stderr=True)
_TOLD = "cli.asking.told"
# The exit status of trouble, for scripts (``--exit-code``).
EXIT_TROUBLE = 3


def stack_of(context: typer.Context) -> DeployedStack:
    """The stack that the options, the environment or a running local stack choose. A local one is named once."""
    stack: DeployedStack = context.obj
    if stack.local is not None and not context.meta.get(_TOLD):
        context.meta[_TOLD] = True
        err.print(f"On the local stack in {stack.local.folder}; --stack-name or AWS_PROFILE chooses another.")
    return stack


def console_answer(context: typer.Context, event: Row) -> Row:
    """The console function's answer. If it fails, the command ends with 1."""
    return invoke(context, "console", event)


def invoke(context: typer.Context, function: str, event: Row) -> Row:
    """A function's answer. If it fails, the command ends with 1."""
    try:
        answer: Row = plain(stack_of(context).invoke(function, event))
    except InvocationFailed as failure:
        raise failed(str(failure)) from None
    return answer


def failed(text: str) -> typer.Exit:
    """Print the error; the result is to be raised."""
    complain(text)
    return typer.Exit(1)


def complain(text: str) -> None:
    """Print a line to the standard error."""
    err.print(f"error: {plain(text)}")


def tell(answer: Row, text: str, as_json: bool) -> None:
    """Print the answer as JSON, or the text."""
    if as_json:
        print_json(answer)
    elif text:
        out.print(text, markup=False)


def print_json(answer: Row) -> None:
    """Print indented JSON, in colours for a person."""
    out.print_json(json.dumps(answer))


def print_json_line(answer: Row) -> None:
    """Print one object in one line, for streams."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
