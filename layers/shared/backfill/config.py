"""Settings of the functions, read once from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from backfill import aws
from backfill.errors import Misconfigured, Retryable
from backfill.limits import CHECK_SHARE

PUBLIC_API = "https://api.github.com"


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses, and the places of the secrets. A secret is read only when it is needed."""

    database_url: str | None
    database_secret_arn: str | None
    github_token: str | None
    github_secret_arn: str | None
    github_api_url: str
    chunk_queue_url: str
    plan_queue_url: str
    dead_letter_queue_url: str
    check_share: float = CHECK_SHARE
    timeline: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Raises Misconfigured, which names the missing setting."""
        env = os.environ if environment is None else environment

        def needed(name: str) -> str:
            if not env.get(name):
                raise Misconfigured(name, "is not set; the template sets it for every function")
            return env[name]

        for one, other in (("DATABASE_SECRET_ARN", "DATABASE_URL"), ("GITHUB_SECRET_ARN", "GITHUB_TOKEN")):
            if not env.get(one) and not env.get(other):
                raise Misconfigured(one, f"is not set, and neither is {other}: one of them is needed")
        return cls(
            database_url=env.get("DATABASE_URL"),
            database_secret_arn=env.get("DATABASE_SECRET_ARN"),
            github_token=env.get("GITHUB_TOKEN"),
            github_secret_arn=env.get("GITHUB_SECRET_ARN"),
            github_api_url=env.get("GITHUB_API_URL") or PUBLIC_API,
            chunk_queue_url=needed("CHUNK_QUEUE_URL"),
            plan_queue_url=needed("PLAN_QUEUE_URL"),
            dead_letter_queue_url=needed("DEAD_LETTER_QUEUE_URL"),
            check_share=float(env.get("CHECK_SHARE_PERCENT") or 100 * CHECK_SHARE) / 100,
            timeline=env.get("TIMELINE") == "true",
        )

    def database_address(self) -> DatabaseAddress:
        """The address of Postgres and the login."""
        return DatabaseAddress(self.database_url, self.database_secret_arn or "")

    def github_secret(self) -> Callable[[bool], Mapping[str, str]]:
        """A reader of the GitHub secret. With True it reads again, because GitHub refused the last value."""

        def read(again: bool) -> Mapping[str, str]:
            if self.github_token:
                return {"token": self.github_token}
            text = _secret(self.github_secret_arn or "")
            return {"token": text} if not text.lstrip().startswith("{") else _object(text, "GITHUB_SECRET_ARN")

        return read


class DatabaseAddress:
    """Returns the Postgres URL. The secret is read once, and again after ``forget``, because it may have been rotated.

    The secret holds a URL, ``{"url"}``, or what RDS writes: username, password, host, port, dbname. With ``"iam": true``
    instead of a password, the function's role logs in, by a token that is signed here for every connection.
    """

    def __init__(self, url: str | None, secret_arn: str) -> None:
        self._url, self._secret_arn = url, secret_arn
        self._text: str | None = None

    def __call__(self) -> str:
        if self._url:
            return self._url
        if self._text is None:
            self._text = _secret(self._secret_arn)
        if self._text.startswith("postgres"):
            return self._text
        fields = _object(self._text, "DATABASE_SECRET_ARN")
        return str(fields["url"]) if fields.get("url") else _url(fields)

    def forget(self) -> None:
        """Postgres refused the secret's value."""
        self._text = None


def _url(fields: Mapping[str, Any]) -> str:
    by_iam = fields.get("iam") is True
    missing = [name for name in ("username", "password", "host") if not fields.get(name)]
    if missing and not (by_iam and missing == ["password"]):
        raise Misconfigured("DATABASE_SECRET_ARN", f"the secret lacks {', '.join(missing)}")
    user, host, port = str(fields["username"]), str(fields["host"]), fields.get("port", 5432)
    if by_iam:
        # Valid for 15 minutes, which matters only while a connection is opened.
        password = aws.client("rds").generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user)
    else:
        password = str(fields["password"])
    # An IPv6 address, or the directory of a Unix socket.
    place = f"[{host}]" if ":" in host else quote(host, safe="")
    database = quote(str(fields.get("dbname") or "postgres"), safe="")
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{place}:{port}/{database}"


def _secret(arn: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = aws.client("secretsmanager").get_secret_value(SecretId=arn)
    except ClientError as error:
        reason = error.response["Error"]["Code"]
        raise Misconfigured(
            arn, f"the secret cannot be read ({reason}); check that it exists and that the function's role may read it"
        ) from None
    except BotoCoreError as error:
        raise Retryable(
            f"Secrets Manager does not answer ({type(error).__name__}); in a VPC the functions need an interface endpoint "
            "for it, or a NAT gateway"
        ) from None
    if "SecretString" not in answer:
        raise Misconfigured(arn, "the secret must hold text, not binary data")
    return str(answer["SecretString"]).strip()


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Misconfigured(name, "the secret must be a JSON object or the value itself")
    return fields
