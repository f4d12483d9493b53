"""What the commands have in common: ask a function of the stack, and tell the answer as text or as JSON."""

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


def stack_of(context: typer.Context) -> DeployedStack:
    """The stack that the options, the environment or a running local stack choose. A local one is told, once."""
    stack: DeployedStack = context.obj
    if stack.local is not None and not context.meta.get(_TOLD):
        context.meta[_TOLD] = True
        err.print(f"On the local stack in {stack.local.folder}; --stack-name or AWS_PROFILE chooses another.")
    return stack


def console_answer(context: typer.Context, event: Row) -> Row:
    """The console function's answer. Ends the command with 1 where it fails."""
    return invoke(context, "console", event)


def invoke(context: typer.Context, function: str, event: Row) -> Row:
    """A function's answer. Ends the command with 1 where it fails."""
    try:
        answer: Row = plain(stack_of(context).invoke(function, event))
    except InvocationFailed as failure:
        raise failed(str(failure)) from None
    return answer


def failed(text: str) -> typer.Exit:
    """Say what went wrong; to be raised."""
    complain(text)
    return typer.Exit(1)


def complain(text: str) -> None:
    """A line of the error output."""
    err.print(f"error: {plain(text)}")


def tell(answer: Row, text: str, as_json: bool) -> None:
    """The answer as JSON, or the text."""
    if as_json:
        print_json(answer)
    elif text:
        out.print(text, markup=False)


def print_json(answer: Row) -> None:
    """Indented, and coloured for a person."""
    out.print_json(json.dumps(answer))


def print_json_line(answer: Row) -> None:
    """One object in one line, for streams."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
