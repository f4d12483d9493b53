"""From zero by `make deploy`'s own dialogue: a first try that fails, a second that works, and a stack that is deleted on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from local.simulator import Simulator, generate
from local.stack import ROOT, STACK_NAME
from tests.e2e.conftest import Deployed, running_stack

# Four deployments and two deletions, with SAM's own waits of half a minute between.
pytestmark = pytest.mark.soak
NAME = "octo/again"
SLOW, FAST = 0.2, 100.0


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with (
        Simulator(generate(5, {NAME: 120}), speed=SLOW) as simulator,
        running_stack(tmp_path_factory.mktemp("stack"), simulator) as running,
    ):
        yield running


def dialogue(file: Path, template: Path, *answers: str) -> subprocess.CompletedProcess[str]:
    """`python -m cli.deploy`, as `make deploy` runs it, at a terminal with a person who types."""
    person, terminal = os.openpty()
    os.write(person, "".join(f"{answer}\n" for answer in answers).encode())
    command = [sys.executable, "-m", "cli.deploy", "--file", str(file), "--template", str(template)]
    try:
        return subprocess.run(
            command, cwd=ROOT, stdin=terminal, capture_output=True, text=True, timeout=600, check=False
        )
    finally:
        os.close(person)
        os.close(terminal)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old} in {text}"
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.timeout(1800)
def test_a_stack_that_was_deleted_is_deployed_again_at_the_second_try_and_goes_on_where_it_was(
    deployed: Deployed, tmp_path: Path
) -> None:
    deployed.functions.invoke("console", {"action": "add", "repository": NAME, "chunk_size": 10})
    deployed.wait("the backfill is under way", lambda: stored(deployed) >= 10, 300)
    client = boto3.client("cloudformation")
    client.delete_stack(StackName=STACK_NAME)
    client.get_waiter("stack_delete_complete").wait(StackName=STACK_NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    assert boto3.client("lambda").list_functions()["Functions"] == []
    before = stored(deployed)
    assert 10 <= before < 120
    assert deployed.db.rows("SELECT FROM backfill_chunks WHERE status <> 'completed'") != []

    deployed.simulator.speed = FAST
    secrets = boto3.client("secretsmanager")
    secrets.create_secret(Name="backfill/worker", SecretString="postgresql://u:wrong-port@127.0.0.1:9/d")
    file, template = tmp_path / "parameters.toml", deployed.stack.folder / "build/template.yaml"
    first = dialogue(file, template, "", "-", "typing error", f"{STACK_NAME}/github", "")
    assert first.returncode == 1
    assert "typing error: Secrets Manager can't find the specified secret." in first.stderr
    # SAM breaks the reason into a column of its table.
    assert "cannot reach Postgres" in " ".join(first.stdout.split()), first.stdout
    with pytest.raises(ClientError, match="does not exist"):
        client.describe_stacks(StackName=STACK_NAME)

    # The secret is repaired, an optional parameter is set in the file, and nothing is asked any more.
    secrets.put_secret_value(SecretId="backfill/worker", SecretString=deployed.environment["DATABASE_URL"])
    edit(file, '# GitHubApiUrl = "https://api.github.com"', f'GitHubApiUrl = "{deployed.simulator.url}"')
    second = dialogue(file, template)
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr
    assert stored(deployed) >= before
    deployed.finish(600)
    deployed.assert_whole()

    third = dialogue(file, template)
    assert third.returncode == 0 and "No changes to deploy" in third.stdout, third.stdout[-3000:] + third.stderr


def stored(deployed: Deployed) -> int:
    row = deployed.db.one("SELECT count(*) AS n FROM pull_requests WHERE detail_updated_at >= updated_at")
    return int(row["n"]) if row else 0
