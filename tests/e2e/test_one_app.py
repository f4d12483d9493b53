"""One GitHub App on the deployed stack: its secret is put in place of a token, and each owner is read as its installation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import boto3

from local.in_process import differences
from local.simulator import Installation, generate
from local.simulator.app_keys import AppKeys
from local.stack import STACK_NAME
from tests.e2e.conftest import OneStack

NAMES = ("acme/private", "globex/private")


@contextmanager
def github_secret(text: str) -> Iterator[None]:
    """Another value of the GitHub secret of the stack."""
    client = boto3.client("secretsmanager")
    (secret,) = client.list_secrets(Filters=[{"Key": "name", "Values": [f"{STACK_NAME}/github"]}])["SecretList"]
    before = client.get_secret_value(SecretId=secret["ARN"])["SecretString"]
    client.put_secret_value(SecretId=secret["ARN"], SecretString=text)
    try:
        yield
    finally:
        client.put_secret_value(SecretId=secret["ARN"], SecretString=before)


def test_the_owners_of_two_installations_are_read_with_two_budgets(one_stack: OneStack) -> None:
    keys = AppKeys.generate()
    repositories = generate(17, dict.fromkeys(NAMES, 12))
    for each in repositories:
        each.set(isPrivate=True)
    app = keys.app(Installation("acme", 4711), Installation("globex", 4712))
    with one_stack.lent(repositories, speed=200, app=app) as running, github_secret(json.dumps(keys.secret)):
        added = running.functions.invoke("console", {"action": "add", "repositories": list(NAMES)})
        assert [each["created"] for each in added["repositories"]] == [True, True], added
        running.wait("both are completed", running.is_completed)
        assert differences(running.db, running.simulator) == []
        used = {row["identity"] for row in running.db.rows("SELECT identity FROM github_budget")}
        assert {"installation:4711", "installation:4712"} <= used
        status = running.functions.invoke("console", {"action": "status"})
        assert {each["account"] for each in status["budgets"]} >= {"acme", "globex"}
