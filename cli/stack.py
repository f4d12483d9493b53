"""Invoking the functions of a stack. Their names follow from the stack's: STACK-planner, STACK-console, STACK-recovery."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

# Lambda answers within the function's time, which WorkerTimeout allows to be 900 seconds; and a little for the way.
READ_SECONDS = 930


class InvocationFailed(Exception):
    """What went wrong, and what to do next."""


def chosen_region(given: str | None) -> str | None:
    """The region of an option, or of AWS_REGION, which the AWS CLI and CloudShell use and boto3 does not."""
    return given or os.environ.get("AWS_REGION")


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack in an account and region, reached with the usual AWS configuration."""

    name: str
    region: str | None = None
    profile: str | None = None

    @property
    def place(self) -> str:
        """The stack and its region, for people."""
        import boto3

        region = chosen_region(self.region) or boto3.Session(profile_name=self.profile).region_name
        return f"{self.name}, {region}" if region else self.name

    def invoke(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        """The function's answer, an object. Raises InvocationFailed."""
        answer = self._call(function, event)
        if not isinstance(answer, dict):
            raise InvocationFailed(f"{self.name}-{function} answered {answer!r}")
        return answer

    def show(self, function: str, event: dict[str, Any]) -> str:
        """The function's answer, HTML. Raises InvocationFailed."""
        answer = self._call(function, event)
        if not isinstance(answer, str):
            raise InvocationFailed(f"{self.name}-{function} answered no HTML")
        return answer

    def _call(self, function: str, event: dict[str, Any]) -> Any:
        # Half a second of imports: not for --help, nor while the shell completes a word.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

        full_name = f"{self.name}-{function}"
        try:
            session = boto3.Session(region_name=chosen_region(self.region), profile_name=self.profile)
            # Nothing is sent while the function works: without keepalives a NAT or a firewall drops the connection.
            config = Config(read_timeout=READ_SECONDS, tcp_keepalive=True, retries={"total_max_attempts": 1})
            answer = session.client("lambda", config=config).invoke(
                FunctionName=full_name, Payload=json.dumps(event).encode()
            )
            payload = json.loads(answer["Payload"].read() or b"null")
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                raise InvocationFailed(
                    f"there is no function {full_name} here. Is the stack deployed (make deploy), and are --stack-name and"
                    ' --region right? For the local stack: make up, then eval "$(make -s env)"'
                ) from None
            raise InvocationFailed(str(error)) from None
        except ReadTimeoutError:
            raise InvocationFailed(
                f"{full_name} did not answer within {READ_SECONDS} seconds; it may still be at work. Look at its log: "
                f"/aws/lambda/{full_name}"
            ) from None
        except BotoCoreError as error:
            raise InvocationFailed(
                f'{error}. Check the AWS configuration, or for the local stack: eval "$(make -s env)"'
            ) from None
        # `sam local start-lambda` leaves the header out that says so.
        if "FunctionError" in answer or (isinstance(payload, dict) and {"errorType", "errorMessage"} <= payload.keys()):
            message = (payload or {}).get("errorMessage", "no message")
            raise InvocationFailed(f"{message} (details in the log group /aws/lambda/{full_name})")
        return payload
