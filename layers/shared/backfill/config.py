"""Settings of the functions, read once from the environment (design section 4)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backfill.errors import ContractViolation

PUBLIC_API = "https://api.github.com"


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses and where the secrets are. A secret itself is read only when it is needed."""

    database_url: str | None
    database_secret_arn: str | None
    github_token: str | None
    github_secret_arn: str | None
    github_api_url: str
    chunk_queue_url: str
    plan_queue_url: str
    dead_letter_queue_url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Raises ContractViolation that names the setting which is missing."""
        env = os.environ if environment is None else environment

        def needed(name: str) -> str:
            if not env.get(name):
                raise ContractViolation(name, "is not set; the template sets it for every function")
            return env[name]

        for one, other in (("DATABASE_SECRET_ARN", "DATABASE_URL"), ("GITHUB_SECRET_ARN", "GITHUB_TOKEN")):
            if not env.get(one) and not env.get(other):
                raise ContractViolation(one, f"is not set, and neither is {other}: one of them is needed")
        return cls(
            database_url=env.get("DATABASE_URL"),
            database_secret_arn=env.get("DATABASE_SECRET_ARN"),
            github_token=env.get("GITHUB_TOKEN"),
            github_secret_arn=env.get("GITHUB_SECRET_ARN"),
            github_api_url=env.get("GITHUB_API_URL") or PUBLIC_API,
            chunk_queue_url=needed("CHUNK_QUEUE_URL"),
            plan_queue_url=needed("PLAN_QUEUE_URL"),
            dead_letter_queue_url=needed("DEAD_LETTER_QUEUE_URL"),
        )

    def read_database_url(self) -> str:
        """From the environment, or from the secret: a URL, ``{"url"}``, or what RDS writes into its secrets."""
        if self.database_url:
            return self.database_url
        text = _secret(self.database_secret_arn or "")
        if text.startswith("postgres"):
            return text
        fields = _object(text, "DATABASE_SECRET_ARN")
        if fields.get("url"):
            return str(fields["url"])
        from urllib.parse import quote

        missing = [name for name in ("username", "password", "host") if not fields.get(name)]
        if missing:
            raise ContractViolation("DATABASE_SECRET_ARN", f"the secret lacks {', '.join(missing)}")
        user, password = quote(str(fields["username"]), safe=""), quote(str(fields["password"]), safe="")
        place = f"{fields['host']}:{fields.get('port', 5432)}"
        return f"postgresql://{user}:{password}@{place}/{fields.get('dbname') or 'postgres'}"

    def github_secret(self) -> Callable[[bool], Mapping[str, str]]:
        """A reader of the GitHub secret; called with True it reads again, because GitHub refused what it gave."""

        def read(again: bool) -> Mapping[str, str]:
            if self.github_token:
                return {"token": self.github_token}
            text = _secret(self.github_secret_arn or "")
            return {"token": text} if not text.lstrip().startswith("{") else _object(text, "GITHUB_SECRET_ARN")

        return read


def _secret(arn: str) -> str:
    import boto3
    from botocore.exceptions import ClientError

    try:
        return str(boto3.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]).strip()
    except ClientError as error:
        reason = error.response["Error"]["Code"]
        raise ContractViolation(
            arn, f"the secret cannot be read ({reason}); check that it exists and that the function's role may read it"
        ) from None


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ContractViolation(name, "the secret must be a JSON object or the value itself")
    return fields
