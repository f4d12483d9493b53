"""What AWS or its client says when it cannot be asked, or refuses: a sentence for people, and what to do."""

from __future__ import annotations

from typing import NamedTuple

# AWS's error codes, over all services that the commands ask.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
UNKNOWN_KEY = frozenset(
    {"AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"}
)
WRONG_SIGNATURE = frozenset(
    {"IncompleteSignature", "InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"}
    | {"SignatureDoesNotMatch"}
)
BAD_CREDENTIALS = EXPIRED | UNKNOWN_KEY | WRONG_SIGNATURE
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"})
THROTTLED = frozenset({"Throttling", "ThrottlingException", "TooManyRequestsException"})

LOG_IN = "Log in again (aws sso login), or choose another profile: --profile, AWS_PROFILE"


class Failure(NamedTuple):
    """``found`` says what failed and why, ``advice`` what to do."""

    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found.removesuffix('.')}. {self.advice}"


def code_of(error: Exception) -> str:
    """AWS's code of a refusal; empty for an error of the client."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def client_errors() -> tuple[type[Exception], ...]:
    """What botocore raises for a call that AWS did not answer. An answer that is not AWS's has a type apart."""
    from botocore.exceptions import BotoCoreError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ResponseParserError


def explained(error: Exception) -> Failure:
    """A botocore error in words."""
    code = code_of(error)
    return _refused(error, code) if code else _not_asked(error)


def _refused(error: Exception, code: str) -> Failure:
    words = getattr(error, "response", {}).get("Error", {}).get("Message") or str(error)
    if code in EXPIRED:
        return Failure(f"AWS refuses the credentials: the session has expired ({code})", LOG_IN)
    if code in UNKNOWN_KEY:
        return Failure(f"AWS refuses the credentials: it does not know the access key ({code})", LOG_IN)
    if code in WRONG_SIGNATURE:
        return Failure(
            f"AWS refuses the credentials: {words} ({code})",
            "The secret access key is wrong, or this machine's clock is: compare date -u. Else log in again",
        )
    if code in DENIED:
        return Failure(
            f"AWS does not allow this to your credentials: {words} ({code})",
            "Ask for the permission (docs/operations.md, who may look and who may act), or choose another profile:"
            " --profile, AWS_PROFILE",
        )
    if code in THROTTLED:
        return Failure(f"AWS takes no more calls for the moment: {words} ({code})", "Try again in a minute")
    return Failure(f"{words} ({code})", "Check --stack-name, --region and --profile; a local stack: make up")


def _not_asked(error: Exception) -> Failure:
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ProfileNotFound):
        return Failure(
            f"AWS cannot be asked: there is no profile {error.kwargs['profile']!r} on this machine",
            "List them with aws configure list-profiles, and choose one: --profile, AWS_PROFILE",
        )
    if isinstance(error, exceptions.NoRegionError):
        return Failure(
            "AWS cannot be asked: no region is chosen",
            "Choose that of the stack: --region, or export AWS_REGION=eu-west-1; a local stack: make up",
        )
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        missing = error.kwargs.get("cred_var")
        return Failure(
            f"AWS cannot be asked: {f'{missing} is missing' if missing else 'this machine has no credentials'}",
            "Log in (aws sso login, or aws configure), or choose a profile: --profile, AWS_PROFILE; a local stack: make up",
        )
    if isinstance(error, exceptions.SSOError | exceptions.TokenRetrievalError | exceptions.NoAuthTokenError):
        return Failure("AWS cannot be asked: the session of aws sso login has expired, or was never begun", LOG_IN)
    if isinstance(error, exceptions.CredentialRetrievalError):
        return Failure(f"AWS cannot be asked: the credentials could not be read: {error}", LOG_IN)
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return Failure(
            f"AWS cannot be reached: {error}",
            "Check the network, the proxy, --region and AWS_ENDPOINT_URL; a local stack: make up",
        )
    if isinstance(error, ResponseParserError):
        return Failure(
            "AWS cannot be asked: the answer is not from AWS, or not from this service",
            "Check AWS_ENDPOINT_URL and the proxy. sam local start-lambda answers calls of functions alone: unset"
            " AWS_ENDPOINT_URL and STACK_NAME for doctor and logs",
        )
    return Failure(str(error), "Check the AWS configuration (aws sts get-caller-identity); a local stack: make up")
