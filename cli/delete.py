"""`make delete`: show what goes and what stays, ask for the stack's name, and run `sam delete`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.aws_failures import client_errors, explained
from cli.deploy import ROOT, Unusable, account, check_stack_name, configured_stack_name
from cli.stack import chosen_region

# Plain names of the types that people know. The others are counted together.
_NAMES = {
    "AWS::Lambda::Function": "functions",
    "AWS::SQS::Queue": "queues, with their messages",
    "AWS::Scheduler::Schedule": "schedules",
    "AWS::Logs::LogGroup": "log groups, with their logs",
    "AWS::CloudWatch::Alarm": "alarms",
    "AWS::CloudWatch::Dashboard": "dashboards",
    "AWS::IAM::Role": "roles",
}
NESTED_STACK = "AWS::CloudFormation::Stack"
STAYS = """\
These stay:
  the database, with every pull request and the state of every backfill
  the secrets in Secrets Manager
  your own VPC, KMS key and SNS topic
  {file} and samconfig.toml in this checkout
A later deployment continues where this stack ended. docs/teardown.md says how to remove the rest."""


def region_of(file: Path) -> str | None:
    """The region that the stack was deployed to: that of its secrets. None without the file."""
    if not file.exists():
        return None
    try:
        secret = str(tomllib.loads(file.read_text(encoding="utf-8")).get("DatabaseSecretArn", ""))
    except ValueError as error:
        raise Unusable(f"{file}: {error}") from None
    return secret.split(":")[3] if secret.count(":") >= 6 else None


def resources(stack_name: str, region: str | None) -> Counter[str]:
    """How many resources of each type the stack has. Raises Unusable if there is no such stack."""
    import boto3
    from botocore.exceptions import ClientError

    try:
        client = boto3.client("cloudformation", region_name=chosen_region(region))
        client.describe_stacks(StackName=stack_name)
        return _counted(client, stack_name)
    except (ClientError, *client_errors()) as error:
        raise Unusable(str(explained(error))) from None


def _counted(client: Any, stack_name: str) -> Counter[str]:
    """The resources of a stack and of the stacks nested in it, by type."""
    found: Counter[str] = Counter()
    for page in client.get_paginator("list_stack_resources").paginate(StackName=stack_name):
        for each in page["StackResourceSummaries"]:
            if each["ResourceType"] == NESTED_STACK and each.get("PhysicalResourceId"):
                found += _counted(client, each["PhysicalResourceId"])
            else:
                found[each["ResourceType"]] += 1
    return found


def told(found: Counter[str]) -> list[str]:
    """The resources that a deletion removes, for people."""
    lines = [f"  {name}: {found[kind]}" for kind, name in _NAMES.items() if found[kind]]
    others = sum(count for kind, count in found.items() if kind not in _NAMES)
    return [*lines, f"  other resources: {others}"] if others else lines


def main(
    file: Annotated[Path, typer.Option(help="The parameters of the deployment, for the region.")] = Path(
        "parameters.toml"
    ),
    stack_name: Annotated[
        str | None, typer.Option(envvar="STACK_NAME", help="Name of the stack; that of samconfig.toml if not given.")
    ] = None,
    confirm: Annotated[str | None, typer.Option(envvar="CONFIRM", help="The stack's name again, for scripts.")] = None,
) -> None:
    """Delete the stack from AWS. The database and the secrets stay.

    Example: make delete STACK_NAME=backfill-staging PARAMETERS=parameters.staging.toml

    Exit status: 0 deleted, 1 not deleted.
    """
    try:
        name = stack_name or configured_stack_name(ROOT / "samconfig.toml")
        check_stack_name(name)
        region = region_of(file)
        place = account(region)
        found = resources(name, region)
    except Unusable as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join([f"Stack {name} in {place}. These are deleted:", *told(found), STAYS.format(file=file)]))
    if confirm is None and sys.stdin.isatty():
        confirm = str(typer.prompt("Type the name of the stack to delete it", default="", show_default=False))
    if confirm != name:
        reason = f"{confirm!r} is not {name}" if confirm else f"give CONFIRM={name}"
        typer.echo(f"error: nothing was deleted: {reason}", err=True)
        raise typer.Exit(1)
    sam = [str(ROOT / ".venv-sam/bin/sam"), "delete", "--stack-name", name, "--no-prompts"]
    sam += ["--config-file", str(ROOT / "samconfig.toml")]
    sam += ["--region", chosen] if (chosen := chosen_region(region)) else []
    if subprocess.run(sam, cwd=ROOT, check=False).returncode:  # noqa: S603 - our own SAM
        typer.echo(
            "error: the deletion failed. CloudFormation's events name the resource; see docs/teardown.md", err=True
        )
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
