"""AWS that refuses, and a machine that cannot ask it: the command and its page say why and what to do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner, Result

from cli import local_stack
from cli.dashboard import Dashboard
from cli.deploy import NoWay, account
from cli.main import app
from cli.stack import DeployedStack
from tests.browser.conftest import serving

LOG_IN = "Log in again (aws sso login), or choose another profile: --profile, AWS_PROFILE"
DENIED = "User: arn:aws:iam::1:user/me is not authorized to perform: lambda:InvokeFunction"


class Refusing(ThreadingHTTPServer):
    """Lambda, CloudWatch Logs and STS, each with its own shape of an error; ``code`` is that of every answer."""

    code, words = "", ""
    # As `sam local start-lambda`, which answers calls of functions alone: it writes JSON to every service.
    is_lambda = False


class Handler(BaseHTTPRequestHandler):
    server: Refusing

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        code, words = self.server.code, self.server.words
        if body.startswith(b"Action=") and not self.server.is_lambda:
            text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{words}</Message></Error></ErrorResponse>"
        else:
            text = json.dumps({"__type": code, "message": words})
        self.send_response(403)
        self.send_header("x-amzn-errortype", code)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[Refusing]:
    server = Refusing(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine with three profiles, none of which gives credentials, and no local stack."""
    for name in [each for each in os.environ if each.startswith(("AWS_", "STACK_"))]:
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        "[profile nothing]\nregion = eu-west-1\n[profile broken]\nregion = eu-west-1\ncredential_process = false\n"
        "[profile sso]\nregion = eu-west-1\nsso_session = x\nsso_account_id = 123456789012\nsso_role_name = r\n"
        "[sso-session x]\nsso_region = eu-west-1\nsso_start_url = https://example.com/start\n",
        encoding="utf-8",
    )
    for name, value in (("HOME", tmp_path), ("AWS_CONFIG_FILE", config), ("AWS_EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(local_stack, "FOLDER", tmp_path / "none")
    return monkeypatch


@pytest.fixture
def asked(machine: pytest.MonkeyPatch, refusing: Refusing) -> Refusing:
    """The same machine with credentials, which AWS refuses."""
    address = f"http://127.0.0.1:{refusing.server_address[1]}"
    for name, value in (("ENDPOINT_URL", address), ("REGION", "eu-west-1"), ("ACCESS_KEY_ID", "a")):
        machine.setenv(f"AWS_{name}", value)
    machine.setenv("AWS_SECRET_ACCESS_KEY", "s")
    return refusing


def run(*words: str) -> Result:
    done = CliRunner().invoke(app, list(words), prog_name="backfill")
    assert done.exit_code == 1, done.output
    return done


def told(*words: str) -> str:
    """The error of the command, as one line."""
    return " ".join(run(*words).stderr.split())


def on_the_page() -> str:
    """What the server of the page answers to the first of its calls that fails."""
    with serving(Dashboard(DeployedStack("progressive-backfill"))) as served:
        for path in ("settings", "widget"):
            url, key = served.address.partition("#")[0] + path, {"x-backfill-token": served.token}
            answer = requests.post(url, json={}, headers=key, timeout=20)
            if answer.status_code != 200:
                return str(answer.json()["error"])
    raise AssertionError("nothing failed")


REFUSALS = [
    (
        "ExpiredTokenException",
        "x",
        f"AWS refuses the credentials: the session has expired (ExpiredTokenException). {LOG_IN}",
    ),
    (
        "UnrecognizedClientException",
        "x",
        f"AWS refuses the credentials: it does not know the access key (UnrecognizedClientException). {LOG_IN}",
    ),
    (
        "InvalidSignatureException",
        "Signature expired: it is too late.",
        "Signature expired: it is too late. (InvalidSignatureException). The secret access key is wrong, or this machine's"
        " clock is: compare date -u",
    ),
    (
        "AccessDeniedException",
        DENIED,
        f"AWS does not allow this to your credentials: {DENIED} (AccessDeniedException). Ask for",
    ),
    ("ThrottlingException", "Rate exceeded", "AWS takes no more calls for the moment: Rate exceeded"),
]


@pytest.mark.parametrize(("code", "words", "said"), REFUSALS, ids=[code for code, _, _ in REFUSALS])
def test_a_refusal_of_aws_is_a_sentence_that_says_what_to_do(asked: Refusing, code: str, words: str, said: str) -> None:
    asked.code, asked.words = code, words
    assert said in told("status")
    assert said in told("logs")
    assert on_the_page().startswith("The stack did not do this: ") and said in on_the_page()
    # STS has its own names for the same.
    asked.code = {"ExpiredTokenException": "ExpiredToken", "UnrecognizedClientException": "InvalidClientTokenId"}.get(
        code, code
    )
    assert said.partition(" (")[0] in run("doctor").stdout


def test_logs_name_the_permission_that_they_need(asked: Refusing) -> None:
    asked.code, asked.words = "AccessDeniedException", DENIED
    assert "backfill logs needs logs:FilterLogEvents" in told("logs")
    asked.code = "ExpiredTokenException"
    assert "logs:FilterLogEvents" not in told("logs")


MACHINES = [
    ("nothing", "this machine has no credentials. Log in (aws sso login, or aws configure)"),
    ("broken", f"the credentials could not be read: Error when retrieving credentials from custom-process: . {LOG_IN}"),
    ("sso", f"the session of aws sso login has expired, or was never begun. {LOG_IN}"),
    ("absent", "there is no profile 'absent' on this machine. List them with aws configure list-profiles"),
]


@pytest.mark.parametrize(("profile", "said"), MACHINES, ids=[profile for profile, _ in MACHINES])
def test_a_machine_that_cannot_ask_aws_says_why(machine: pytest.MonkeyPatch, profile: str, said: str) -> None:
    machine.setenv("AWS_PROFILE", profile)
    for words in (told("status"), told("logs"), on_the_page()):
        assert f"AWS cannot be asked: {said}" in words
    found, _, advice = said.partition(". ")
    doctor = run("doctor").stdout
    assert f"FAILED credentials: AWS cannot be asked: {found}" in " ".join(doctor.split())
    assert advice in " ".join(doctor.split())


def test_a_region_and_half_of_a_key_are_missed_by_name(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("AWS_ACCESS_KEY_ID", "a")
    machine.setenv("AWS_SECRET_ACCESS_KEY", "s")
    said = (
        "AWS cannot be asked: no region is chosen. Choose that of the stack: --region, or export AWS_REGION=eu-west-1"
    )
    assert said in told("status") and said in told("logs") and said in on_the_page()
    machine.setenv("AWS_REGION", "eu-west-1")
    machine.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS cannot be asked: AWS_SECRET_ACCESS_KEY is missing. Log in" in told("status")


def test_an_endpoint_that_is_not_there_is_told(asked: Refusing, machine: pytest.MonkeyPatch) -> None:
    machine.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = "AWS cannot be reached: Could not connect to the endpoint URL"
    assert said in told("status") and said in told("logs") and said in on_the_page() and said in run("doctor").stdout


def test_an_answer_that_is_not_from_aws_is_told(asked: Refusing, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(asked, "is_lambda", True)
    asked.code, asked.words = "PathNotFoundLocally", "PathNotFoundException"
    said = "AWS cannot be asked: the answer is not from AWS, or not from this service"
    assert f"FAILED credentials: {said}" in " ".join(run("doctor").stdout.split())
    with pytest.raises(NoWay, match=said):
        account("eu-west-1")
