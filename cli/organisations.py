"""Organisations in the commands: which options belong to --org, what is asked, and what is told."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from backfill.repository_names import NotAName
from backfill.repository_names import owner_name as parsed_name
from cli.asking import EXIT_TROUBLE, console_answer, out, print_json, tell
from cli.sentences import count, moment

Row = dict[str, Any]


def owner_name(text: str | None) -> str | None:
    """The name of an organisation or a user, or a usage error."""
    try:
        return None if text is None else parsed_name(text)
    except NotAName as error:
        raise typer.BadParameter(str(error)) from None


Org = Annotated[
    str | None,
    typer.Option(
        "--org", metavar="NAME", callback=owner_name, help="An organisation or a user, or its address on GitHub."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB", help="With --org: repositories whose names match join; * if not given. Repeat it for more."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="With --org: repositories whose names match do not join. Repeat it for more."),
]
Forks = Annotated[
    bool | None, typer.Option("--forks/--no-forks", help="With --org: whether forks join; they do if not given.")
]
Archived = Annotated[
    bool | None,
    typer.Option("--archived/--no-archived", help="With --org: whether archived ones join; they do if not given."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --org: write nothing; say what would join and what it costs.")
]


def rule(include: list[str] | None, exclude: list[str] | None, forks: bool | None, archived: bool | None) -> Row:
    """What is named of the rule."""
    named = {"include": include, "exclude": exclude, "forks": forks, "archived": archived}
    return {name: value for name, value in named.items() if value is not None}


def add(context: typer.Context, event: Row, as_json: bool) -> None:
    """Follow an organisation, or look at what that would do."""
    answer = console_answer(context, {"action": "add", **event})
    tell(answer, previewed(answer) if event.get("dry_run") else added(answer), as_json)


def remove(context: typer.Context, org: str, as_json: bool) -> None:
    """Follow it no more."""
    answer = console_answer(context, {"action": "remove", "organisation": org})
    tell(answer, f"{org} is not followed any more; its repositories stay tracked", as_json)


def status(context: typer.Context, org: str, *, exit_code: bool, as_json: bool) -> None:
    """An organisation summed up. Raises Exit 3 for trouble, where that is asked for."""
    answer = console_answer(context, {"action": "status", "organisation": org})
    if as_json:
        print_json(answer)
    else:
        out.print("\n".join(summary(answer)), markup=False)
    if exit_code and (answer["is_refused"] or answer["in_trouble"]):
        raise typer.Exit(EXIT_TROUBLE)


def added(answer: Row) -> str:
    """What an add did."""
    first = f"{answer['organisation']} is {'followed' if answer['created'] else 'followed already'}"
    if answer.get("waits"):
        first += f"; GitHub will be asked again for the rest: {answer['waits']}"
    elif not answer["is_listed"]:
        first += "; the planner lists the rest"
    joined = f"{count(answer['joined'], 'repository', 'repositories')} joined"
    return "\n".join([first, joined, *summary(answer)])


def previewed(answer: Row) -> str:
    """What an add would do."""
    fates = answer["fates"]
    total, looked_at = answer["total_repositories"], answer["looked_at"]
    lines = [f"Dry run, nothing was changed: {answer['organisation']} has {count(total, 'repository', 'repositories')}"]
    if answer["hidden_repositories"] is None:
        lines.append(f"looked at the first {looked_at:,} of them")
    joins = f"{count(fates['joins'], 'repository', 'repositories')} would join"
    details = f"{count(answer['pull_requests'], 'pull request')}, about {count(answer['points'], 'point')}"
    lines.append(f"{joins}: {details}")
    lines += _left_out(fates["fork"], fates["archived"], fates["name"])
    lines += [f"tracked already: {fates['tracked']:,}"] if fates["tracked"] else []
    lines += [f"removed by an operator, and stay away: {fates['removed']:,}"] if fates["removed"] else []
    return "\n".join([*lines, *_hidden(answer)])


def summary(answer: Row) -> list[str]:
    """Line by line: what GitHub has, what is tracked and how far it is, and what is not as it was."""
    if answer["total_repositories"] is None:
        return [f"{answer['organisation']}: GitHub has not answered yet", *_reason(answer)]
    listed = f", listed at {moment(answer['listed_at'])}" if answer["listed_at"] else ""
    has = count(answer["total_repositories"], "repository", "repositories")
    by_status = ", ".join(f"{answer[name]:,} {name}" for name in ("active", "paused", "completed"))
    done = f"{answer['processed_prs']:,} of {count(answer['total_prs'], 'pull request')}"
    return [
        f"{answer['organisation']} has {has} on GitHub{listed}",
        f"tracked: {answer['tracked']:,} ({by_status}); {done}; {count(answer['points_spent'], 'point')} spent",
        *_left_out(answer["forks_left_out"], answer["archived_left_out"], answer["names_left_out"]),
        *([f"removed by an operator, and stay away: {answer['removed']:,}"] if answer["removed"] else []),
        *_hidden(answer),
        *_named("paused", answer["paused"], answer["paused_names"]),
        *_named("archived on GitHub", answer["archived"], answer["archived_names"]),
        *_named("deleted, transferred or hidden on GitHub", answer["gone"], answer["gone_names"]),
        *_reason(answer),
    ]


def short(row: Row) -> str:
    """One organisation in the status of everything."""
    if row["reason"]:
        return f"{row['organisation']} is followed; not listed: {row['reason']}"
    listed = f"listed at {moment(row['listed_at'])}" if row["listed_at"] else "not listed yet"
    return f"{row['organisation']} is followed, {listed}: backfill status --org {row['organisation']}"


def _left_out(forks: int, archived: int, names: int) -> list[str]:
    parts = [
        text
        for number, text in (
            (forks, count(forks, "fork")),
            (archived, f"{archived:,} archived"),
            (names, f"{names:,} by name"),
        )
        if number
    ]
    return [f"left out by the rule: {', '.join(parts)}"] if parts else []


def _hidden(answer: Row) -> list[str]:
    hidden = answer["hidden_repositories"]
    return [f"counted by GitHub and not shown to this token: {hidden:,}"] if hidden else []


def _named(what: str, number: int, names: list[str]) -> list[str]:
    if not number:
        return []
    more = f" and {number - len(names):,} more" if number > len(names) else ""
    return [f"{what}: {', '.join(names)}{more}"]


def _reason(answer: Row) -> list[str]:
    return [f"the last listing did not end: {answer['reason']}"] if answer["reason"] else []
