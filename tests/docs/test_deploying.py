"""docs/deploying.md quotes errors as they are, and says what no code of ours can repair."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
OURS = [*(ROOT / "layers/shared/backfill").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
# Of OpenSSL, Postgres and AWS. tests/integration/test_database_safety.py meets those of OpenSSL.
OF_OTHERS = (
    "cannot be trusted: certificate verify failed: unable to get local issuer certificate",
    "self-signed certificate in certificate chain",
    "Hostname mismatch",
    "Basic Constraints of CA cert not marked critical",
    "Missing Authority Key Identifier",
    "AccessDeniedException",
    "permission denied for schema public",
    "canceling statement due to lock timeout",
    "did not receive a response from your Custom Resource",
    "You must wait 60 seconds after deleting a queue",
    "is not authorized to perform: lambda:PutFunctionRecursionConfig",
    "RecursiveLoop",
    "PutFunctionRecursionConfig",
)


def quoted() -> Iterator[str]:
    """The messages in the table of failed deployments."""
    (table,) = re.findall(r"\| what the event says .*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    for row in table.splitlines():
        yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


@pytest.mark.parametrize("message", list(quoted()))
def test_every_quoted_error_is_one_that_somebody_can_meet(message: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in OURS]
    # The code fills in names and numbers.
    for part in (each.strip() for each in re.split(r"…|\d+|: |[()']", message)):
        if part and not any(part in text for text in texts):
            assert any(part in other for other in OF_OTHERS), part


@pytest.mark.parametrize(
    "fact",
    [
        "has about ten concurrent executions",
        "`You must wait 60 seconds after deleting a queue`",
        "CloudWatch asks each viewer once",
        "Two stacks on one database share every table",
        "Secrets Manager completes a shorter one; IAM does not",
        "Outside a VPC, Lambda has no IPv6",
        "RDS Proxy** works but has no advantage",
        "`sam build` alone ends with `uv is not on the PATH`",
    ],
)
def test_the_page_tells_what_surprises_a_first_deployment(fact: str) -> None:
    assert fact in PAGE
