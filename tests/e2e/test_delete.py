"""`make delete` says what goes and what stays, asks for the name of the stack, and deletes nothing without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import typer
from botocore.exceptions import ClientError

from cli import delete
from local.stack import ROOT, Stack

NAME = "backfill-to-delete"
# Resources that the product's own template has, one that people do not ask about, and a nested stack with an alarm.
TEMPLATE = """
Resources:
  ChunkQueue:
    Type: AWS::SQS::Queue
  PlannerLogs:
    Type: AWS::Logs::LogGroup
  Topic:
    Type: AWS::SNS::Topic
  Monitoring:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: {nested}
"""
NESTED = """
Resources:
  NoProgressAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: ProgressiveBackfill
      MetricName: StalledBackfills
      Statistic: Maximum
      Period: 300
      EvaluationPeriods: 1
      Threshold: 1
      ComparisonOperator: GreaterThanOrEqualToThreshold
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local AWS with a secret; how to reach it."""
    stack = Stack(tmp_path_factory.mktemp("aws"))
    stack.logs.mkdir(parents=True)
    state: dict[str, Any] = {"processes": {}, "environment": {}}
    try:
        stack.start_aws(state)
        settings: dict[str, str] = {**state["environment"], "STACK_NAME": NAME}
        client(settings, "secretsmanager").create_secret(Name="backfill/worker", SecretString="postgresql://…")
        create(settings)
        yield settings
    finally:
        stack.down()


def create(settings: dict[str, str]) -> None:
    """Deploy a stack."""
    storage, cloudformation = client(settings, "s3"), client(settings, "cloudformation")
    storage.create_bucket(Bucket="templates")
    storage.put_object(Bucket="templates", Key="nested.yaml", Body=NESTED.encode())
    nested = "https://s3.us-east-1.amazonaws.com/templates/nested.yaml"
    cloudformation.create_stack(StackName=NAME, TemplateBody=TEMPLATE.format(nested=nested))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1})


def client(settings: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_DEFAULT_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def run(settings: dict[str, str], *options: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m cli.delete`, as `make delete` runs it; with a person at a terminal who types, or with nobody."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STACK_", "CONFIRM"))}
    environment = {**own, **settings, "PYTHONPATH": f"{ROOT}:{ROOT}/layers/shared"}
    command = [sys.executable, "-m", "cli.delete", *options]
    person, terminal = os.openpty()
    try:
        if typed is not None:
            os.write(person, f"{typed}\n".encode())
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL if typed is None else terminal,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        os.close(person)
        os.close(terminal)


def exists(settings: dict[str, str]) -> bool:
    try:
        found = client(settings, "cloudformation").describe_stacks(StackName=NAME)["Stacks"]
    except ClientError:
        return False
    return any(each["StackStatus"] != "DELETE_COMPLETE" for each in found)


Answered = Callable[[str | None], tuple[int, str]]


@pytest.fixture
def answered(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Answered]:
    """`cli.delete` in this process, for answers that delete nothing: its exit status and its errors."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "STACK_", "CONFIRM"))]:
        monkeypatch.delenv(name)
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    app.command()(delete.main)

    def answer(typed: str | None) -> tuple[int, str]:
        person, terminal = os.openpty()
        with open(terminal, encoding="utf-8") as keyboard, open(os.devnull, encoding="utf-8") as nobody:  # noqa: PTH123
            monkeypatch.setattr(sys, "stdin", nobody if typed is None else keyboard)
            os.write(person, f"{typed}\n".encode())
            status = app([], standalone_mode=False)
        os.close(person)
        return int(status), capsys.readouterr().err

    yield answer


@pytest.mark.parametrize("typed", ["", "yes", "y", "backfill"])
def test_without_the_whole_name_nothing_is_deleted(aws: dict[str, str], answered: Answered, typed: str) -> None:
    status, errors = answered(typed)
    assert (status, exists(aws)) == (1, True)
    assert "nothing was deleted" in errors


def test_nobody_at_the_terminal_deletes_nothing(aws: dict[str, str], answered: Answered) -> None:
    status, errors = answered(None)
    assert status == 1
    assert f"nothing was deleted: give CONFIRM={NAME}" in errors
    assert exists(aws)


def test_it_says_what_goes_and_what_stays_and_deletes_by_the_name(aws: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "parameters.staging.toml"
    file.write_text(
        'DatabaseSecretArn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:backfill/worker-AbCdEf"',
        encoding="utf-8",
    )
    done = run(aws, "--file", str(file), typed=NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for part in ("queues, with their messages: 1", "log groups, with their logs: 1", "alarms: 1", "other resources: 1"):
        assert part in said
    assert "the database, with every pull request" in said.partition("These stay:")[2]
    assert str(file) in said and "us-east-1" in said
    assert not exists(aws)
    assert client(aws, "secretsmanager").describe_secret(SecretId="backfill/worker")["Name"] == "backfill/worker"
    assert client(aws, "sqs").list_queues().get("QueueUrls", []) == []

    again = run(aws, typed=NAME)
    assert again.returncode == 1
    assert "does not exist" in again.stderr


def test_a_script_gives_the_name_in_a_variable(aws: dict[str, str]) -> None:
    create(aws)
    assert run({**aws, "CONFIRM": "another"}).returncode == 1
    assert exists(aws)
    done = run({**aws, "CONFIRM": NAME})
    assert done.returncode == 0, done.stdout + done.stderr
    assert not exists(aws)
