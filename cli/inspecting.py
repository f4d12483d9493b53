"""Commands for a closer look: chunks, the page on GitHub, logs, and the health of the stack."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import statuses, tables
from cli.asking import console_answer, failed, out, print_json, tell
from cli.doctor import doctor
from cli.logs import logs
from cli.options import Json, Repository
from cli.sentences import count


class ChunkStatus(StrEnum):
    """Of a chunk."""

    pending = "pending"
    processing = "processing"
    completed = "completed"
    failed = "failed"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(chunks)
    app.command()(logs)
    app.command("open")(open_page)
    app.command()(doctor)


def chunks(
    context: typer.Context,
    repository: Repository,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many chunks, newest first.")] = 20,
    status: Annotated[ChunkStatus | None, typer.Option(help="Only chunks in this status.")] = None,
    as_json: Json = False,
) -> None:
    """List the newest chunks of a repository: status, attempts, and why each failed or waits.

    Example: backfill chunks pytorch/pytorch --status failed
    """
    event: dict[str, Any] = {"action": "chunks", "repository": repository, "limit": limit}
    event |= {"status": status.value} if status else {}
    answer = console_answer(context, event)
    if as_json:
        print_json(answer)
    elif answer["chunks"]:
        tables.chunks(out, answer["chunks"])
        out.print(f"{count(len(answer['chunks']), 'chunk')} of {repository}, the newest first")
    else:
        out.print(f"{repository} has no {f'{status.value} ' if status else ''}chunks")


def open_page(
    context: typer.Context,
    repository: Repository,
    number: Annotated[int | None, typer.Argument(min=1, help="Number of a pull request.", metavar="NUMBER")] = None,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
    as_json: Json = False,
) -> None:
    """Open the pull requests of a repository on GitHub, or one of them, and print the address.

    Example: backfill open pytorch/pytorch 4711 --no-browser
    """
    answer = statuses.whole(lambda event: console_answer(context, event), [repository])
    if not answer["backfills"]:
        raise failed(
            f"{repository} is accepted, but GitHub has not given its address yet; see: backfill status {repository}"
        )
    row = answer["backfills"][0]
    address = row.get("url") or f"https://github.com/{row['repository']}"
    url = f"{address}/pull/{number}" if number else f"{address}/pulls"
    tell({"url": url}, url, as_json)
    if browser:
        import webbrowser

        webbrowser.open(url)
