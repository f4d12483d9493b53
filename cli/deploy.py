"""`make deploy`: ask for the required parameters, keep them in parameters.toml, build, and run `sam deploy`.

docs/adr/0013-make-deploy-asks-four-questions.md says why.
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
from samtranslator.yaml_helper import yaml_parse

from cli.aws_failures import BAD_CREDENTIALS, DENIED, client_errors, code_of, explained
from cli.stack import chosen_region

ROOT = Path(__file__).parents[1]
# STACK-chunk-worker is a function, whose name has 64 characters at most.
LONGEST_STACK_NAME = 51
SECRETS = ("DatabaseSecretArn", "MigratorDatabaseSecretArn", "GitHubSecretArn")
HEAD = """\
# The parameters of your deployment: edit, and `make deploy` again. Every line that begins with # shows a parameter's default.
# On a stack that exists, a parameter without a line keeps the value of the last deployment: to go back, write the default.
"""


class Unusable(Exception):
    """The parameters are wrong; the text says why and what to do."""


class NoWay(Unusable):
    """AWS cannot be asked: no region, no credentials, no network. Another answer of the person does not help."""


class NotAllowed(Unusable):
    """These credentials lack the permission."""


def template_parameters(template: Path) -> dict[str, dict[str, Any]]:
    """The template's parameters, in their order."""
    return dict(yaml_parse(template.read_text(encoding="utf-8"))["Parameters"])


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
    """The file's parameters. Raises Unusable for values that the template refuses."""
    try:
        given = {name: str(value) for name, value in tomllib.loads(file.read_text(encoding="utf-8")).items()}
    except ValueError as error:
        raise Unusable(f"{file}: {error}") from None
    unknown = sorted(given.keys() - parameters.keys())
    if unknown:
        raise Unusable(f"{file}: the template has no parameter {', '.join(unknown)}; it has {', '.join(parameters)}")
    missing = [name for name, each in parameters.items() if "Default" not in each and name not in given]
    if missing:
        raise Unusable(f"{file}: {', '.join(missing)} is missing; add it, or remove the file and answer the questions")
    problems = [told for name, value in given.items() if (told := problem(name, parameters[name], value))]
    if problems:
        raise Unusable(f"{file}: " + "\n".join(problems))
    if bool(given.get("SubnetIds")) != bool(given.get("SecurityGroupIds")):
        raise Unusable(f"{file}: give SubnetIds and SecurityGroupIds together, or neither")
    if len({given[name].split(":")[3] for name in SECRETS if given.get(name)}) > 1:
        raise Unusable(
            f"{file}: the secrets are in different regions; the functions read them only in their own: use one region"
        )
    return given


def written(parameters: Mapping[str, Mapping[str, Any]], answers: Mapping[str, str]) -> str:
    """The file's text: the answers, and the other parameters as comments, each with its description."""
    lines = [HEAD]
    for name, parameter in parameters.items():
        value, mark = (answers[name], "") if name in answers else (str(parameter["Default"]), "# ")
        # A JSON string is a TOML string.
        lines += [f"# {parameter['Description']}", f"{mark}{name} = {json.dumps(value)}", ""]
    return "\n".join(lines)


def ask(
    parameters: Mapping[str, Mapping[str, Any]], prompt: Callable[[str, str], str], secret_arn: Callable[[str], str]
) -> dict[str, str]:
    """The answers of a person. ``prompt`` gets a question and its default; ``secret_arn`` a secret's name."""

    def answer(question: str, default: str, name: str, find: Callable[[str], str] = str) -> str:
        while True:
            given = prompt(question, default).strip()
            try:
                told = problem(name, parameters[name], found := find(given) if given else "")
            except NoWay:
                raise
            except Unusable as error:
                told = str(error)
            if told is None:
                return found
            typer.echo(f"  {told}", err=True)

    typer.echo(
        "Names of secrets, or their ARNs; docs/deploying.md says how to make them. Enter takes the value in brackets."
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
    """The whole ARN of a secret that exists, by its name or ARN. Raises Unusable; NotAllowed, NoWay."""
    region = secret.split(":")[3] if secret.startswith("arn:") and secret.count(":") >= 6 else None
    return str(_asked("secretsmanager", region, "describe_secret", SecretId=secret)["ARN"])


def account(region: str | None) -> str:
    """The account and region to deploy to, for people. Raises NoWay without one."""
    import boto3

    known = chosen_region(region) or boto3.Session().region_name
    if known is None:
        raise NoWay(
            "no region is configured. Choose the one of the secrets: export AWS_REGION=eu-west-1, or aws configure"
        )
    return f"{_asked('sts', known, 'get_caller_identity')['Account']}, {known}"


def _asked(service: str, region: str | None, operation: str, **arguments: str) -> dict[str, Any]:
    import boto3
    from botocore.exceptions import ClientError

    try:
        answer: dict[str, Any] = getattr(boto3.client(service, region_name=chosen_region(region)), operation)(
            **arguments
        )
    except ClientError as error:
        code, words = code_of(error), error.response["Error"].get("Message") or str(error)
        if code in BAD_CREDENTIALS:
            raise NoWay(str(explained(error))) from None
        told = f"{', '.join(arguments.values()) or service}: {words}"
        raise (NotAllowed if code in DENIED else Unusable)(told) from None
    except client_errors() as error:
        raise NoWay(str(explained(error))) from None
    return answer


def configured_stack_name(samconfig: Path) -> str:
    """SAM's default name of the stack."""
    configured = tomllib.loads(samconfig.read_text(encoding="utf-8"))
    return str(configured["default"]["global"]["parameters"]["stack_name"])


def check_stack_name(name: str) -> None:
    """Raises Unusable for a name that CloudFormation would refuse, at once or at a later resource."""
    if len(name) > LONGEST_STACK_NAME or not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", name):
        raise Unusable(
            f"the stack's name must be letters, digits and hyphens, a letter first, {LONGEST_STACK_NAME} characters at most, "
            f"because functions are named after it; it is {name!r} ({len(name)} characters)"
        )


def check_secrets(given: Mapping[str, str], secret_arn: Callable[[str], str]) -> None:
    """Raises Unusable for a missing secret or an incomplete ARN, because IAM compares every character."""
    for name in SECRETS:
        if not given.get(name):
            continue
        try:
            found = secret_arn(given[name])
        except NotAllowed as error:
            typer.echo(f"warning: {name} could not be checked ({error})", err=True)
            continue
        if found != given[name]:
            raise Unusable(f"{name} is {given[name]}; the ARN of that secret is {found}")


def command(file: Path, parameters: Mapping[str, str], stack_name: str | None, template: Path | None) -> list[str]:
    """`sam deploy`, into the region of the secrets, where the functions read them.

    SAM removes a stack whose first creation failed, because CloudFormation would refuse to deploy over it.
    """
    region = parameters["DatabaseSecretArn"].split(":")[3]
    sam = [str(ROOT / ".venv-sam/bin/sam"), "deploy", "--config-file", str(ROOT / "samconfig.toml"), "--region", region]
    sam += ["--on-failure", "DELETE", "--parameter-overrides", f"file://{file.resolve()}"]
    sam += ["--stack-name", stack_name] if stack_name else []
    return [*sam, "--template-file", str(template)] if template else sam


def main(
    file: Annotated[Path, typer.Option(help="The file of the parameters.")] = Path("parameters.toml"),
    stack_name: Annotated[
        str | None, typer.Option(envvar="STACK_NAME", help="Name of the stack; that of samconfig.toml if not given.")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="A built template; without it, make build runs first.")] = None,
) -> None:
    """Deploy to AWS. Asks for the required parameters once, and nothing if parameters.toml exists.

    Example: make deploy PARAMETERS=parameters.staging.toml STACK_NAME=backfill-staging

    Exit status: 0 done, 1 failed.
    """
    parameters = template_parameters(ROOT / "template.yaml")
    try:
        check_stack_name(stack_name or configured_stack_name(ROOT / "samconfig.toml"))
        if not file.exists():
            if not sys.stdin.isatty():
                raise Unusable(
                    f"{file} does not exist, and no terminal is here for questions; docs/deploying.md shows its content"
                )
            account(None)
            answers = ask(parameters, _prompt, arn_of)
            file.write_text(written(parameters, answers), encoding="utf-8")
            typer.echo(f"Kept in {file}, beside every other parameter and its default.")
        given = read(file, parameters)
        place = account(given["DatabaseSecretArn"].split(":")[3])
        check_secrets(given, arn_of)
        typer.echo(f"Deploying to the account and region: {place}")
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
