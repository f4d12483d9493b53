"""Commands. Exit status: 0 done, 1 failed, 2 wrong usage, 3 trouble (``--exit-code``)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from backfill.repository_names import NotAName
from cli import inspecting, organisations, sentences, statuses, tables, waiting
from cli import version as versions
from cli.asking import (
    EXIT_TROUBLE,
    complain,
    console_answer,
    err,
    failed,
    invoke,
    out,
    print_json,
    print_json_line,
    stack_of,
    tell,
)
from cli.names import names_of_file, unique
from cli.options import (
    MOST_NUMBERS,
    Json,
    NamedByOption,
    OptionalRepository,
    Repositories,
    Repository,
    chosen_stack,
    few_numbers,
    one_of,
    uuid_text,
)
from cli.progress import watch
from cli.sentences import count
from cli.stack import STACK_NAME, DeployedStack, InvocationFailed
from cli.terminal import plain

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
dead_letters_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, redrive or discard messages that could not be handled."
)
app.add_typer(dead_letters_app, name="dead-letters")

MOST_NAMES = 100
# The shells' exit status of a command that Ctrl-C ended.
EXIT_INTERRUPTED = 130


class Priority(StrEnum):
    """Share of the budget: high 4, normal 2, low 1."""

    high = "high"
    normal = "normal"
    low = "low"


@app.callback(invoke_without_command=True)
def connect(
    context: typer.Context,
    stack_name: Annotated[
        str | None, typer.Option(envvar="STACK_NAME", help=f"Name of the deployed stack; {STACK_NAME} if not given.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS region; the configured one if not given.")] = None,
    profile: Annotated[str | None, typer.Option(help="AWS profile; the configured one if not given.")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the versions of the command and of the stack, and end.")
    ] = False,
) -> None:
    """Every pull request of large GitHub repositories, in your own Postgres.

    Uses a deployed stack, with your AWS configuration. If a local stack runs in this checkout (make up), it uses that
    one and says so. An option, or a variable such as AWS_PROFILE, chooses another.

    Exit status: 0 done, 1 failed, 2 wrong usage, 3 trouble (status --exit-code).

    Example: backfill add pytorch/pytorch
    """
    context.obj = chosen_stack(stack_name, region, profile)
    if version:
        _print_versions(stack_of(context))
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


def _print_versions(stack: DeployedStack) -> None:
    lines, warning = versions.told(stack)
    for line in lines:
        out.print(plain(line), markup=False, soft_wrap=True)
    if warning is not None:
        err.print(f"warning: {warning}", markup=False)


@app.command()
def add(
    context: typer.Context,
    repositories: Repositories = None,
    file: Annotated[
        str | None,
        typer.Option(help="A file with one name or address per line; # begins a comment, - reads the standard input."),
    ] = None,
    priority: Annotated[
        Priority | None, typer.Option(help="Share of the budget: 4, 2 or 1; normal if not given.")
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, max=100, help="Most pull requests in a chunk; 25 if not given.")
    ] = None,
    oldest_first: Annotated[
        bool | None,
        typer.Option("--oldest-first/--newest-first", help="The order of reading; newest first if not given."),
    ] = None,
    timeline: Annotated[
        bool | None,
        typer.Option(
            "--timeline/--no-timeline",
            help="Read timelines and whether review threads are resolved; the stack's Timeline decides if not given.",
        ),
    ] = None,
    org: organisations.Org = None,
    include: organisations.Include = None,
    exclude: organisations.Exclude = None,
    forks: organisations.Forks = None,
    archived: organisations.Archived = None,
    dry_run: organisations.DryRun = False,
    as_json: Json = False,
) -> None:
    """Track repositories and begin their backfills. Adding one again changes only the options that you give.

    If GitHub cannot answer yet, the names are accepted and the planner asks again; backfill status shows them.
    Exit status 1: GitHub does not show some of them. The others are added.

    With --org, all repositories of an organisation or a user are tracked, and new ones join at the next heartbeat.

    Example: backfill add kubernetes/kubernetes https://github.com/pytorch/pytorch --priority high
    """
    names = unique([*(repositories or ()), *_names_of(file)])
    rule = organisations.rule(include, exclude, forks, archived)
    if sum([bool(names), org is not None]) != 1:
        raise typer.BadParameter("give either REPOSITORY or --file, or --org")
    if org is None and (rule or dry_run):
        raise typer.BadParameter("--include, --exclude, --forks, --archived and --dry-run belong to --org")
    wanted: dict[str, Any] = {} if priority is None else {"priority": priority.value}
    wanted |= {} if chunk_size is None else {"chunk_size": chunk_size}
    wanted |= {} if oldest_first is None else {"oldest_first": oldest_first}
    wanted |= {} if timeline is None else {"timeline": timeline}
    if org is not None:
        organisations.add(context, {"organisation": org, "rule": rule, "dry_run": dry_run, **wanted}, as_json)
        return
    stack = stack_of(context)
    answers: list[dict[str, Any]] = []
    for start in range(0, len(names), MOST_NAMES):
        some = names[start : start + MOST_NAMES]
        try:
            rows = plain(stack.invoke("console", {"action": "add", "repositories": some, **wanted}))["repositories"]
        except InvocationFailed as failure:
            rows = [{"repository": name, "error": str(failure)} for name in some]
        answers += rows
        if not as_json:
            for asked, row in zip(some, rows, strict=True):
                _tell_added(asked, row)
    failures = [answer for answer in answers if "error" in answer]
    if as_json:
        print_json({"repositories": [each for each in answers if "error" not in each], "failed": failures})
    elif len(answers) > 1:
        out.print(sentences.added(answers))
    if failures:
        raise typer.Exit(1)


def _tell_added(asked: str, row: dict[str, Any]) -> None:
    if "error" in row:
        complain(f"{row['repository']}: {row['error']}")
    else:
        out.print(sentences.added_one(asked, row), markup=False)


def _names_of(file: str | None) -> list[str]:
    """The names of a file, or a usage error with every wrong line."""
    if file is None:
        return []
    try:
        found = names_of_file(file)
    except NotAName as error:
        raise typer.BadParameter(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None
    if not found:
        raise typer.BadParameter(f"{file} names no repository")
    return found


@app.command()
def remove(
    context: typer.Context,
    repository: OptionalRepository = None,
    org: organisations.Org = None,
    delete_data: Annotated[
        bool,
        typer.Option("--delete-data/--keep-data", help="Also delete its pull requests; they are kept if not given."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop tracking a repository. Workers that still read for it store nothing.

    With --org, an organisation is not followed any more. Its repositories stay tracked, and new ones do not join.

    Example: backfill remove pytorch/pytorch --delete-data
    """
    if (repository is None) == (org is None):
        raise typer.BadParameter("give either a REPOSITORY or --org")
    if org is not None:
        if delete_data:
            raise typer.BadParameter(
                "--delete-data belongs to a REPOSITORY; the repositories of an organisation stay tracked"
            )
        organisations.remove(context, org, as_json)
        return
    event = {"action": "remove", "repository": repository, "delete_data": delete_data}
    answer = console_answer(context, event)
    while not answer["done"]:
        answer = {**console_answer(context, event), "removed": True}
    tell(answer, f"{repository} is not tracked any more; its data is {'deleted' if delete_data else 'kept'}", as_json)


@app.command()
def plan(
    context: typer.Context,
    repository: OptionalRepository = None,
    repository_id: Annotated[
        str | None, typer.Option(help="uuid of a repository, as in the table repositories.", callback=uuid_text)
    ] = None,
    named: NamedByOption = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, max=100, help="Most pull requests in a chunk, for this run.")
    ] = None,
    max_chunks: Annotated[int | None, typer.Option(min=1, help="Outstanding chunks, for this run.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write nothing; forecast the work, its cost and its time."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the planner now, for one repository or for all active backfills.

    A dry run also takes a repository that is not tracked yet.

    Example: backfill plan kubernetes/kubernetes --dry-run
    """
    repository = one_of(repository, named)
    if repository and repository_id:
        raise typer.BadParameter("give either a REPOSITORY or --repository-id")
    event: dict[str, Any] = {"dry_run": dry_run}
    event |= {"repository": repository} if repository else {}
    event |= {"repository_id": repository_id} if repository_id else {}
    event |= {"chunk_size": chunk_size} if chunk_size is not None else {}
    event |= {"max_chunks": max_chunks} if max_chunks is not None else {}
    answer = invoke(context, "planner", event)
    if as_json:
        print_json(answer)
    elif dry_run and answer["backfills"]:
        tables.forecast(out, answer)
    else:
        out.print(sentences.planned(answer, repository), markup=False)
    if any(row.get("error") for row in answer["backfills"]):
        raise typer.Exit(1)


@app.command()
def status(
    context: typer.Context,
    repositories: Repositories = None,
    named: NamedByOption = None,
    org: organisations.Org = None,
    follow: Annotated[bool, typer.Option("--watch", help="Show progress until nothing is active.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also list every completed backfill.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 3 if something is in trouble.")] = False,
    as_json: Json = False,
) -> None:
    """Show the progress of every backfill, or of the named ones.

    With --exit-code: 0 healthy, 3 trouble. Trouble is a backfill that needs a person, a failed pull request, a name
    that GitHub does not know and, if you name no repositories, a dead letter.

    With --org, the repositories of an organisation are summed up.

    Example: backfill status --watch
    """
    if follow and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")
    names = unique([*(repositories or ()), *([named] if named else ())])
    if org is not None:
        if names or follow:
            raise typer.BadParameter("--org excludes REPOSITORY and --watch")
        organisations.status(context, org, exit_code=exit_code, as_json=as_json)
        return

    def fetch() -> dict[str, Any]:
        return statuses.whole(lambda event: plain(stack_of(context).invoke("console", event)), names)

    try:
        answer = watch(fetch, out) if follow else fetch()
    except InvocationFailed as failure:
        raise failed(str(failure)) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print_json(answer)
    elif not follow:
        tables.status(out, answer, everything=everything or bool(names))
    for name in answer.get("unknown", ()):
        complain(f"{name} is not tracked; run: backfill add {name}")
    if answer.get("unknown"):
        raise typer.Exit(1)
    if exit_code and not statuses.is_healthy(answer, everything=not names):
        raise typer.Exit(EXIT_TROUBLE)


@app.command()
def pause(context: typer.Context, repository: Repository, as_json: Json = False) -> None:
    """Send no more chunks of a repository until you resume it. Chunks in flight finish.

    It also replaces a pause that the product made, which would end by itself.

    Example: backfill pause pytorch/pytorch
    """
    answer = console_answer(context, {"action": "pause", "repository": repository})
    tell(answer, f"{repository} {'is paused' if answer['paused'] else 'was paused already'}", as_json)


@app.command()
def resume(
    context: typer.Context,
    repository: Repository,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also retry failed and incomplete pull requests.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Resume a paused backfill.

    Example: backfill resume pytorch/pytorch --retry-failed
    """
    answer = console_answer(context, {"action": "resume", "repository": repository, "retry_failed": retry_failed})
    tell(answer, sentences.resumed(repository, answer, retry_failed=retry_failed), as_json)


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
    answer = console_answer(context, {"action": "priority", "repository": repository, "priority": value.value})
    tell(answer, f"{repository} has priority {value.value}", as_json)


@app.command()
def recover(
    context: typer.Context,
    stuck_threshold: Annotated[
        int, typer.Option(min=1, help="Requeue expired claims that began more minutes ago.")
    ] = 30,
    cleanup_days: Annotated[int, typer.Option(min=0, help="Delete chunks that completed more days ago.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; show the work.")] = False,
    as_json: Json = False,
) -> None:
    """Requeue expired claims and lost messages, settle dead letters, delete old chunks.

    Example: backfill recover --stuck-threshold 60 --cleanup-days 14
    """
    event = {"stuck_threshold": stuck_threshold, "cleanup_days": cleanup_days, "dry_run": dry_run}
    answer = invoke(context, "recovery", event)
    tell(answer, sentences.recovered(answer), as_json)


@app.command()
def gaps(
    context: typer.Context,
    repository: Repository,
    everything: Annotated[bool, typer.Option("--all", help="Also list pull requests that are not read yet.")] = False,
    as_json: Json = False,
) -> None:
    """List failed and incomplete pull requests, with the reason of each.

    With --all, also those that are not read yet.

    Example: backfill gaps pytorch/pytorch
    """
    event: dict[str, Any] = {"action": "gaps", "repository": repository, "unread": everything}
    answer = page = console_answer(context, event)
    while page.get("more"):
        page = console_answer(context, {**event, "after": page["after"]})
        answer["gaps"] += page["gaps"]
    answer.pop("after", None)
    answer["more"] = False
    tell(answer, sentences.gaps(repository, answer, everything=everything), as_json)


@app.command()
def sync(
    context: typer.Context,
    repository: Repository,
    numbers: Annotated[
        list[int],
        typer.Argument(min=1, help=f"Numbers of pull requests, up to {MOST_NUMBERS}.", callback=few_numbers),
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until they are read, and print the result of each.")
    ] = False,
    timeout: Annotated[int, typer.Option(min=1, max=86_400, help="Longest wait of --wait, in seconds.")] = 900,
    as_json: Json = False,
) -> None:
    """Read single pull requests again, now. With --wait, exit status 1 means that one was not read.

    Example: backfill sync pytorch/pytorch 4711 4712 --wait
    """
    answer = console_answer(context, {"action": "sync", "repository": repository, "pr_numbers": numbers})
    text = f"{count(answer['requested'], 'pull request')} of {repository} will be read again"
    if answer.get("waits"):
        text += f"; not yet: {answer['waits']}"
    if answer.get("missing"):
        text += f"\nGitHub has no pull request {', '.join(f'#{number}' for number in answer['missing'])}"
    if not wait:
        tell(answer, text, as_json)
        return
    err.print(text, markup=False)
    look = {"action": "synced", "repository": repository, "since": answer["asked_at"]}
    look["pr_numbers"] = [number for number in numbers if number not in answer.get("missing", ())]
    rows = waiting.wait_for(
        lambda: console_answer(context, look)["pull_requests"], timeout, lambda counts: err.print(counts, markup=False)
    )
    lines = waiting.trouble(rows)
    read = "it was read" if len(rows) == 1 else f"all {len(rows)} were read"
    tell({**answer, "pull_requests": rows}, "\n".join(lines) or read, as_json)
    if answer.get("missing") or any(row["state"] in ("failed", "gone", "waiting") for row in rows):
        raise typer.Exit(1)


@app.command()
def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    every: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between refreshes.")] = 5,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show the page without its buttons, and refuse every action.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    as_json: Json = False,
) -> None:
    """Serve the table of the CloudWatch dashboard, with its buttons, as a page on this machine. Ctrl-C ends it.

    Example: backfill dashboard --read-only --every 30
    """
    import webbrowser

    from cli.dashboard import Dashboard

    try:
        server = Dashboard(stack_of(context), port=port, seconds=every, read_only=read_only)
    except OSError as error:
        raise failed(f"port {port}: {error}") from None
    if as_json:
        print_json_line({"url": server.address})
    else:
        out.print(
            f"{server.address}\nThis address is a key: everybody who has it on this machine can act. Ctrl-C ends it.",
            soft_wrap=True,
        )
    if browser:
        webbrowser.open(server.address)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            if not as_json:
                out.print("ended")


@dead_letters_app.command("list")
def list_dead_letters(context: typer.Context, as_json: Json = False) -> None:
    """List dead letters: id, reason and message.

    Example: backfill dead-letters list
    """
    answer = console_answer(context, {"action": "dead_letters"})
    tell(answer, sentences.dead_letters(answer), as_json)


@dead_letters_app.command()
def redrive(context: typer.Context, as_json: Json = False) -> None:
    """Send dead letters again, unchanged, each to its own queue.

    Example: backfill dead-letters redrive
    """
    answer = console_answer(context, {"action": "redrive"})
    tell(answer, sentences.redriven(answer), as_json)


@dead_letters_app.command()
def discard(
    context: typer.Context,
    message_ids: Annotated[list[str] | None, typer.Argument(help="Ids that dead-letters list shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    as_json: Json = False,
) -> None:
    """Delete dead letters that can never succeed, by id or all.

    Example: backfill dead-letters discard --all
    """
    if bool(message_ids) == everything:
        raise typer.BadParameter("give the ids of messages, or --all")
    event: dict[str, Any] = {"action": "discard"} | ({"message_ids": message_ids} if message_ids else {})
    answer = console_answer(context, event)
    tell(answer, sentences.discarded(answer), as_json)
    if answer.get("missing"):
        raise failed(f"there is no dead letter {', '.join(answer['missing'])}; see: backfill dead-letters list")


inspecting.register(app)
