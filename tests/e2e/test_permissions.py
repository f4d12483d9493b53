"""Every AWS call that the functions make on the deployed template, decided by their roles as IAM would decide it.

The local AWS allows everything. `reached_stack` checks the calls of each stack. The tests below use every permission of the template.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backfill.model import Origin
from backfill.store import backfills, chunks, repositories
from local import aws_calls
from local.aws_calls import Call
from local.iam import Access, Grant, Request
from local.simulator import generate
from local.stack import STACK_NAME
from tests.e2e.conftest import Deployed, OneStack, stack_access

# The stack may be built and deployed for this file.
pytestmark = pytest.mark.timeout(900)
NAME = "octo/permitted"
KEY = "arn:aws:kms:us-east-1:000000000000:key/11111111-1111-1111-1111-111111111111"
DATABASE_USER = "arn:aws:rds-db:us-east-1:000000000000:dbuser:db-ABC/app"
OWNER_USER = "arn:aws:rds-db:us-east-1:000000000000:dbuser:db-ABC/owner"
# Every condition of the template that grants something is met.
EVERYTHING = {
    "DatabaseSecretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:database-AAAAAA",
    "GitHubSecretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:github-BBBBBB",
    "MigratorDatabaseSecretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:owner-CCCCCC",
    "DatabaseIamUserArn": DATABASE_USER,
    "MigratorDatabaseIamUserArn": OWNER_USER,
    "KmsKeyArn": KEY,
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
}
_LOGIN = "Postgres asks IAM itself when a token of RDS logs in. The local Postgres takes passwords."
# A permission that no call needs here, and why the template has it nevertheless.
UNUSED = {
    **{
        Grant(role, "rds-db:connect", DATABASE_USER): _LOGIN
        for role in ("PlannerRole", "ChunkWorkerRole", "RecoveryRole", "ConsoleRole", "WidgetRole")
    },
    Grant("MigratorRole", "rds-db:connect", OWNER_USER): _LOGIN,
}


@pytest.fixture(scope="module")
def deployed(one_stack: OneStack) -> Iterator[Deployed]:
    # A heartbeat would take the dead letters before the tests look at them.
    with one_stack.lent(generate(7, {NAME: 30}), speed=1000, heartbeat="DISABLED") as running:
        yield running


def chunks_of_messages(deployed: Deployed) -> list[str]:
    rows = deployed.db.rows("SELECT status FROM backfill_chunks WHERE origin = 'message'")
    return [row["status"] for row in rows]


@pytest.fixture(scope="module")
def calls(deployed: Deployed) -> set[Call]:
    """The calls of a run in which every function does all that it can do."""
    invoke, queues = deployed.functions.invoke, deployed.environment
    (held,) = deployed.simulator.repositories.values()
    first, second, *others = list(held.pull_requests)[:5]

    def send(queue: str, **body: object) -> None:
        deployed.sqs.send_message(QueueUrl=queues[queue], MessageBody=json.dumps(body))

    # The planner cuts and asks for more; workers ask for planning.
    invoke("console", {"action": "add", "repository": NAME, "chunk_size": 5})
    deployed.wait("the backfill is completed", deployed.is_completed, 300)
    repository = repositories.find(deployed.db, *NAME.split("/"))
    assert repository is not None
    backfill = backfills.of_repository(deployed.db, repository.id)
    assert backfill is not None
    # A sync request becomes a chunk, which the worker sends.
    invoke("console", {"action": "sync", "repository": NAME, "pr_numbers": [first]})
    deployed.wait("the sync request is done", lambda: chunks_of_messages(deployed) == ["completed"])
    # Messages that break their contract are dead letters.
    send("PLAN_QUEUE_URL", schema_version=9)
    send("CHUNK_QUEUE_URL", schema_version=9)
    deployed.wait("two dead letters", lambda: deployed.dead_letters() == 2)
    invoke("console", {"action": "status"})
    assert len(invoke("console", {"action": "dead_letters"})["dead_letters"]) == 2
    invoke("console", {"action": "discard"})
    # The heartbeat and recovery take back the work of others.
    for function in ("planner", "recovery"):
        send("DEAD_LETTER_QUEUE_URL", schema_version=1, repository=NAME, pr_numbers=[second])
        send("DEAD_LETTER_QUEUE_URL", schema_version=1, repository=NAME)
        deployed.wait("the letters are there", lambda: deployed.dead_letters() == 2)
        invoke(function, {})
        assert deployed.dead_letters() == 0
    # Recovery sends what was left. A worker that is still at the letters may be first, so there are several.
    for number in others:
        chunks.create(deployed.db, backfill.id, [number], origin=Origin.MESSAGE)
        if invoke("recovery", {})["sent"] == 1:
            break
    else:
        raise AssertionError("recovery sent nothing")
    invoke("recovery", {"dry_run": True})
    deployed.functions.show(
        "widget", {"describe": False, "widgetContext": {"dashboardName": "x", "theme": "light", "forms": {"all": {}}}}
    )
    return aws_calls.read(deployed.stack.calls)


@pytest.fixture(scope="module")
def everything() -> Access:
    return stack_access(EVERYTHING)


@pytest.fixture(scope="module")
def requests(deployed: Deployed, calls: set[Call], everything: Access) -> set[Request]:
    """All that functions and AWS ask of the roles, where every condition of the template is met."""
    there = aws_calls.elsewhere(stack_access(deployed.parameters), calls, everything)
    asked = aws_calls.of_functions(everything, there) | aws_calls.of_aws(everything)
    return asked | aws_calls.of_keys(asked, KEY)


def test_the_calls_of_every_function_are_recorded(calls: set[Call]) -> None:
    names = {"migrator", "planner", "chunk-worker", "recovery", "console", "widget"}
    assert {call.function for call in calls} == {f"{STACK_NAME}-{name}" for name in names}


def test_no_call_is_denied_where_every_condition_of_the_template_is_met(
    everything: Access, requests: set[Request]
) -> None:
    assert denied(everything, requests) == []


def denied(access: Access, requests: set[Request]) -> list[str]:
    return sorted(refusal for each in requests if (refusal := access.refusal(each)) is not None)


def test_every_permission_is_used_or_has_its_reason(everything: Access, requests: set[Request]) -> None:
    unused = {grant for grant in everything.grants() if not any(everything.used(grant, each) for each in requests)}
    for grant in sorted(unused, key=str):
        print(f"not used: {grant.role} {grant.action} {grant.resource}: {UNUSED.get(grant, 'NO REASON')}")
    assert unused == UNUSED.keys()


def without(access: Access, statement: tuple[str, int]) -> Access:
    """The stack without one statement of one role or policy."""
    name, number = statement
    resources = copy.deepcopy(dict(access.resources))
    properties = resources[name]["Properties"]
    documents = [each["PolicyDocument"] for each in properties.get("Policies", [properties])]
    del documents[0]["Statement"][number]
    return Access(resources, access.place)


def test_a_template_that_lacks_any_one_statement_fails_the_check(everything: Access, requests: set[Request]) -> None:
    unnoticed = [
        (name, number)
        for name, each in everything.resources.items()
        if each["Type"] in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
        for number, statement in enumerate(_statements(each["Properties"]))
        if statement["Effect"] == "Allow" and statement["Action"] != "rds-db:connect"
        if not denied(without(everything, (name, number)), requests)
    ]
    assert unnoticed == []


def _statements(properties: dict[str, Any]) -> list[dict[str, Any]]:
    (document,) = [each["PolicyDocument"] for each in properties.get("Policies", [properties])]
    return list(document["Statement"])


def test_the_code_of_a_function_may_not_use_what_lambda_needs_for_the_network(everything: Access) -> None:
    function = everything.text({"Fn::GetAtt": ["PlannerFunction", "Arn"]})
    by_aws = Request("PlannerRole", "ec2:CreateNetworkInterface", "*")
    assert everything.allows(by_aws)
    assert not everything.allows(replace(by_aws, context=(("lambda:sourcefunctionarn", function),)))
