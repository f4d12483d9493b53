"""Writes docs/commands.md from the commands: `python -m cli.reference > docs/commands.md`. A test compares them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import typer.main

from cli.main import app
from cli.shapes import SHAPES

HEAD = """\
# Commands

`make setup` puts the command `backfill` into `.venv/bin`. Each command has `--help` with an example.

- A repository is `OWNER/NAME`, or any address of it on GitHub. `backfill --install-completion` makes the shell complete
  names, commands and options.
- On AWS the commands use your AWS configuration. They need `lambda:InvokeFunction` on `STACK-console`, `STACK-planner` and
  `STACK-recovery`. `backfill logs` and `backfill doctor` need more and name it.
- Where a local stack runs in this checkout (`make up`), the commands work on that one, and say so. An option
  (`--stack-name`, `--region`, `--profile`) or a variable (`STACK_NAME`, `AWS_PROFILE`, `AWS_ACCESS_KEY_ID`,
  `AWS_ENDPOINT_URL`) chooses another. A region alone does not.
- `--json` prints JSON on the standard output. The shapes below keep their fields; new fields may come. A field that
  ends with `?` may be missing. Times are ISO 8601. Notices and errors go to the standard error.
- Times for people are in UTC. Rates are pull requests per hour, over the last hour.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | failed, or a part of it failed |
| 2 | wrong usage; nothing was sent |
| 3 | trouble, with `backfill status --exit-code` |
| 130 | ended by Ctrl-C |
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in commands())])


def commands() -> Iterator[tuple[str, Any]]:
    """Each command by its whole name, in the order of the help."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", below) for inner, below in command.commands.items())
        else:
            yield name, command


def parameters(command: Any) -> list[tuple[str, str]]:
    """Arguments and options as a person types them, with their help. Hidden ones are for old scripts."""
    rows = []
    for each in command.params:
        if getattr(each, "hidden", False):
            continue
        if each.param_type_name == "argument":
            rows.append((str(each.metavar or each.name.upper()), each.help or ""))
        else:
            rows.append((", ".join([*each.opts, *each.secondary_opts]), each.help or ""))
    return rows


def _section(name: str, command: Any) -> str:
    text, _, example = (command.help or "").partition("Example: ")
    lines = [f"## backfill {name}", "", *_flowing(text), "```sh", example.strip(), "```", ""]
    lines += ["| argument or option | meaning |", "|---|---|"]
    lines += [f"| `{given}` | {meaning} |" for given, meaning in parameters(command)]
    for shape in SHAPES:
        if shape == name or shape.startswith(f"{name} --"):
            lines += ["", f"`backfill {shape} --json`:", "", "```json", json.dumps(SHAPES[shape], indent=1), "```"]
    return "\n".join([*lines, ""])


def _flowing(text: str) -> list[str]:
    """The paragraphs of a docstring, each in one line."""
    found = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return [line for part in found for line in (part, "")]


if __name__ == "__main__":
    sys.stdout.write(page())
