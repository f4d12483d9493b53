"""Commands. Exit status: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import tables, waiting
from cli.progress import watch
from cli.stack import DeployedStack, InvocationFailed
from cli.terminal import console, plain

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
dead_letters_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Messages that could not be handled.")
app.add_typer(dead_letters_app, name="dead-letters")
out, err = console(), console(stderr=True)

MOST_NUMBERS = 500
MOST_NAMES = 100
HIDDEN = "{:,} dead letters are in the hands of recovery or of another command: try again in a minute"


class Priority(StrEnum):
    """Share of the budget: high 4, normal 2, low 1."""

    high = "high"
    normal = "normal"
    low = "low"


def repository_name(text: str | None) -> str | None:
    """OWNER/NAME, or a usage error."""
    if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+", text):
        raise typer.BadParameter(f"{text!r} is not OWNER/NAME, as in pytorch/pytorch")
    return text


def repository_names(texts: list[str]) -> list[str]:
    """Several of them."""
    for text in texts:
        repository_name(text)
    return texts


def uuid_text(text: str | None) -> str | None:
    """The uuid of a repository, or a usage error."""
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise typer.BadParameter(f"{text!r} is no uuid; for a name use --repository OWNER/NAME")
    return text


def few_numbers(numbers: list[int]) -> list[int]:
    """As many as one message takes, or a usage error."""
    if len(numbers) > MOST_NUMBERS:
        raise typer.BadParameter(f"{len(numbers)} numbers are too many: at most {MOST_NUMBERS} at once")
    return numbers


Repository = Annotated[str, typer.Argument(help="OWNER/NAME", metavar="OWNER/NAME", callback=repository_name)]
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

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    context.obj = DeployedStack(stack_name, region, profile)


@app.command()
def add(
    context: typer.Context,
    repositories: Annotated[
        list[str],
        typer.Argument(help="OWNER/NAME, one or several.", metavar="OWNER/NAME...", callback=repository_names),
    ],
    priority: Annotated[
        Priority | None, typer.Option(help="Share of the budget: 4, 2 or 1; normal if not given.")
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, max=100, help="Most pull requests in a chunk; 25 if not given.")
    ] = None,
    oldest_first: Annotated[
        bool | None, typer.Option("--oldest-first/--newest-first", help="Where to begin; newest first if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Track repositories and begin their backfills. Adding again changes only what is named.

    Example: backfill add kubernetes/kubernetes pytorch/pytorch --priority high
    """
    stack: DeployedStack = context.obj
    wanted: dict[str, Any] = {} if priority is None else {"priority": priority.value}
    wanted |= {} if chunk_size is None else {"chunk_size": chunk_size}
    wanted |= {} if oldest_first is None else {"oldest_first": oldest_first}
    answers: list[dict[str, Any]] = []
    for start in range(0, len(repositories), MOST_NAMES):
        some = repositories[start : start + MOST_NAMES]
        try:
            answers += plain(stack.invoke("console", {"action": "add", "repositories": some, **wanted}))["repositories"]
        except InvocationFailed as failure:
            answers += [{"repository": name, "error": str(failure)} for name in some]
    if as_json:
        _print_json({"repositories": [answer for answer in answers if "error" not in answer]})
    for answer in answers:
        if "error" in answer:
            _complain(f"{answer['repository']}: {answer['error']}")
        elif not as_json:
            out.print(_added(answer), markup=False)
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


@app.command()
def remove(
    context: typer.Context,
    repository: Repository,
    delete_data: Annotated[
        bool, typer.Option("--delete-data/--keep-data", help="Also delete its rows. They are kept if not given.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Track a repository no more. Its chunks in flight end without storing anything.

    Example: backfill remove pytorch/pytorch --delete-data
    """
    event = {"action": "remove", "repository": repository, "delete_data": delete_data}
    answer = _console(context, event)
    while not answer["done"]:
        answer = {**_console(context, event), "removed": True}
    _tell(answer, f"{repository} is not tracked any more; its data is {'deleted' if delete_data else 'kept'}", as_json)


@app.command()
def plan(
    context: typer.Context,
    repository_id: Annotated[
        str | None, typer.Option(help="uuid of a repository, as in the table repositories.", callback=uuid_text)
    ] = None,
    repository: Annotated[str | None, typer.Option(help="OWNER/NAME.", callback=repository_name)] = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, max=100, help="Most pull requests in a chunk, for this run.")
    ] = None,
    max_chunks: Annotated[int | None, typer.Option(min=1, help="Outstanding chunks, for this run.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write nothing; say what would be done, what it costs and how long it takes."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the planner now, for one repository or for all that are active.

    A dry run also takes a repository that is not tracked yet.

    Example: backfill plan --repository kubernetes/kubernetes --dry-run
    """
    if repository and repository_id:
        raise typer.BadParameter("give either --repository or --repository-id")
    event: dict[str, Any] = {"dry_run": dry_run}
    event |= {"repository": repository} if repository else {}
    event |= {"repository_id": repository_id} if repository_id else {}
    event |= {"chunk_size": chunk_size} if chunk_size is not None else {}
    event |= {"max_chunks": max_chunks} if max_chunks is not None else {}
    answer = _invoke(context, "planner", event)
    if as_json:
        _print_json(answer)
    elif dry_run:
        tables.forecast(out, answer)
    else:
        tables.planned(out, answer)
    if any(row.get("error") for row in answer["backfills"]):
        raise typer.Exit(1)


@app.command()
def status(
    context: typer.Context,
    repository: Annotated[str | None, typer.Option(help="Only this one, OWNER/NAME.", callback=repository_name)] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Show progress until nothing is active.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also list what is completed, however much it is.")] = False,
    as_json: Json = False,
) -> None:
    """How far every backfill is.

    Example: backfill status --watch
    """
    event = {"action": "status"} | ({"repository": repository} if repository else {})
    if follow and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")
    if follow:
        watch(lambda: _status(context, event), out)
        return
    answer = _status(context, event)
    if as_json:
        _print_json(answer)
    else:
        tables.status(out, answer, everything=everything or repository is not None)


@app.command()
def pause(context: typer.Context, repository: Repository, as_json: Json = False) -> None:
    """Send no more chunks of a repository, until it is resumed; those in flight finish.

    A pause that trouble has made, and that would end by itself, ends no more.

    Example: backfill pause pytorch/pytorch
    """
    answer = _console(context, {"action": "pause", "repository": repository})
    _tell(answer, f"{repository} {'is paused' if answer['paused'] else 'was paused already'}", as_json)


@app.command()
def resume(
    context: typer.Context,
    repository: Repository,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also try again what had failed.")] = False,
    as_json: Json = False,
) -> None:
    """Go on with a paused backfill.

    Example: backfill resume pytorch/pytorch --retry-failed
    """
    answer = _console(context, {"action": "resume", "repository": repository, "retry_failed": retry_failed})
    text = (
        f"{repository} is {answer['status']}"
        if answer["resumed"]
        else f"{repository} was not paused: {answer['status']}"
    )
    if retry_failed:
        text += f"; {answer['retried']} failed pull requests will be tried again"
    _tell(answer, text, as_json)


@app.command()
def priority(
    context: typer.Context,
    repository: Repository,
    value: Annotated[Priority, typer.Argument(help="high, normal or low: shares of 4, 2 and 1.")],
    as_json: Json = False,
) -> None:
    """Set the share of the budget, from the next planning on.

    Example: backfill priority pytorch/pytorch high
    """
    answer = _console(context, {"action": "priority", "repository": repository, "priority": value.value})
    _tell(answer, f"{repository} has priority {value.value}", as_json)


@app.command()
def recover(
    context: typer.Context,
    stuck_threshold: Annotated[int, typer.Option(min=1, help="Minutes after which a chunk is stuck.")] = 30,
    cleanup_days: Annotated[int, typer.Option(min=0, help="Completed chunks are deleted after these days.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Requeue stuck and lost chunks, look after dead letters, clean up.

    Example: backfill recover --stuck-threshold 60 --cleanup-days 14
    """
    event = {"stuck_threshold": stuck_threshold, "cleanup_days": cleanup_days, "dry_run": dry_run}
    answer = _invoke(context, "recovery", event)
    _tell(answer, "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in answer.items()), as_json)


@app.command()
def gaps(context: typer.Context, repository: Repository, as_json: Json = False) -> None:
    """Pull requests that GitHub has and the database lacks, with the reason.

    Example: backfill gaps pytorch/pytorch
    """
    event = {"action": "gaps", "repository": repository}
    answer = page = _console(context, event)
    while page.get("more"):
        page = _console(context, {**event, "after": page["after"]})
        answer["gaps"] += page["gaps"]
    answer.pop("after", None)
    answer["more"] = False
    lines = [f"#{row['number']}  {row['reason']}  {row['error'] or ''}".rstrip() for row in answer["gaps"]]
    _tell(answer, "\n".join(lines) or f"{repository}: no gaps", as_json)


@app.command()
def sync(
    context: typer.Context,
    repository: Repository,
    numbers: Annotated[
        list[int],
        typer.Argument(min=1, help=f"Numbers of pull requests, up to {MOST_NUMBERS}.", callback=few_numbers),
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until they are read, and say what became of each.")
    ] = False,
    timeout: Annotated[int, typer.Option(min=1, max=86_400, help="Seconds that --wait waits at the most.")] = 900,
    as_json: Json = False,
) -> None:
    """Read single pull requests again, now. With --wait, exit status 1 says that one was not read.

    Example: backfill sync pytorch/pytorch 4711 4712 --wait
    """
    answer = _console(context, {"action": "sync", "repository": repository, "pr_numbers": numbers})
    requested = answer["requested"]
    text = f"{requested} pull request{'' if requested == 1 else 's'} of {repository} will be read again"
    if answer.get("waits"):
        text += f"; not yet: {answer['waits']}"
    if answer.get("missing"):
        text += f"\nGitHub has no pull request {', '.join(f'#{number}' for number in answer['missing'])}"
    if not wait:
        _tell(answer, text, as_json)
        return
    err.print(text, markup=False)
    look = {"action": "synced", "repository": repository, "since": answer["asked_at"]}
    look["pr_numbers"] = [number for number in numbers if number not in answer.get("missing", ())]
    rows = waiting.wait_for(
        lambda: _console(context, look)["pull_requests"], timeout, lambda counts: err.print(counts, markup=False)
    )
    lines = waiting.trouble(rows)
    _tell({**answer, "pull_requests": rows}, "\n".join(lines) or f"all {len(rows)} were read", as_json)
    if answer.get("missing") or any(row["state"] in ("failed", "gone", "waiting") for row in rows):
        raise typer.Exit(1)


@app.command()
def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    every: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between refreshes.")] = 5,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show, and refuse every action.")] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """The table of the CloudWatch dashboard as a page on this machine, with its buttons. Ctrl-C ends it.

    Example: backfill dashboard --read-only --every 30
    """
    import webbrowser

    from cli.dashboard import Dashboard

    try:
        server = Dashboard(context.obj, port=port, seconds=every, read_only=read_only)
    except OSError as error:
        err.print(f"error: port {port}: {error}", highlight=False)
        raise typer.Exit(1) from None
    out.print(
        f"{server.address}\nThis address is a key: who has it on this machine can act. Ctrl-C ends it.", soft_wrap=True
    )
    if browser:
        webbrowser.open(server.address)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            out.print("ended")


@dead_letters_app.command("list")
def list_dead_letters(context: typer.Context, as_json: Json = False) -> None:
    """Show them.

    Example: backfill dead-letters list
    """
    answer = _console(context, {"action": "dead_letters"})
    lines = [
        f"{row['message_id']}  {row['reason'] or 'received too often'}  {row['body']}" for row in answer["dead_letters"]
    ]
    if answer.get("more"):
        lines.append(f"and {answer['more']} more: discard or redrive some of these first")
    if answer.get("hidden"):
        lines.append(HIDDEN.format(answer["hidden"]))
    _tell(answer, "\n".join(lines) or "No dead letters", as_json)


@dead_letters_app.command()
def redrive(context: typer.Context, as_json: Json = False) -> None:
    """Send them again as they are, each to the queue that it comes from.

    Example: backfill dead-letters redrive
    """
    answer = _console(context, {"action": "redrive"})
    lines = [f"{answer['redriven']} messages were sent again"] if answer["redriven"] or not answer.get("hidden") else []
    lines += [HIDDEN.format(answer["hidden"])] if answer.get("hidden") else []
    _tell(answer, "\n".join(lines), as_json)


@dead_letters_app.command()
def discard(
    context: typer.Context,
    message_ids: Annotated[list[str] | None, typer.Argument(help="As dead-letters list shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    as_json: Json = False,
) -> None:
    """Delete those that can never succeed, by id or all.

    Example: backfill dead-letters discard --all
    """
    if bool(message_ids) == everything:
        raise typer.BadParameter("give the ids of messages, or --all")
    event: dict[str, Any] = {"action": "discard"} | ({"message_ids": message_ids} if message_ids else {})
    answer = _console(context, event)
    lines = [f"{answer['discarded']} dead letters were discarded"]
    lines += [HIDDEN.format(answer["hidden"])] if answer.get("hidden") else []
    _tell(answer, "\n".join(lines), as_json)
    if answer.get("missing"):
        _complain(f"there is no dead letter {', '.join(answer['missing'])}; see: backfill dead-letters list")
        raise typer.Exit(1)


def _added(answer: dict[str, Any]) -> str:
    """What became of one name, for people."""
    if answer.get("waits"):
        return f"{answer['repository']} is accepted; GitHub will be asked for it again: {answer['waits']}"
    verb = "added" if answer["created"] else "is tracked already"
    return f"{answer['repository']} {verb}: {answer['total_prs']:,} pull requests"


def _status(context: typer.Context, event: dict[str, Any]) -> dict[str, Any]:
    """The whole status, whatever number of answers it takes."""
    event = event if "repository" in event else {**event, "paged": True}
    answer = page = _console(context, event)
    while page.get("more"):
        page = _console(context, {**event, "after_id": page["after_id"]})
        answer["backfills"] += page["backfills"]
    for name in ("more", "after_id"):
        answer.pop(name, None)
    answer["backfills"].sort(key=lambda row: row.get("last_processed_at") or "", reverse=True)
    answer["backfills"].sort(key=lambda row: ("active", "paused", "completed").index(row["status"]))
    return answer


def _console(context: typer.Context, event: dict[str, Any]) -> dict[str, Any]:
    return _invoke(context, "console", event)


def _invoke(context: typer.Context, function: str, event: dict[str, Any]) -> dict[str, Any]:
    stack: DeployedStack = context.obj
    try:
        answer: dict[str, Any] = plain(stack.invoke(function, event))
    except InvocationFailed as failure:
        _complain(str(failure))
        raise typer.Exit(1) from None
    return answer


def _complain(text: str) -> None:
    err.print(f"error: {plain(text)}")


def _tell(answer: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
    else:
        out.print(text, markup=False)


def _print_json(answer: dict[str, Any]) -> None:
    out.print_json(json.dumps(answer))
