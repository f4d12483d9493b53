"""Invokes the functions of a stack: STACK-planner, STACK-console, STACK-recovery."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from cli.aws_failures import client_errors, explained
from cli.local_stack import LocalStack

STACK_NAME = "progressive-backfill"
# The longest function time that WorkerTimeout allows is 900 seconds; the rest is for the network.
READ_SECONDS = 930
# Errors of the product whose text says what to do, so the log adds nothing. A test compares them with the classes.
EXPLAINED = frozenset(
    {
        "BadCredentials",
        "BrokenOff",
        "ContractViolation",
        "DatabaseUnavailable",
        "Deferred",
        "Forbidden",
        "LoginRefused",
        "Misconfigured",
        "RateLimited",
        "RepositoryUnavailable",
        "ScopeMissing",
        "TooLarge",
        "UnknownField",
        "Unreachable",
        "Untrusted",
        "ValidationTimeout",
    }
)
# What the local AWS calls every error. Whoever runs it has the logs beside it: backfill logs.
LOCAL_ERROR = "Runtime.HandlerError"


class InvocationFailed(Exception):
    """An invocation failed; the text says why and what to do next."""


def chosen_region(given: str | None) -> str | None:
    """The region of an option, or of AWS_REGION, which boto3 does not read but the AWS CLI and CloudShell do."""
    return given or os.environ.get("AWS_REGION")


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack in an account and region, reached with the usual AWS configuration; or the ``local`` one."""

    name: str
    region: str | None = None
    profile: str | None = None
    local: LocalStack | None = None

    @property
    def place(self) -> str:
        """The stack and its region, for people."""
        import boto3
        from botocore.exceptions import BotoCoreError

        if self.local is not None:
            return f"{self.name}, local"
        try:
            region = chosen_region(self.region) or boto3.Session(profile_name=self.profile).region_name
        except BotoCoreError:  # an unknown profile, which the first call tells
            region = None
        return f"{self.name}, {region}" if region else self.name

    def client(self, service: str, *, read_seconds: float = 60, connect_seconds: float = 60) -> Any:
        """A boto3 client where the stack is. Raises botocore's BotoCoreError without a region or a profile."""
        # The imports take half a second, which --help and the shell's completion need not wait for.
        import boto3
        from botocore.config import Config

        # The connection is idle while a function works. Without keepalives a NAT or a firewall drops it.
        config = Config(
            read_timeout=read_seconds,
            connect_timeout=connect_seconds,
            tcp_keepalive=True,
            retries={"total_max_attempts": 1},
        )
        if self.local is None:
            session = boto3.Session(region_name=chosen_region(self.region), profile_name=self.profile)
            return session.client(service, config=config)
        session = boto3.Session(
            region_name=self.local.region,
            aws_access_key_id=self.local.access_key,
            aws_secret_access_key=self.local.secret_key,
        )
        return session.client(service, config=config, endpoint_url=self.local.endpoint_url)

    def invoke(self, function: str, event: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """The function's answer, an object, within ``seconds``. Raises InvocationFailed."""
        answer = self._call(function, event, seconds)
        if not isinstance(answer, dict):
            raise InvocationFailed(f"{self.name}-{function} answered {answer!r}")
        return answer

    def show(self, function: str, event: dict[str, Any]) -> str:
        """The function's answer, HTML. Raises InvocationFailed."""
        answer = self._call(function, event)
        if not isinstance(answer, str):
            raise InvocationFailed(f"{self.name}-{function} answered no HTML")
        return answer

    def _call(self, function: str, event: dict[str, Any], seconds: float | None = None) -> Any:
        from botocore.exceptions import ClientError, ReadTimeoutError

        full_name = f"{self.name}-{function}"
        try:
            client = self.client("lambda", read_seconds=seconds or READ_SECONDS, connect_seconds=min(60, seconds or 60))
            answer = client.invoke(FunctionName=full_name, Payload=json.dumps(event).encode())
            payload = json.loads(answer["Payload"].read() or b"null")
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                raise InvocationFailed(
                    f"there is no function {full_name} here. Is the stack deployed (make deploy), and are --stack-name and"
                    " --region right? A local stack: make up"
                ) from None
            raise InvocationFailed(str(explained(error))) from None
        except ReadTimeoutError:
            raise InvocationFailed(
                f"{full_name} did not answer within {seconds or READ_SECONDS:g} seconds and may still be at work. Read its log: "
                f"/aws/lambda/{full_name}"
            ) from None
        except client_errors() as error:
            raise InvocationFailed(str(explained(error))) from None
        # `sam local start-lambda` does not set the header FunctionError.
        if "FunctionError" in answer or (isinstance(payload, dict) and {"errorType", "errorMessage"} <= payload.keys()):
            raise InvocationFailed(_told(payload or {}, f"/aws/lambda/{full_name}"))
        return payload


def _told(payload: dict[str, Any], log_group: str) -> str:
    """The error of a function. It names the log group unless the product explains the error."""
    message = payload.get("errorMessage", "no message")
    told = payload.get("errorType") in EXPLAINED | {LOCAL_ERROR}
    return message if told else f"{message} (details in the log group {log_group})"
