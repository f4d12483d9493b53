"""Every built function runs as it is packaged, under Lambda's own runtime client and emulator."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import ANY

import boto3
import pytest

from backfill.store.connection import Database
from local import doors
from local import invoke as local_invoke
from local.invoke import FUNCTIONS, Emulator
from local.postgres import Postgres
from local.simulator import Simulator, generate
from local.stack import ROOT, Failed, Stack
from migrations.runner import upgrade

NAME = "octo/large"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path, dict[str, str]]]:
    """The built template, and the settings of functions that reach an empty local AWS with the three queues."""
    stack = Stack(tmp_path_factory.mktemp("packaged"))
    template = stack.build()
    state: dict[str, Any] = {"processes": {}, "environment": {}}
    try:
        stack.start_aws(state)
        settings: dict[str, str] = state["environment"]
        client = boto3.client(
            "sqs",
            endpoint_url=settings["AWS_ENDPOINT_URL"],
            region_name=settings["AWS_DEFAULT_REGION"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        for name in ("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
            settings[name] = client.create_queue(QueueName=name)["QueueUrl"]
        yield stack, template, settings
    finally:
        stack.down()


@pytest.fixture
def invoke(
    built: tuple[Stack, Path, dict[str, str]], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Invoke a function by the name that `make invoke-…` knows it by, with its sample event or another."""
    stack, template, settings = built
    for name, value in settings.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    with Simulator(generate(7, {NAME: 12}), speed=1000) as simulator:
        environment = {**settings, "DATABASE_URL": database_url, "GITHUB_TOKEN": "t", "GITHUB_API_URL": simulator.url}

        def run(name: str, event: Any = None, **others: str) -> Any:
            function, sample = FUNCTIONS[name]
            if event is None:
                event = json.loads((ROOT / "events" / sample).read_text(encoding="utf-8"))
            with Emulator(template, function, {**environment, **others}, stack.logs / f"{name}.log") as emulator:
                return emulator.invoke(event)

        yield run


def test_no_function_is_left_out() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    assert {function for function, _ in FUNCTIONS.values()} == set(
        re.findall(r"^  (\w+):\n    Type: AWS::Serverless::Function$", template, re.MULTILINE)
    )


def test_every_packaged_function_answers_its_sample_event(invoke: Callable[..., Any], db: Database) -> None:
    """Of the kind that docs/invoking.md shows."""
    assert invoke("migrator") == {"applied": []}
    added = invoke("console", {"action": "add", "repository": NAME})
    assert (added["ok"], added["repository"], added["created"], added["total_prs"]) == (True, NAME, True, 12)

    forecast = invoke("planner")
    assert forecast["dry_run"] is True
    assert [(each["pull_requests_to_detail"], each["points"]) for each in forecast["backfills"]] == [(12, 3)]
    assert db.one("SELECT count(*) AS listed FROM pull_requests") == {"listed": 0}
    (planned,) = invoke("planner", {})["backfills"]
    assert (planned["repository"], planned["chunks"], planned["sent"]) == (NAME, 1, 1)

    assert invoke("chunk-worker") == {"batchItemFailures": []}
    by_hand = db.one("SELECT pr_numbers, status FROM backfill_chunks WHERE origin = 'message'")
    assert by_hand == {"pr_numbers": [1], "status": "pending"}
    chunk = db.one("SELECT id, dispatch_id FROM backfill_chunks WHERE origin = 'planner'") or {}
    body = json.dumps({"schema_version": 1, "chunk_id": chunk["id"], "dispatch_id": chunk["dispatch_id"]})
    assert invoke("chunk-worker", {"Records": [{"messageId": "2", "body": body}]}) == {"batchItemFailures": []}

    report = invoke("recovery")
    assert (report["dry_run"], report["requeued"], report["failed"], report["lost"]) == (False, 0, 0, 0)
    (backfill,) = invoke("console")["backfills"]
    assert (backfill["repository"], backfill["processed_prs"], backfill["total_prs"]) == (NAME, 12, 12)
    assert NAME in invoke("widget")


def test_the_env_file_of_containers_serves_without_docker_and_without_settings_of_aws(
    built: tuple[Stack, Path, dict[str, str]], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its addresses are the containers', and nothing of AWS is configured on this machine, not even a region."""
    stack, template, settings = built
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with Simulator(generate(7, {NAME: 12}), speed=1000) as simulator:
        environment = {**settings, "GITHUB_TOKEN": "t", "GITHUB_API_URL": simulator.url}
        file = doors.for_containers(environment, database_url)
        assert "//host.docker.internal:" in file["PLAN_QUEUE_URL"] and file.keys() >= {"AWS_REGION", "AWS_ENDPOINT_URL"}
        with Emulator(
            template, "ConsoleFunction", doors.without_containers(file), stack.logs / "env-file.log"
        ) as emulator:
            added = emulator.invoke({"action": "add", "repository": NAME})
    # Adding sends a plan request to the local SQS, which takes a region and credentials.
    assert (added["ok"], added["created"], added["total_prs"]) == (True, True, 12)


def test_the_packaged_migrator_brings_an_empty_database_up_to_date(
    invoke: Callable[..., Any], postgres: Postgres, database_url: str
) -> None:
    postgres.run("CREATE DATABASE fresh")
    names = sorted(path.stem for path in (ROOT / "migrations/versions").glob("*.sql"))
    assert invoke("migrator", DATABASE_URL=postgres.url("fresh")) == {"applied": names}
    assert upgrade(postgres.url("fresh")) == []


class CloudFormation:
    """The address that a custom resource answers at, and the events of CloudFormation's documentation:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
    """

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                # The presigned address of S3 takes no other content type than it was signed for: none.
                assert (self.path, self.headers["content-type"]) == ("/answer", "")
                answers.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads its log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def event(self, kind: str, **others: Any) -> dict[str, Any]:
        return {
            "RequestType": kind,
            "RequestId": "request-1",
            "ResponseURL": f"http://127.0.0.1:{self.server.server_port}/answer",
            "ResourceType": "Custom::Migrations",
            "LogicalResourceId": "Migrations",
            "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/name/1",
            "ResourceProperties": {"ServiceToken": "arn", "ServiceTimeout": "960", "SchemaVersion": "0002"},
            **others,
        }

    def update(self, before: str, after: str) -> dict[str, Any]:
        return self.event(
            "Update",
            PhysicalResourceId="progressive-backfill-schema",
            ResourceProperties={"ServiceToken": "arn", "SchemaVersion": after},
            OldResourceProperties={"ServiceToken": "arn", "SchemaVersion": before},
        )


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    made = CloudFormation()
    Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_migrator_tells_cloudformation_what_became_of_the_schema(
    invoke: Callable[..., Any], postgres: Postgres, database_url: str, cloudformation: CloudFormation
) -> None:
    names = sorted(path.stem for path in (ROOT / "migrations/versions").glob("*.sql"))
    postgres.run("CREATE DATABASE deployed")
    url = postgres.url("deployed")
    upgrade(url, to="0001")
    assert invoke("migrator", cloudformation.event("Create"), DATABASE_URL=url) == {"applied": names[1:]}
    assert cloudformation.answers.pop() == {
        "Status": "SUCCESS",
        "Reason": ANY,
        "PhysicalResourceId": "progressive-backfill-schema",
        "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/name/1",
        "RequestId": "request-1",
        "LogicalResourceId": "Migrations",
        "Data": {"Applied": ", ".join(names[1:])},
    }

    # A newer schema is what an older version finds when it is deployed again.
    postgres.run("CREATE DATABASE newer")
    upgrade(postgres.url("newer"))
    db = Database(lambda: postgres.url("newer"))
    db.execute("UPDATE alembic_version SET version_num = '9999'")
    invoke("migrator", cloudformation.update("0001", "0002"), DATABASE_URL=postgres.url("newer"))
    assert cloudformation.answers.pop()["Status"] == "SUCCESS"
    assert db.one("SELECT version_num FROM alembic_version") == {"version_num": "9999"}
    db.close()

    postgres.run("CREATE DATABASE spoiled")
    upgrade(postgres.url("spoiled"), to="0001")
    db = Database(lambda: postgres.url("spoiled"))
    db.execute("CREATE TABLE backfill_chunks (mine integer)")
    answer = invoke("migrator", cloudformation.update("0001", "0002"), DATABASE_URL=postgres.url("spoiled"))
    (told,) = cloudformation.answers
    assert (told["Status"], told["PhysicalResourceId"]) == ("FAILED", "progressive-backfill-schema")
    assert told["Reason"] == 'Postgres: relation "backfill_chunks" already exists (42P07); nothing was changed'
    # Told, and not raised: Lambda would run it again behind the back of a deployment that failed.
    assert answer == {"failed": told["Reason"]}
    assert db.one("SELECT version_num FROM alembic_version") == {"version_num": "0001"}
    db.close()


def test_postgres_away_fails_a_deployment_and_neither_its_way_back_nor_the_end_of_the_stack(
    invoke: Callable[..., Any], cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The migrator waits for a database that may be waking up, a tenth of its time at most.
    monkeypatch.setattr(local_invoke, "INVOKE_SECONDS", 60)
    nowhere = "postgresql://u:secret@127.0.0.1:9/d"
    expected = [
        (cloudformation.event("Create"), "FAILED"),
        (cloudformation.update("0001", "0002"), "FAILED"),
        (cloudformation.update("0002", "0002"), "FAILED"),
        (cloudformation.update("0002", "0001"), "SUCCESS"),
        (cloudformation.event("Delete", PhysicalResourceId="progressive-backfill-schema"), "SUCCESS"),
    ]
    for event, status in expected:
        invoke("migrator", event, DATABASE_URL=nowhere)
        told = cloudformation.answers.pop()
        assert (told["Status"], told["PhysicalResourceId"]) == (status, "progressive-backfill-schema")
        if status == "FAILED":
            assert re.match("cannot reach Postgres at 127.0.0.1:9.*security group", told["Reason"])
        assert "secret" not in told["Reason"]


def test_an_error_is_shown_as_lambda_shows_it(invoke: Callable[..., Any]) -> None:
    with pytest.raises(Failed, match="ContractViolation: chunk_size: 101 is greater than the maximum of 100"):
        invoke("planner", {"chunk_size": 101})


def test_the_layer_brings_no_boto3(built: tuple[Stack, Path, dict[str, str]]) -> None:
    _, template, _ = built
    layer = template.parent / "SharedLayer" / "python"
    assert not [name for name in ("boto3", "botocore", "s3transfer", "bin") if (layer / name).exists()]


@pytest.mark.parametrize("part", ["SharedLayer/python", "MigratorFunction"])
def test_bytecode_is_shipped_for_the_functions_python_alone_and_used(
    built: tuple[Stack, Path, dict[str, str]], part: str
) -> None:
    _, template, _ = built
    sources = [path for path in (template.parent / part).rglob("*.py") if "templates" not in path.parts]
    assert len(sources) > 100
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
        content = compiled.read_bytes()
        assert content[:4] == importlib.util.MAGIC_NUMBER
        # Hash-based and unchecked: the source's time, which a zip does not keep, is never compared.
        assert content[4:8] == (1).to_bytes(4, "little")
