"""No token, key or database password in any log line, error or trace, however GitHub, the network or the secret fails."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from backfill.errors import BackfillError
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.transport import Transport
from backfill.observability import logger
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.simulator import PASSING, App, Failure, Simulator, generate

TOKEN = "ghp_" + "t0k3n" * 8
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "k3yk3yk3" * 8 + "\n-----END RSA PRIVATE KEY-----"
PASSWORD = "pa55w0rd/with:@signs"
SECRETS = ("t0k3n", "k3yk3yk3", "pa55w0rd", "ghs_")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(1, {"octo/small": 4}), speed=5000) as running:
        yield running


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Also what requests and urllib3 say when somebody turns on their debugging."""
    caplog.set_level(logging.DEBUG)
    yield


def traces(error: BaseException | None) -> str:
    """An error as it can ever be printed: its trace with what caused it and what it came out of, and all their fields."""
    texts, seen = [], set()
    waiting: list[Any] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += traceback.format_exception(each)
        texts += [repr(each), repr(vars(each)), repr(each.args)]
        for held in (*vars(each).values(), *each.args):
            # A request that an exception of requests keeps, with its headers.
            texts.append(repr(getattr(held, "headers", "")))
            texts.append(repr(getattr(held, "__dict__", "")))
        waiting += [each.__cause__, each.__context__]
    return "\n".join(texts)


def said(error: BaseException, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    # As the handlers of the functions do with what nobody handled.
    try:
        raise error
    except BaseException:
        logger.exception("a chunk message failed")
    return "\n".join([traces(error), caplog.text, *capfd.readouterr(), *(repr(vars(each)) for each in caplog.records)])


def client(db: Database, url: str, secret: dict[str, str]) -> GitHub:
    transport, budget = Transport(url), PostgresBudget(db)
    return GitHub(transport, Credentials(transport, lambda _: secret, budget), Governor(budget, sleep=lambda _: None))


def assert_silent(text: str) -> None:
    assert text
    for secret in SECRETS:
        assert secret not in text


@pytest.mark.parametrize("failure", PASSING, ids=lambda each: each.name)
def test_no_failure_of_github_shows_the_token(
    simulator: Simulator,
    db: Database,
    failure: Failure,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    github = client(db, simulator.url, {"token": TOKEN})
    (node_id,) = simulator.repositories
    listed = github.list_pull_requests(node_id, None).pull_requests
    simulator.script(*[failure] * 3)
    error: BaseException = RuntimeError("no failure")
    try:
        github.list_numbers(node_id, [row["number"] for row in listed])
    except BackfillError as raised:
        error = raised
    finally:
        simulator.scripted.clear()
    assert_silent(said(error, caplog, capfd))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "https://127.0.0.1:9", "https://no-such-host.invalid"], ids=["refused", "tls", "name"]
)
def test_no_failure_of_the_network_shows_the_token(
    db: Database, url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BackfillError) as raised:
        client(db, url, {"token": TOKEN}).repository("octo", "small")
    assert_silent(said(raised.value, caplog, capfd))


@pytest.mark.parametrize(
    "secret",
    [
        {"token": f"{TOKEN}\r\nx"},
        {"token": f"{TOKEN}\x00é"},
        {"app_id": "1", "installation_id": "2", "private_key": KEY},
        {"app_id": "1", "private_key": KEY},
        {"tokn": TOKEN},
        {},
    ],
)
def test_no_secret_of_a_wrong_form_is_shown(
    simulator: Simulator,
    db: Database,
    secret: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BackfillError) as raised:
        client(db, simulator.url, secret).repository("octo", "small")
    assert_silent(said(raised.value, caplog, capfd))


def test_a_refused_app_shows_neither_its_key_nor_its_jwt(
    db: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret = {"app_id": "1", "installation_id": "2", "private_key": pem.decode()}
    with Simulator(generate(1, {"octo/small": 3}), app=App("1", "no key")) as simulator:
        github = client(db, simulator.url, secret)
        with pytest.raises(BackfillError) as raised:
            github.repository("octo", "small")
    text = said(raised.value, caplog, capfd)
    # Each JWT begins with the same header: {"alg":"RS256", …
    assert "eyJhbGciOi" not in text
    assert all(line not in text for line in pem.decode().split("\n")[1:-2])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://octo:{}@127.0.0.1:9/d",
        "postgresql://octo:{}@no-such-host.invalid/d",
        "postgresql://octo:{}@127.0.0.1:port/d",
        "postgresql://octo:{}",
        "mysql://octo:{}@127.0.0.1/d",
    ],
)
@pytest.mark.parametrize("password", [PASSWORD, "pa55w0rd"])
def test_no_database_url_is_shown(
    url: str, password: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BackfillError) as raised:
        Database(lambda: url.format(password)).rows("SELECT 1")
    assert_silent(said(raised.value, caplog, capfd))
