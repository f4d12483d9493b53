"""`backfill doctor`: from the credentials to GitHub's token, each line passed, warned or failed, with what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from backfill import __version__
from backfill.checks import Check, Result
from cli.asking import out, print_json, stack_of
from cli.aws_failures import DENIED, client_errors, code_of, explained
from cli.options import Json
from cli.sentences import count
from cli.stack import DeployedStack, InvocationFailed
from cli.terminal import plain

MIGRATIONS = Path(__file__).parents[1] / "migrations" / "versions"
# Permissions of the person who runs the checks. The template's own roles need none of them.
PERMISSIONS = (
    "sts:GetCallerIdentity cloudformation:DescribeStacks cloudformation:DescribeStackResources lambda:GetFunctionConfiguration"
    " lambda:GetEventSourceMapping scheduler:GetSchedule sqs:GetQueueAttributes"
)
MARKS = {Result.PASSED: "passed", Result.WARNED: "WARNED", Result.FAILED: "FAILED"}
# Time for the console function to ask Postgres and GitHub.
CONSOLE_SECONDS = 60.0

Look = Callable[[], Check]


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check credentials, stack, functions, queues, schedules, database and GitHub token.

    Each line is passed, warned or failed, and says what to do. The command needs more permissions than the others; a
    check without permission is warned. Exit status 1: a check failed.

    Example: backfill doctor
    """
    checks = []
    for check in run_checks(stack_of(context)):
        checks.append(check)
        if not as_json:
            out.print(told(check), markup=False)
    bad = [each for each in checks if each.result is Result.FAILED]
    if as_json:
        rows = [each.as_json() for each in checks]
        print_json({"ok": not bad, "version": __version__, "checks": rows})
    else:
        out.print(_summary(checks))
    if bad:
        raise typer.Exit(1)


def told(check: Check) -> str:
    """One line, and what to do in a second one."""
    text = f"{MARKS[check.result]}  {check.name}: {plain(check.found)}"
    return f"{text}\n        {plain(check.advice)}" if check.advice else text


def _summary(checks: list[Check]) -> str:
    results = [each.result for each in checks]
    parts = [f"{results.count(each)} {each.value}" for each in Result if each in results]
    return f"{count(len(checks), 'check')}: {', '.join(parts)}"


def run_checks(stack: DeployedStack) -> Iterator[Check]:
    """Yield each check as soon as it is known. Without credentials there is only the first."""
    first = _credentials(stack)
    yield first
    if first.result is Result.FAILED:
        return
    yield from _stack(stack)
    yield from _from_within(stack)


def _credentials(stack: DeployedStack) -> Check:
    from botocore.exceptions import ClientError

    where = f"the local stack in {stack.local.folder}" if stack.local else stack.place
    try:
        found = stack.client("sts").get_caller_identity()
    except (*client_errors(), ClientError) as error:
        return Check.failed("credentials", *explained(error))
    return Check.passed("credentials", f"{found['Arn']}, {where}")


def _stack(stack: DeployedStack) -> Iterator[Check]:
    from botocore.exceptions import ClientError

    client = stack.client("cloudformation")
    try:
        (found,) = client.describe_stacks(StackName=stack.name)["Stacks"]
        resources = client.describe_stack_resources(StackName=stack.name)["StackResources"]
    except ClientError as error:
        if code_of(error) in DENIED:
            yield _not_allowed("stack", error)
        else:
            yield Check.failed("stack", str(error), "run make deploy, or choose another: --stack-name, --region")
        return
    except client_errors() as error:
        yield Check.failed("stack", *explained(error))
        return
    yield _state_of_stack(stack.name, found["StackStatus"])
    for kind, look in _LOOKS.items():
        for each in resources:
            if each["ResourceType"] == kind:
                yield _looked(stack, each, look)


def _state_of_stack(name: str, status: str) -> Check:
    if "FAILED" in status or status == "ROLLBACK_COMPLETE":
        return Check.failed(
            "stack", f"{name} is {status}", "read its events in CloudFormation, then run make deploy again"
        )
    if status.endswith("IN_PROGRESS"):
        return Check.warned("stack", f"{name} is {status}", "wait for the deployment to end")
    if "ROLLBACK" in status:
        return Check.warned(
            "stack", f"{name} is {status}", "the last deployment was rolled back: read its events, deploy again"
        )
    return Check.passed("stack", f"{name} is {status}")


def _looked(stack: DeployedStack, resource: dict[str, Any], look: Callable[[DeployedStack, str, str], Check]) -> Check:
    from botocore.exceptions import ClientError

    name = resource["LogicalResourceId"]
    try:
        return look(stack, name, resource["PhysicalResourceId"])
    except ClientError as error:
        if code_of(error) in DENIED:
            return _not_allowed(name, error)
        return Check.failed(name, str(error), "somebody changed or deleted this part of the stack: run make deploy")
    except client_errors() as error:
        return Check.failed(name, *explained(error))


def _not_allowed(name: str, error: Exception) -> Check:
    return Check.warned(name, f"not checked: {error}", f"doctor uses: {PERMISSIONS}")


def _function(stack: DeployedStack, name: str, physical: str) -> Check:
    found = stack.client("lambda").get_function_configuration(FunctionName=physical)
    state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
    if state not in ("Active", "Inactive") or update == "Failed":
        why = found.get("StateReason") or found.get("LastUpdateStatusReason") or ""
        return Check.failed(name, f"{physical} is {state}, {update} {why}".rstrip(), "run make deploy again")
    return Check.passed(name, f"{physical} is {state}")


def _mapping(stack: DeployedStack, name: str, physical: str) -> Check:
    found = stack.client("lambda").get_event_source_mapping(UUID=physical)
    queue = found.get("EventSourceArn", "").rsplit(":", 1)[-1]
    if found["State"] != "Enabled":
        return Check.failed(
            name,
            f"from {queue} is {found['State']}",
            f"aws lambda update-event-source-mapping --enabled --uuid {physical}",
        )
    return Check.passed(name, f"from {queue} is Enabled")


def _schedule(stack: DeployedStack, name: str, physical: str) -> Check:
    # CloudFormation's id is the name, or group and name.
    group, _, short = physical.rpartition("|")
    found = stack.client("scheduler").get_schedule(Name=short, **({"GroupName": group} if group else {}))
    if found["State"] != "ENABLED":
        return Check.failed(
            name, f"{found['ScheduleExpression']} is {found['State']}", "enable it in EventBridge Scheduler"
        )
    return Check.passed(name, f"{found['ScheduleExpression']} is ENABLED")


def _queue(stack: DeployedStack, name: str, physical: str) -> Check:
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    found = stack.client("sqs").get_queue_attributes(QueueUrl=physical, AttributeNames=names)["Attributes"]
    waiting, worked_on, delayed = (int(found.get(each, 0)) for each in names)
    return Check.passed(name, f"{count(waiting, 'message')} waiting, {worked_on:,} in work, {delayed:,} delayed")


_LOOKS: dict[str, Callable[[DeployedStack, str, str], Check]] = {
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::EventSourceMapping": _mapping,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::SQS::Queue": _queue,
}


def _from_within(stack: DeployedStack) -> Iterator[Check]:
    """Checks of the console function, which reaches Postgres and knows the token."""
    try:
        answer = stack.invoke("console", {"action": "doctor"}, CONSOLE_SECONDS)
    except InvocationFailed as failure:
        advice = f"read the log: backfill logs, or /aws/lambda/{stack.name}-console"
        yield Check.failed("console", str(failure), advice)
        return
    yield version(answer["version"], __version__)
    if answer["schema"]:
        yield schema(answer["schema"], newest_migration())
    for each in answer["checks"]:
        yield Check.from_json(each)


def version(deployed: str, own: str) -> Check:
    """The stack's version beside this command's."""
    if deployed == own:
        return Check.passed("version", f"{own}, of this command and of the stack")
    return Check.warned(
        "version", f"the stack has {deployed}, this command {own}", "run make deploy, or use the other checkout"
    )


def schema(deployed: str, own: str) -> Check:
    """The newest migration of the database, beside this checkout's; both are four digits."""
    if not own or deployed == own:
        return Check.passed("schema", f"migration {deployed} is the newest")
    if deployed < own:
        return Check.warned("schema", f"migration {deployed}; this checkout has {own}", "run make deploy: it migrates")
    return Check.warned("schema", f"migration {deployed}; this checkout has only {own}", "update this checkout")


def newest_migration() -> str:
    """The number of this checkout's newest migration; empty without a checkout."""
    numbers = [path.name[:4] for path in MIGRATIONS.glob("*.sql") if re.match(r"\d{4}_", path.name)]
    return max(numbers, default="")
