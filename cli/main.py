"""Commands. Exit status: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.progress import budget_line, line, watch
from cli.stack import DeployedStack, InvocationFailed

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
dead_letters_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Messages that could not be handled.")
app.add_typer(dead_letters_app, name="dead-letters")
out = Console()
err = Console(stderr=True)


class Priority(StrEnum):
    """Share of the budget: high 4, normal 2, low 1."""

    high = "high"
    normal = "normal"
    low = "low"


def repository_name(text: str) -> str:
    """OWNER/NAME, or a usage error."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", text):
        raise typer.BadParameter(f"{text!r} is not OWNER/NAME, as in pytorch/pytorch")
    return text


Repository = Annotated[str, typer.Argument(help="OWNER/NAME", callback=repository_name)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.callback()
def connect(
    context: typer.Context,
    stack_name: Annotated[
        str, typer.Option(envvar="STACK_NAME", help="Name of the deployed stack.")
    ] = "progressive-backfill",
    region: Annotated[str | None, typer.Option(help="AWS region; default as configured.")] = None,
    profile: Annotated[str | None, typer.Option(help="AWS profile; default as configured.")] = None,
) -> None:
    """Every pull request of large GitHub repositories, in your own Postgres.

    Works on a deployed stack with the usual AWS configuration; on the local one after: eval "$(make -s env)"
    """
    context.obj = DeployedStack(stack_name, region, profile)


@app.command()
def add(
    context: typer.Context,
    repositories: Annotated[list[str], typer.Argument(help="OWNER/NAME, one or several.")],
    priority: Annotated[Priority | None, typer.Option(help="Share of the budget.")] = None,
    chunk_size: Annotated[int | None, typer.Option(min=1, max=100, help="Most pull requests in a chunk.")] = None,
    oldest_first: Annotated[bool, typer.Option(help="Begin with the oldest pull requests.")] = False,
) -> None:
    """Track repositories and begin their backfills. Adding again changes only what is named.

    Example: backfill add kubernetes/kubernetes pytorch/pytorch --priority high
    """
    for name in [repository_name(each) for each in repositories]:
        event: dict[str, Any] = {"action": "add", "repository": name, "oldest_first": oldest_first}
        event |= {"priority": priority.value} if priority else {}
        event |= {"chunk_size": chunk_size} if chunk_size is not None else {}
        answer = _console(context, event)
        verb = "added" if answer["created"] else "is tracked already"
        out.print(f"{answer['repository']} {verb}: {answer['total_prs']} pull requests", highlight=False)


@app.command()
def plan(
    context: typer.Context,
    repository_id: Annotated[str | None, typer.Option(help="uuid of a repository.")] = None,
    repository: Annotated[str | None, typer.Option(help="OWNER/NAME.")] = None,
    chunk_size: Annotated[int | None, typer.Option(min=1, max=100, help="For this run.")] = None,
    max_chunks: Annotated[int | None, typer.Option(min=1, help="Outstanding chunks, for this run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what it would cost.")] = False,
    as_json: Json = False,
) -> None:
    """Run the planner now, for one repository or for all that are active.

    Example: backfill plan --repository kubernetes/kubernetes --dry-run
    """
    event: dict[str, Any] = {"dry_run": dry_run}
    event |= {"repository": repository_name(repository)} if repository else {}
    event |= {"repository_id": repository_id} if repository_id else {}
    event |= {"chunk_size": chunk_size} if chunk_size is not None else {}
    event |= {"max_chunks": max_chunks} if max_chunks is not None else {}
    _show(_invoke(context, "planner", event), as_json)


@app.command()
def status(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--watch", help="Show progress until nothing is active.")] = False,
    as_json: Json = False,
) -> None:
    """How far every backfill is.

    Example: backfill status --watch
    """
    if follow:
        watch(lambda: _console(context, {"action": "status"}), out)
        return
    answer = _console(context, {"action": "status"})
    if as_json:
        out.print_json(json.dumps(answer))
        return
    if not answer["backfills"]:
        out.print("Nothing is tracked yet; begin with: backfill add OWNER/NAME")
    for row in answer["backfills"]:
        out.print(line(row), highlight=False, soft_wrap=True)
    out.print(budget_line(answer), highlight=False)


@app.command()
def pause(context: typer.Context, repository: Repository) -> None:
    """Send no more chunks; those in flight finish. Example: backfill pause pytorch/pytorch"""
    done = _console(context, {"action": "pause", "repository": repository})["paused"]
    out.print(f"{repository} {'is paused' if done else 'was paused already'}")


@app.command()
def resume(
    context: typer.Context,
    repository: Repository,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also try again what had failed.")] = False,
) -> None:
    """Go on with a paused backfill. Example: backfill resume pytorch/pytorch --retry-failed"""
    answer = _console(context, {"action": "resume", "repository": repository, "retry_failed": retry_failed})
    out.print(f"{repository} is active; {answer['retried']} failed pull requests will be tried again")


@app.command()
def priority(context: typer.Context, repository: Repository, value: Annotated[Priority, typer.Argument()]) -> None:
    """Set the share of the budget, from the next planning on. Example: backfill priority pytorch/pytorch high"""
    _console(context, {"action": "priority", "repository": repository, "priority": value.value})
    out.print(f"{repository} has priority {value.value}")


@app.command()
def recover(
    context: typer.Context,
    stuck_threshold: Annotated[int, typer.Option(min=1, help="Minutes after which a chunk is stuck.")] = 30,
    cleanup_days: Annotated[int, typer.Option(min=0, help="Completed chunks are deleted after these days.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Requeue stuck and lost chunks, look after dead letters, clean up.

    Example: backfill recover --stuck-threshold 60 --cleanup-days 14
    """
    event = {"stuck_threshold": stuck_threshold, "cleanup_days": cleanup_days, "dry_run": dry_run}
    _show(_invoke(context, "recovery", event), as_json)


@app.command()
def gaps(context: typer.Context, repository: Repository, as_json: Json = False) -> None:
    """Pull requests that GitHub has and the database lacks, with the reason. Example: backfill gaps pytorch/pytorch"""
    answer = _console(context, {"action": "gaps", "repository": repository})
    if as_json:
        out.print_json(json.dumps(answer))
        return
    for row in answer["gaps"]:
        out.print(f"#{row['number']}  {row['reason']}  {row['error'] or ''}", highlight=False, soft_wrap=True)
    if not answer["gaps"]:
        out.print(f"{repository}: no gaps")


@app.command()
def sync(
    context: typer.Context,
    repository: Repository,
    numbers: Annotated[list[int], typer.Argument(min=1, help="Numbers of pull requests, up to 500.")],
) -> None:
    """Read single pull requests again, now. Example: backfill sync pytorch/pytorch 4711 4712"""
    answer = _console(context, {"action": "sync", "repository": repository, "pr_numbers": numbers})
    out.print(f"{answer['requested']} pull requests of {repository} will be read again")


@dead_letters_app.command("list")
def list_dead_letters(context: typer.Context, as_json: Json = False) -> None:
    """Show them. Example: backfill dead-letters list"""
    answer = _console(context, {"action": "dead_letters"})
    if as_json:
        out.print_json(json.dumps(answer))
        return
    for row in answer["dead_letters"]:
        out.print(f"{row['message_id']}  {row['body']}", highlight=False, soft_wrap=True, markup=False)
    if not answer["dead_letters"]:
        out.print("No dead letters")


@dead_letters_app.command()
def redrive(context: typer.Context) -> None:
    """Send them to the chunk queue again. Example: backfill dead-letters redrive"""
    out.print(f"{_console(context, {'action': 'redrive'})['redriven']} messages were sent again")


def _console(context: typer.Context, event: dict[str, Any]) -> dict[str, Any]:
    return _invoke(context, "console", event)


def _invoke(context: typer.Context, function: str, event: dict[str, Any]) -> dict[str, Any]:
    stack: DeployedStack = context.obj
    try:
        return stack.invoke(function, event)
    except InvocationFailed as failure:
        err.print(f"error: {failure}", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(1) from None


def _show(answer: dict[str, Any], as_json: bool) -> None:
    """A report: JSON for scripts, else one value per line, backfill by backfill."""
    if as_json:
        out.print_json(json.dumps(answer))
        return
    for name, value in answer.items():
        if not isinstance(value, list):
            out.print(f"{name}: {value}", highlight=False)
    for row in answer.get("backfills", []):
        out.print("  ".join(f"{name}={value}" for name, value in row.items()), highlight=False, soft_wrap=True)
