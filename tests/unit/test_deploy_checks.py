"""`make deploy` checks region, credentials, secrets and the stack's name before it asks, builds and deploys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from cli.deploy import (
    LONGEST_STACK_NAME,
    ROOT,
    NoWay,
    Unusable,
    account,
    arn_of,
    ask,
    check_secrets,
    check_stack_name,
    configured_stack_name,
)
from tests.unit.test_deploy import NEEDED, PARAMETERS, person

WHOLE = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:backfill/worker-AbCdEf"


class Aws:
    """STS and Secrets Manager with one secret; ``refuses`` is the code of every answer while it is set."""

    refuses: str | None = None

    def __init__(self) -> None:
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                if self.headers.get("X-Amz-Target") == "secretsmanager.DescribeSecret":
                    self._send(*aws.secret(json.loads(body)["SecretId"]))
                else:
                    assert parse_qs(body)["Action"] == ["GetCallerIdentity"]
                    self._send(*aws.identity())

            def _send(self, status: int, kind: str, body: str) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def secret(self, name: str) -> tuple[int, str, str]:
        code = self.refuses or (
            None if WHOLE.startswith(name) or name == "backfill/worker" else "ResourceNotFoundException"
        )
        if code is None:
            return 200, "application/x-amz-json-1.1", json.dumps({"ARN": WHOLE})
        return 400, "application/x-amz-json-1.1", json.dumps({"__type": code, "message": f"it is {code}"})

    def identity(self) -> tuple[int, str, str]:
        if self.refuses:
            error = f"<Error><Code>{self.refuses}</Code><Message>it is {self.refuses}</Message></Error>"
            return 403, "text/xml", f"<ErrorResponse>{error}</ErrorResponse>"
        result = "<GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>"
        return 200, "text/xml", f"<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>"


@pytest.fixture
def aws(nothing: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    running = Aws()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server.server_address[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nobody has configured AWS."""
    for name in [each for each in os.environ if each.startswith(("AWS_", "STACK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def test_where_it_deploys_to_is_known_before_anything_is_asked(aws: Aws) -> None:
    assert account(None) == "123456789012, eu-west-1"
    assert account("us-east-1") == "123456789012, us-east-1"


def test_without_a_region_or_credentials_it_says_so(nothing: None) -> None:
    with pytest.raises(NoWay, match=r"no region is configured.*AWS_REGION"):
        account(None)
    with pytest.raises(NoWay, match="credentials"):
        account("eu-west-1")


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_credentials_that_aws_refuses_end_the_dialogue(aws: Aws, code: str) -> None:
    aws.refuses = code
    with pytest.raises(NoWay, match=f"refuses the credentials.*{code}"):
        account(None)
    asked, prompt = person("")
    with pytest.raises(NoWay):
        ask(PARAMETERS, prompt, arn_of)
    assert len(asked) == 1


def test_a_secret_that_is_not_there_is_asked_for_again(aws: Aws) -> None:
    asked, prompt = person("typo", "backfill/worker", "-", "backfill/worker", "")
    assert ask(PARAMETERS, prompt, arn_of) == {"DatabaseSecretArn": WHOLE, "GitHubSecretArn": WHOLE}
    assert len(asked) == 5


def test_an_arn_that_secrets_manager_completes_and_iam_does_not_is_refused(aws: Aws) -> None:
    """backfill-worker ends in what looks like a hyphen and six characters."""
    given = {**NEEDED, "DatabaseSecretArn": WHOLE, "GitHubSecretArn": WHOLE}
    check_secrets(given, arn_of)
    short = {**given, "GitHubSecretArn": WHOLE.removesuffix("-AbCdEf")}
    with pytest.raises(Unusable, match=f"GitHubSecretArn is .*backfill/worker; the ARN of that secret is {WHOLE}"):
        check_secrets(short, arn_of)
    with pytest.raises(Unusable, match="ResourceNotFoundException"):
        check_secrets({**given, "MigratorDatabaseSecretArn": WHOLE.replace("worker", "missing")}, arn_of)


def test_a_deployer_who_may_not_describe_secrets_is_warned_and_continues(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.refuses = "AccessDeniedException"
    check_secrets({"DatabaseSecretArn": WHOLE}, arn_of)
    assert "DatabaseSecretArn could not be checked" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["s" * (LONGEST_STACK_NAME + 1), "under_score", "1st", ""])
def test_a_stack_name_that_fails_half_way_is_refused_before(name: str) -> None:
    with pytest.raises(Unusable, match=f"{LONGEST_STACK_NAME} characters at most"):
        check_stack_name(name)


def test_the_configured_stack_name_is_taken() -> None:
    name = configured_stack_name(ROOT / "samconfig.toml")
    assert name == "progressive-backfill"
    check_stack_name(name)
    check_stack_name("s" * LONGEST_STACK_NAME)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}, "no region is configured"),
        ({"AWS_REGION": "eu-west-1"}, "credentials"),
        ({"STACK_NAME": "s" * 52}, "51 characters at most"),
    ],
    ids=["no region", "no credentials", "long name"],
)
def test_a_person_at_a_terminal_is_told_and_not_asked_again_and_again(
    environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    person_end, terminal = os.openpty()
    os.write(person_end, b"\n" * 50)
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STACK_"))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli.deploy", "--file", str(tmp_path / "parameters.toml")],
            cwd=ROOT,
            env={**known, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **environment},
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(person_end)
        os.close(terminal)
    assert done.returncode == 1
    assert told in done.stderr and "Secret of the functions" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "target"), [("layers/shared", "build-SharedLayer"), ("functions/migrator", "build-MigratorFunction")]
)
def test_a_build_without_uv_says_what_to_run(folder: str, target: str, tmp_path: Path) -> None:
    """`sam build` alone, without what `make build` puts on the path."""
    tools, artifacts = tmp_path / "tools", tmp_path / "artifacts"
    tools.mkdir()
    for name in ("sh", "mkdir", "rm", "cp", "find"):
        (tools / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    done = subprocess.run(
        ["/usr/bin/make", target, f"ARTIFACTS_DIR={artifacts}"],
        cwd=ROOT / folder,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "uv is not on the PATH. Run: make build" in done.stderr
