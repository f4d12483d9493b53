"""`make deploy`: ask for what a deployment cannot do without, keep the answers in parameters.toml, build, and `sam deploy`.

`sam deploy --guided` asks for every parameter of the template, and shows no description.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from cfnlint.decode import decode_str

ROOT = Path(__file__).parents[1]
# STACK-chunk-worker is a function, whose name has 64 characters at most.
LONGEST_STACK_NAME = 51
HEAD = """\
# The parameters of your deployment: edit, and `make deploy` again. Every line that begins with # shows a parameter's default.
# On a stack that exists, a parameter without a line keeps the value of the last deployment: to go back, write the default.
"""


class Unusable(Exception):
    """What is wrong with the parameters, and what to do."""


def template_parameters(template: Path) -> dict[str, dict[str, Any]]:
    """The template's parameters, in their order."""
    decoded, _ = decode_str(template.read_text(encoding="utf-8"))
    return dict((decoded or {})["Parameters"])


def problem(name: str, parameter: Mapping[str, Any], value: str) -> str | None:
    """Why CloudFormation would refuse the value, or None."""
    if not re.fullmatch(parameter.get("AllowedPattern", ".*"), value):
        return f"{name} {parameter['ConstraintDescription']}; it is {value!r}"
    if value not in (allowed := [str(each) for each in parameter.get("AllowedValues", [value])]):
        return f"{name} must be one of {', '.join(allowed)}; it is {value!r}"
    if "MaxValue" in parameter:
        least, most = parameter["MinValue"], parameter["MaxValue"]
        if not value.isdecimal() or not least <= int(value) <= most:
            return f"{name} must be a number from {least} to {most}; it is {value!r}"
    return None


def read(file: Path, parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The file's parameters. Raises Unusable for what the template does not take."""
    try:
        given = {name: str(value) for name, value in tomllib.loads(file.read_text(encoding="utf-8")).items()}
    except ValueError as error:
        raise Unusable(f"{file}: {error}") from None
    unknown = sorted(given.keys() - parameters.keys())
    if unknown:
        raise Unusable(f"{file}: the template has no parameter {', '.join(unknown)}; it has {', '.join(parameters)}")
    missing = [name for name, each in parameters.items() if "Default" not in each and name not in given]
    if missing:
        raise Unusable(f"{file}: {', '.join(missing)} is missing; remove the file to be asked for what is needed")
    problems = [told for name, value in given.items() if (told := problem(name, parameters[name], value))]
    if problems:
        raise Unusable(f"{file}: " + "\n".join(problems))
    if bool(given.get("SubnetIds")) != bool(given.get("SecurityGroupIds")):
        raise Unusable(f"{file}: give SubnetIds and SecurityGroupIds together, or neither")
    return given


def written(parameters: Mapping[str, Mapping[str, Any]], answers: Mapping[str, str]) -> str:
    """The file's text: what was answered, and the rest as comments, each with its description."""
    lines = [HEAD]
    for name, parameter in parameters.items():
        value, mark = (answers[name], "") if name in answers else (str(parameter["Default"]), "# ")
        # A string of JSON is one of TOML.
        lines += [f"# {parameter['Description']}", f"{mark}{name} = {json.dumps(value)}", ""]
    return "\n".join(lines)


def ask(
    parameters: Mapping[str, Mapping[str, Any]], prompt: Callable[[str, str], str], secret_arn: Callable[[str], str]
) -> dict[str, str]:
    """The answers of a person. ``prompt`` gets a question and the answer of a mere Enter; ``secret_arn`` a secret's name."""

    def answer(question: str, default: str, name: str, find: Callable[[str], str] = str) -> str:
        while True:
            given = prompt(question, default).strip()
            try:
                told = problem(name, parameters[name], found := find(given) if given else "")
            except Unusable as error:
                told = str(error)
            if told is None:
                return found
            typer.echo(f"  {told}", err=True)

    typer.echo(
        "Names of secrets, or their ARNs; docs/deploying.md says how to make them. Enter takes what is in brackets."
    )
    answers = {
        "DatabaseSecretArn": answer(
            "Secret of the functions' database role", "backfill/worker", "DatabaseSecretArn", secret_arn
        ),
        "MigratorDatabaseSecretArn": answer(
            "Secret of the role that owns the tables (- if it is the same)",
            "backfill/owner",
            "MigratorDatabaseSecretArn",
            lambda given: "" if given == "-" else secret_arn(given),
        ),
        "GitHubSecretArn": answer(
            "Secret with the GitHub token or app", "backfill/github", "GitHubSecretArn", secret_arn
        ),
        "SubnetIds": answer("Subnets of your VPC, with commas between (Enter: no VPC)", "", "SubnetIds"),
    }
    while answers["SubnetIds"] and not answers.get("SecurityGroupIds"):
        answers["SecurityGroupIds"] = answer("Security groups of the functions", "", "SecurityGroupIds")
    return {name: value for name, value in answers.items() if value}


def _prompt(question: str, default: str) -> str:
    return str(typer.prompt(question, default=default, show_default=bool(default)))


def arn_of(secret: str) -> str:
    """The ARN of a secret that exists, by its name or ARN. Raises Unusable."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return str(boto3.client("secretsmanager").describe_secret(SecretId=secret)["ARN"])
    except ClientError as error:
        raise Unusable(f"{secret}: {error.response['Error'].get('Message') or error}") from None
    except BotoCoreError as error:
        raise Unusable(f"{error}. Check the AWS configuration: aws sts get-caller-identity") from None


def command(file: Path, parameters: Mapping[str, str], stack_name: str | None, template: Path | None) -> list[str]:
    """`sam deploy`, into the region of the secrets, where the functions read them.

    A stack that cannot be made at the first try is removed: CloudFormation would refuse to deploy over what is left of it.
    """
    region = parameters["DatabaseSecretArn"].split(":")[3]
    sam = [str(ROOT / ".venv-sam/bin/sam"), "deploy", "--config-file", str(ROOT / "samconfig.toml"), "--region", region]
    sam += ["--on-failure", "DELETE", "--parameter-overrides", f"file://{file.resolve()}"]
    sam += ["--stack-name", stack_name] if stack_name else []
    return [*sam, "--template-file", str(template)] if template else sam


def main(
    file: Annotated[Path, typer.Option(help="Where the parameters are, or will be.")] = Path("parameters.toml"),
    stack_name: Annotated[
        str | None, typer.Option(envvar="STACK_NAME", help="Name of the stack; that of samconfig.toml if not given.")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="A built template; without it, make build runs first.")] = None,
) -> None:
    """Deploy to AWS: asks for what is needed at first, and for nothing when parameters.toml is there.

    Example: make deploy PARAMETERS=parameters.staging.toml STACK_NAME=backfill-staging

    Exit status: 0 done, 1 failed.
    """
    parameters = template_parameters(ROOT / "template.yaml")
    try:
        if not file.exists():
            if not sys.stdin.isatty():
                raise Unusable(
                    f"{file} is not there, and nobody is here to be asked; docs/deploying.md shows what it holds"
                )
            answers = ask(parameters, _prompt, arn_of)
            file.write_text(written(parameters, answers), encoding="utf-8")
            typer.echo(f"Kept in {file}, beside every other parameter and its default.")
        given = read(file, parameters)
    except Unusable as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    steps = [] if template else [["make", "build", f"ARCHITECTURE={given.get('Architecture', 'arm64')}"]]
    for step in [*steps, command(file, given, stack_name, template)]:
        done = subprocess.run(step, cwd=ROOT, check=False)  # noqa: S603 - our own make and SAM
        if done.returncode:
            raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
