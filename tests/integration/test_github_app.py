"""A GitHub App: tokens are fetched for a signed JWT, renewed before they end, and never shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from backfill.github.auth import Credentials
from backfill.github.errors import BadCredentials
from backfill.github.transport import Transport
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import App, Installation, Simulator, generate
from local.simulator.app_keys import AppKeys

NAME = "octo/small"


@pytest.fixture(scope="module")
def keys() -> AppKeys:
    return AppKeys.generate()


@pytest.fixture(scope="module")
def secret(keys: AppKeys) -> dict[str, str]:
    """What Secrets Manager holds for an app that is bound to one installation."""
    return {**keys.secret, "installation_id": "678"}


@pytest.fixture
def app(keys: AppKeys) -> App:
    """What GitHub knows of it."""
    return keys.app(Installation("octo", 678))


def test_a_run_outlives_several_tokens_and_never_uses_one_that_has_ended(
    db: Database, secret: dict[str, str], app: App
) -> None:
    with Simulator(generate(5, {NAME: 60}), speed=2000, app=app) as simulator:
        container = Stack(db, simulator, secret=secret)
        container.add(NAME, chunk_size=3)

        def twenty_minutes_pass() -> None:
            simulator.clock_ahead += 1200

        container.run(between=twenty_minutes_pass)
        assert container.state()["status"] == "completed"
        container.assert_equals_github()
        assert simulator.clock_ahead > 5 * 3600
        assert simulator.served["issued_tokens"] >= 5
        assert (simulator.served["expired_tokens"], simulator.served["bad_credentials"]) == (0, 0)
        assert db.rows("SELECT identity FROM github_budget") == [{"identity": "installation:678"}]


def test_a_token_that_is_revoked_in_mid_run_is_replaced(db: Database, secret: dict[str, str], app: App) -> None:
    with Simulator(generate(5, {NAME: 60}), speed=2000, app=app) as simulator:
        container = Stack(db, simulator, secret=secret)
        container.add(NAME, chunk_size=10)
        outcomes = container.run(between=simulator.tokens.revoke)
        assert set(outcomes) == {"completed"} and container.state()["status"] == "completed"
        assert simulator.served["expired_tokens"] >= 6


@pytest.mark.parametrize("ahead", [-7200.0, -30.0, 30.0, 7200.0])
def test_a_clock_that_is_wrong_by_hours_is_corrected_by_githubs(secret: dict[str, str], app: App, ahead: float) -> None:
    with Simulator(generate(5, {NAME: 3}), app=app) as simulator:
        transport = Transport(simulator.url, clock=lambda: time.time() + ahead)
        token = Credentials(transport, lambda _: secret).token()
        assert simulator.tokens.viewer(token) is app.installations[0]
        assert simulator.served["refused_jwts"] == (1 if abs(ahead) > 60 else 0)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"app_id": "999"}, "Integration not found"),
        ({"installation_id": "999"}, "still installed"),
        (
            {"private_key": "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----"},
            "no RSA key in PEM",
        ),
        ({"private_key": ""}, "lacks private_key"),
        ({"app_id": ""}, "lacks app_id"),
    ],
)
def test_a_wrong_secret_says_what_is_wrong_with_it(
    secret: dict[str, str], app: App, wrong: dict[str, str], reason: str
) -> None:
    with Simulator(generate(5, {NAME: 3}), app=app) as simulator:
        transport = Transport(simulator.url)
        with pytest.raises(BadCredentials, match=reason) as refused:
            Credentials(transport, lambda _: {**secret, **wrong}).token()
        assert "c2VjcmV0" not in str(refused.value) and secret["private_key"][40:80] not in str(refused.value)


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        ({}, None),
        ({"exp": timedelta(minutes=11)}, "too far in the future"),
        ({"exp": timedelta(seconds=-1)}, "in the future"),
        ({"iat": timedelta(seconds=30)}, "assertion was issued"),
        ({"iss": "999"}, "Integration not found"),
    ],
)
def test_the_simulator_takes_no_jwt_that_github_would_refuse(
    secret: dict[str, str], app: App, claims: dict[str, Any], refusal: str | None
) -> None:
    now = datetime.now(UTC)
    whole = {"iat": timedelta(seconds=-60), "exp": timedelta(minutes=9), "iss": secret["app_id"], **claims}
    made = {k: int((now + v).timestamp()) if isinstance(v, timedelta) else v for k, v in whole.items()}
    with Simulator(generate(5, {NAME: 3}), app=app) as simulator:
        signed = jwt.encode(made, secret["private_key"], algorithm="RS256")
        status, _, answer = simulator.tokens.issue(signed, "678")
        assert (status, refusal in answer["message"] if refusal else None) == ((401, True) if refusal else (201, None))
        other = rsa.generate_private_key(65537, 2048)
        assert simulator.tokens.issue(jwt.encode(made, other, algorithm="RS256"), "678")[0] == 401
