"""`backfill logs`: the functions' lines of JSON from CloudWatch Logs, as text for people."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.asking import failed, out, print_json_line, stack_of
from cli.aws_failures import DENIED, client_errors, code_of, explained
from cli.options import Json, OptionalRepository
from cli.stack import DeployedStack
from cli.terminal import plain

Row = dict[str, Any]

FUNCTIONS = ("planner", "chunk-worker", "recovery", "console")
# Seconds between two requests, and the longest delay of a line.
EVERY_SECONDS, LATE_SECONDS = 3.0, 30.0
# What a line says beside its fields.
_KNOWN = ("level", "location", "message", "timestamp", "service", "repository", "xray_trace_id", "cold_start")
_OF_THE_RUNTIME = ("function_name", "function_memory_size", "function_arn", "function_request_id")
_SINCE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Function(StrEnum):
    """Whose log."""

    planner = "planner"
    chunk_worker = "chunk-worker"
    recovery = "recovery"
    console = "console"


def seconds_of(text: str) -> int:
    """``10m`` in seconds, or a usage error.

    >>> seconds_of("10m"), seconds_of("2d")
    (600, 172800)
    """
    found = _SINCE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 30s, 10m, 2h or 1d")
    return int(found[1]) * _UNITS[found[2]]


def logs(
    context: typer.Context,
    repository: OptionalRepository = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new lines until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option(help="How far back: 30s, 10m, 2h, 1d.", metavar="TIME")] = "10m",
    function: Annotated[Function | None, typer.Option(help="Only of this function.")] = None,
    as_json: Json = False,
) -> None:
    """Show the functions' logs, of one repository or of all. Needs logs:FilterLogEvents beside lambda:InvokeFunction.

    With --json, one object per line, as the function wrote it.

    Example: backfill logs pytorch/pytorch --since 1h
    """
    from botocore.exceptions import ClientError

    began = time.time() - seconds_of(since)
    functions = (function.value,) if function else FUNCTIONS
    stack = stack_of(context)
    seen = 0
    try:
        source = Source(stack, functions, repository)
        for row in source.lines(began, follow=follow):
            seen += 1
            if as_json:
                print_json_line(row)
            else:
                out.print(line(row), markup=False)
    except (*client_errors(), ClientError) as error:
        needs = "; backfill logs needs logs:FilterLogEvents on /aws/lambda/STACK-*" if code_of(error) in DENIED else ""
        raise failed(f"{explained(error)}{needs}") from None
    except KeyboardInterrupt:
        raise typer.Exit(130 if not follow else 0) from None
    if not seen and not as_json:
        out.print(f"Nothing was logged{f' of {repository}' if repository else ''} in the last {since}")


def line(row: Row) -> str:
    """Time, function, message and fields of a line of JSON; anything else as it is.

    >>> line({"at": 0.0, "function": "planner", "text": "", "fields": {"level": "INFO", "message": "planned", "pages": 2}})
    '00:00:00  planner  planned  pages=2'
    """
    at = f"{datetime.fromtimestamp(row['at'], UTC):%H:%M:%S}"
    fields = row["fields"]
    if not fields:
        return f"{at}  {row['function']}  {plain(row['text'])}"
    parts = [at, row["function"], *([fields["level"]] if fields.get("level") not in (None, "INFO") else [])]
    parts += [fields["repository"]] if fields.get("repository") else []
    parts += [str(fields.get("message", ""))]
    shown = {name: value for name, value in fields.items() if name not in (*_KNOWN, *_OF_THE_RUNTIME)}
    parts += [" ".join(f"{name}={_short(value)}" for name, value in shown.items())]
    return str(plain("  ".join(part for part in parts if part)))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Source:
    """The log groups of some functions of a stack; of one repository, or of all."""

    def __init__(self, stack: DeployedStack, functions: Sequence[str], repository: str | None) -> None:
        self._name, self._functions = stack.name, functions
        self._repository = repository.lower() if repository else None
        self._client = stack.client("logs")

    def lines(self, began: float, *, follow: bool) -> Iterator[Row]:
        """In the order of their times; with ``follow`` without end. Raises botocore's errors."""
        seen: dict[str, float] = {}
        while True:
            now = time.time()
            fresh = [row for row in self._look(began) if row["id"] not in seen]
            seen |= {row["id"]: row["at"] for row in fresh}
            yield from sorted(fresh, key=lambda row: float(row["at"]))
            if not follow:
                return
            # Lines may arrive late: the next request covers the last seconds again.
            began = max(began, now - LATE_SECONDS)
            seen = {name: at for name, at in seen.items() if at >= began}
            time.sleep(EVERY_SECONDS)

    def _look(self, began: float) -> Iterator[Row]:
        for function in self._functions:
            asked: Row = {"logGroupName": f"/aws/lambda/{self._name}-{function}", "startTime": int(began * 1000)}
            while True:
                try:
                    page = self._client.filter_log_events(**asked)
                except self._client.exceptions.ResourceNotFoundException:  # it has never run
                    break
                for each in page["events"]:
                    row = self._row(function, each)
                    if row is not None:
                        yield row
                if not page.get("nextToken"):
                    break
                asked["nextToken"] = page["nextToken"]

    def _row(self, function: str, event: Row) -> Row | None:
        """The line, or None for metrics, the runtime's START, END and REPORT, and other repositories."""
        text = event["message"].strip()
        fields = _object(text)
        if "_aws" in fields or re.match(r"(START|END|REPORT|INIT_START|EXTENSION)\b", text) or not text:
            return None
        if self._repository and str(fields.get("repository", "")).lower() != self._repository:
            return None
        return {
            "id": event.get("eventId") or f"{function} {event['timestamp']} {text}",
            "at": event["timestamp"] / 1000,
            "function": function,
            "text": text,
            "fields": fields,
        }


def _object(text: str) -> Row:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
