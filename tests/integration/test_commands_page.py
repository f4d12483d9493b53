"""docs/commands.md has every command, option and JSON shape; the shapes are those that the commands print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from backfill.store.connection import Database
from cli.main import app
from cli.reference import commands, page
from cli.shapes import SHAPES, Shape
from cli.stack import DeployedStack
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.browser.backfills import fail_some, track
from tests.terminal import ROOT, Served

KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "time": lambda value: isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "null": lambda value: value is None,
    "any": lambda _: True,
}


def differences(shape: Shape, value: Any, place: str = "answer") -> list[str]:
    """Where a value is not as its shape says; an unknown field is a difference too."""
    if isinstance(shape, str):
        return [] if any(KINDS[kind](value) for kind in shape.split(" or ")) else [f"{place}: {value!r} is not {shape}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{place} is not a list"]
        return [told for index, each in enumerate(value) for told in differences(shape[0], each, f"{place}[{index}]")]
    if not isinstance(value, dict):
        return [f"{place} is not an object: {value!r}"]
    if "*" in shape:
        return [told for name, each in value.items() for told in differences(shape["*"], each, f"{place}.{name}")]
    names = {name.rstrip("?"): each for name, each in shape.items()}
    needed = {name for name in shape if not name.endswith("?")}
    found = [f"{place} lacks {name}" for name in sorted(needed - value.keys())]
    found += [f"{place}.{name} is not documented" for name in sorted(value.keys() - names.keys())]
    return found + [
        told
        for name in value.keys() & names.keys()
        for told in differences(names[name], value[name], f"{place}.{name}")
    ]


def test_the_page_is_that_of_the_commands() -> None:
    assert (ROOT / "docs/commands.md").read_text(encoding="utf-8") == page(), (
        "python -m cli.reference > docs/commands.md"
    )


def test_every_command_takes_json_has_a_shape_and_an_example() -> None:
    for name, command in commands():
        assert "--json" in {each for parameter in command.params for each in getattr(parameter, "opts", ())}, name
        assert name in SHAPES, name
        (example,) = re.findall(r"Example: (backfill .+)", command.help)
        assert example.startswith(f"backfill {name}"), name
        assert all(parameter.help for parameter in command.params if not getattr(parameter, "hidden", False)), name


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Simulator(generate(3, {"octo/one": 12, "octo/two": 5}), speed=5000) as simulator:
        yield Stack(db, simulator)


@pytest.fixture
def ask(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    served = Served(stack)
    monkeypatch.setattr(
        DeployedStack,
        "invoke",
        lambda _, function, event, seconds=None: json.loads(json.dumps(served._run(function, event), default=str)),
    )

    def run(shape: str, *words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        answer = json.loads(done.stdout)
        told.extend(f"{' '.join(words)}: {each}" for each in differences(SHAPES[shape], answer))
        return answer

    told: list[str] = []
    yield run
    served.close()
    assert told == []


def test_json_is_as_the_page_says(stack: Stack, ask: Callable[..., Any]) -> None:
    ask("add", "add", "octo/one", "octo/none", "--chunk-size", "4")
    assert ask("add", "add", "octo/one", "--priority", "high")["repositories"][0]["changed"] != {}
    ask("plan", "plan")
    ask("plan --dry-run", "plan", "octo/two", "--dry-run")
    stack.run()
    fail_some(stack.db, track(stack.db, 1, "octo/failed", total=50, done=47), 3)
    track(stack.db, 2, "octo/paused", status="'paused'")
    stack.db.execute(
        "INSERT INTO requested_names (owner, name, metadata, reason, ask_at) VALUES ('octo', 'later', '{}', 'server time', now())"
    )
    assert len(ask("status", "status")["backfills"]) == 3
    assert ask("status", "status", "octo/one", "octo/nobody")["unknown"] == ["octo/nobody"]
    ask("status", "status", "octo/later")
    assert ask("gaps", "gaps", "octo/failed")["gaps"]
    assert ask("chunks", "chunks", "octo/one")["chunks"]
    ask("open", "open", "octo/one", "--no-browser")
    ask("add --org --dry-run", "add", "--org", "octo", "--exclude", "*x", "--dry-run")
    ask("add --org", "add", "--org", "octo", "--no-forks")
    ask("status --org", "status", "--org", "octo")
    assert ask("status", "status")["organisations"][0]["organisation"] == "octo"
    ask("remove", "remove", "--org", "octo")
    ask("pause", "pause", "octo/one")
    ask("sync", "sync", "octo/one", "1", "2")
    ask("resume", "resume", "octo/one")
    ask("priority", "priority", "octo/one", "low")
    stack.queues.add_dead_letter("{}", "wrong")
    assert ask("dead-letters list", "dead-letters", "list")["dead_letters"]
    ask("dead-letters redrive", "dead-letters", "redrive")
    ask("dead-letters discard", "dead-letters", "discard", "--all")
    ask("recover --dry-run", "recover", "--dry-run")
    ask("recover", "recover")
    ask("remove", "remove", "octo/one", "--delete-data")
