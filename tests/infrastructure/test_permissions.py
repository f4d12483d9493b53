"""The permissions of each role in the template as CloudFormation sees it. One more action or wildcard is a decision."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infrastructure.shapes import translated

LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
POLL = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

# Every resource that a role's own policy names, and what the code does with it.
OWN: dict[str, dict[str, set[str]]] = {
    "MigratorRole": {
        "MigratorLogs": LOGS,
        "MigratorDatabaseSecretArn": {"secretsmanager:GetSecretValue"},
        "MigratorDatabaseIamUserArn": {"rds-db:connect"},
    },
    "PlannerRole": {
        "PlannerLogs": LOGS,
        # Lambda polls the queue as this role; the planner asks for more planning of the same backfill.
        "PlanQueue": POLL | {"sqs:SendMessage"},
        "ChunkQueue": {"sqs:SendMessage"},
        # A plan request that breaks its contract becomes a dead letter by the planner itself, with the reason. The heartbeat takes back
        # the work of dead letters.
        "DeadLetterQueue": {"sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
    },
    "ChunkWorkerRole": {
        "ChunkWorkerLogs": LOGS,
        # Deferred and retried chunks are sent again.
        "ChunkQueue": POLL | {"sqs:SendMessage"},
        "PlanQueue": {"sqs:SendMessage"},
        # A message that breaks its contract becomes a dead letter by the worker itself, with the reason.
        "DeadLetterQueue": {"sqs:SendMessage"},
    },
    "RecoveryRole": {
        "RecoveryLogs": LOGS,
        # An empty queue tells recovery that what is pending was lost.
        "ChunkQueue": {"sqs:SendMessage", "sqs:GetQueueAttributes"},
        # A dead plan request is answered by a fresh one.
        "PlanQueue": {"sqs:SendMessage"},
        # A dry run counts the dead letters.
        "DeadLetterQueue": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
    },
    "ConsoleRole": {
        "ConsoleLogs": LOGS,
        "ChunkQueue": {"sqs:SendMessage"},
        "PlanQueue": {"sqs:SendMessage"},
        # The status counts dead letters without receiving them.
        "DeadLetterQueue": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
    },
    # It shows, and cannot act: no queue is sent to, and GitHub is not asked.
    "WidgetRole": {
        "WidgetLogs": LOGS,
        "DeadLetterQueue": {"sqs:GetQueueAttributes"},
    },
    "SchedulerRole": {
        "PlannerFunction": {"lambda:InvokeFunction"},
        "RecoveryFunction": {"lambda:InvokeFunction"},
    },
}
ALL = {"MigratorRole", "PlannerRole", "ChunkWorkerRole", "RecoveryRole", "ConsoleRole", "WidgetRole"}
# The shared policies, and who has them. Recovery and the widget never ask GitHub.
SHARED = {
    "DatabaseAccess": ALL,
    "GitHubAccess": {"PlannerRole", "ChunkWorkerRole", "ConsoleRole"},
    "KeyAccess": ALL,
    # The migrator and the widget send no message.
    "KeySending": {"PlannerRole", "ChunkWorkerRole", "RecoveryRole", "ConsoleRole"},
    "TracingAccess": ALL,
    "NetworkAccess": ALL,
}
# Where a wildcard stands, and why no narrower one can.
REASONED_WILDCARDS = {
    ("NetworkAccess", "*"): "EC2 has no narrower resource for what Lambda does to attach a function to a VPC",
    ("NetworkAccess", "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-*"): (
        "whom the denial is for: every function of this stack"
    ),
    ("TracingAccess", "*"): "X-Ray has no narrower resource for sending segments",
    ("ChunkQueueOnlyByTls", "*"): "the denial is for everybody",
    ("ChunkQueueOnlyByTls", "sqs:*"): "the denial is of everything",
    ("PlanQueueOnlyByTls", "*"): "the denial is for everybody",
    ("PlanQueueOnlyByTls", "sqs:*"): "the denial is of everything",
    ("DeadLetterQueueOnlyByTls", "*"): "the denial is for everybody",
    ("DeadLetterQueueOnlyByTls", "sqs:*"): "the denial is of everything",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return dict(translated()["Resources"])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _name(resource: Any) -> str:
    """The logical id or parameter that an ARN is of."""
    return str(resource.get("Ref") or resource["Fn::GetAtt"][0])


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [s["Fn::If"][1] if "Fn::If" in s else s for s in document["Statement"]]


def test_each_role_may_do_what_its_function_does_and_nothing_else(resources: dict[str, Any]) -> None:
    roles = {name: each["Properties"] for name, each in resources.items() if each["Type"] == "AWS::IAM::Role"}
    assert roles.keys() == OWN.keys()
    for name, role in roles.items():
        granted: dict[str, set[str]] = {}
        for policy in role["Policies"]:
            for statement in _statements(policy["PolicyDocument"]):
                assert statement["Effect"] == "Allow"
                for resource in _list(statement["Resource"]):
                    granted.setdefault(_name(resource), set()).update(_list(statement["Action"]))
        assert granted == OWN[name], name


def test_the_shared_policies_go_only_where_they_are_needed(resources: dict[str, Any]) -> None:
    holders: dict[str, set[str]] = {name: set() for name in SHARED}
    for name, each in resources.items():
        for attached in each.get("Properties", {}).get("ManagedPolicyArns", []):
            for branch in attached.get("Fn::If", [None, attached])[1:]:
                if branch["Ref"] != "AWS::NoValue":
                    holders[branch["Ref"]].add(name)
    assert holders == SHARED


def test_every_function_runs_as_its_own_role(resources: dict[str, Any]) -> None:
    functions = {n: each["Properties"] for n, each in resources.items() if each["Type"] == "AWS::Lambda::Function"}
    assert len(functions) == 6
    for name, function in functions.items():
        assert function["Role"] == {"Fn::GetAtt": [name.replace("Function", "Role"), "Arn"]}


def test_every_role_takes_the_permissions_boundary(resources: dict[str, Any]) -> None:
    boundary = {"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]}
    for name, each in resources.items():
        if each["Type"] == "AWS::IAM::Role":
            assert each["Properties"]["PermissionsBoundary"] == boundary, name


def test_a_wildcard_is_on_the_reasoned_list(resources: dict[str, Any]) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    kinds = (
        "AWS::IAM::Role",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::SQS::QueuePolicy",
        "AWS::SNS::TopicPolicy",
    )
    found = {
        (name, text)
        for name, each in resources.items()
        if each["Type"] in kinds
        for text in texts(each["Properties"])
        if "*" in text
    }
    assert found == REASONED_WILDCARDS.keys()


def test_event_sources_and_schedules_survive_the_transformation(resources: dict[str, Any]) -> None:
    sources = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::Lambda::EventSourceMapping"]
    assert len(sources) == 2
    for source in sources:
        assert (source["BatchSize"], source["FunctionResponseTypes"]) == (1, ["ReportBatchItemFailures"])
    schedules = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::Scheduler::Schedule"]
    assert len(schedules) == 2
    assert {json.dumps(each["Target"]["RoleArn"]) for each in schedules} == {'{"Fn::GetAtt": ["SchedulerRole", "Arn"]}'}
