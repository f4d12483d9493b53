"""Each optional part of the template, with it and without it: what CloudFormation would then create."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from local.sqs import QueueSettings
from local.template import FunctionSettings, deployed, deployment
from tests.infrastructure.shapes import refusals, shape, translated

VPC = {"SubnetIds": "subnet-1a,subnet-2b", "SecurityGroupIds": "sg-3c"}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
OPTIONS = {
    "vpc": VPC,
    "key": {"KmsKeyArn": KEY},
    "migrator secret": {"MigratorDatabaseSecretArn": "arn:migrator"},
    "iam": {"DatabaseIamUserArn": "arn:worker", "MigratorDatabaseIamUserArn": "arn:owner"},
    "boundary": {"PermissionsBoundaryArn": "arn:boundary"},
    "signing": {"CodeSigningConfigArn": "arn:signing"},
    "e-mail": {"AlarmEmail": "me@example.com"},
    "topic": {"AlarmTopicArn": "arn:topic"},
    "untraced": {"Tracing": "PassThrough"},
    "intel": {"Architecture": "x86_64"},
}


def of_type(resources: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a type, by its name."""
    return {name: each["Properties"] for name, each in resources.items() if each["Type"] == kind}


def functions(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = of_type(resources, "AWS::Lambda::Function")
    assert len(found) == 6
    return found


def roles_of_functions(resources: dict[str, Any]) -> list[dict[str, Any]]:
    return [resources[each["Role"]["Fn::GetAtt"][0]]["Properties"] for each in functions(resources).values()]


def names_in(value: Any) -> set[str]:
    """Every resource or pseudo parameter that is referred to."""
    if isinstance(value, list):
        return {name for each in value for name in names_in(each)}
    if not isinstance(value, dict):
        return set()
    if value.keys() == {"Ref"}:
        return {str(value["Ref"])}
    if value.keys() == {"Fn::GetAtt"}:
        target = value["Fn::GetAtt"]
        return {str(target.split(".")[0] if isinstance(target, str) else target[0])}
    if value.keys() == {"Fn::Sub"}:
        given = value["Fn::Sub"]
        text, own = (given, {}) if isinstance(given, str) else given
        found = {str(name).split(".")[0] for name in re.findall(r"\$\{([^!}][^}]*)\}", text)}
        return found - set(own) | names_in(own)
    return {name for each in value.values() for name in names_in(each)}


def test_no_combination_refers_to_what_it_does_not_create() -> None:
    known = {f"AWS::{name}" for name in ("AccountId", "Partition", "Region", "StackName", "URLSuffix", "StackId")}
    parameters = translated()["Parameters"].keys()
    for number in (0, 1, 2, len(OPTIONS)):
        for chosen in itertools.combinations(OPTIONS, number):
            resources = shape(**{name: value for option in chosen for name, value in OPTIONS[option].items()})
            needed = {depended for each in resources.values() for depended in listed(each.get("DependsOn", []))}
            needed |= {name for each in resources.values() for name in names_in(each["Properties"])}
            assert needed - resources.keys() - known - parameters == set(), chosen


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_without_a_vpc_no_function_is_in_one_and_no_role_may_make_network_interfaces() -> None:
    resources = shape()
    assert not [name for name, each in functions(resources).items() if "VpcConfig" in each]
    assert "NetworkAccess" not in resources
    assert "ec2:" not in json.dumps(resources)


def test_in_a_vpc_every_function_is_in_it_and_lambda_may_make_its_network_interfaces() -> None:
    resources = shape(**VPC)
    for function in functions(resources).values():
        assert function["VpcConfig"] == {"SubnetIds": ["subnet-1a", "subnet-2b"], "SecurityGroupIds": ["sg-3c"]}
    for role in roles_of_functions(resources):
        assert {"Ref": "NetworkAccess"} in role["ManagedPolicyArns"]
    allowed, denied = resources["NetworkAccess"]["Properties"]["PolicyDocument"]["Statement"]
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
    assert {
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    } == set(allowed["Action"])
    assert (allowed["Effect"], denied["Effect"], denied["Action"]) == ("Allow", "Deny", allowed["Action"])
    assert "lambda:SourceFunctionArn" in denied["Condition"]["ArnLike"]


def test_subnets_without_security_groups_are_refused_before_anything_is_made() -> None:
    assert refusals() == refusals(**VPC) == []
    for half in VPC:
        assert refusals(**{half: VPC[half]}) == ["give SubnetIds and SecurityGroupIds together, or neither"]


def test_without_a_key_everything_is_encrypted_by_keys_that_aws_manages() -> None:
    resources = shape()
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["SqsManagedSseEnabled"] is True and "KmsMasterKeyId" not in queue
    assert not {"KeyAccess", "KeySending"} & resources.keys()
    # The nested stack is told that there is no key.
    assert resources.pop("Monitoring")["Properties"]["Parameters"]["KmsKeyArn"] == ""
    assert "kms" not in json.dumps(resources).lower()


def test_a_key_encrypts_queues_logs_environments_and_alarms_and_every_role_may_use_it() -> None:
    resources = shape(KmsKeyArn=KEY, AlarmEmail="me@example.com")
    queues, logs = of_type(resources, "AWS::SQS::Queue"), of_type(resources, "AWS::Logs::LogGroup")
    assert (len(queues), len(logs)) == (3, 6)
    assert [each["KmsMasterKeyId"] for each in queues.values()] == [KEY] * 3
    # SQS takes one or the other.
    assert not [each for each in queues.values() if "SqsManagedSseEnabled" in each]
    assert [each["KmsKeyId"] for each in logs.values()] == [KEY] * 6
    assert [each["KmsKeyArn"] for each in functions(resources).values()] == [KEY] * 6
    assert [each["KmsMasterKeyId"] for each in of_type(resources, "AWS::SNS::Topic").values()] == [KEY]
    # Secrets and queue messages are opened by it, and messages are sealed.
    for name, action in (("KeyAccess", "kms:Decrypt"), ("KeySending", "kms:GenerateDataKey")):
        (statement,) = resources[name]["Properties"]["PolicyDocument"]["Statement"]
        assert statement == {"Effect": "Allow", "Action": action, "Resource": KEY}
    for role in roles_of_functions(resources):
        assert {"Ref": "KeyAccess"} in role["ManagedPolicyArns"]


def database_access(resources: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """By role of a function: every action and resource that concerns the database."""
    shared = resources["DatabaseAccess"]["Properties"]["PolicyDocument"]["Statement"]
    found = {}
    for name, function in functions(resources).items():
        role = resources[function["Role"]["Fn::GetAtt"][0]]["Properties"]
        own = [each for policy in role["Policies"] for each in policy["PolicyDocument"]["Statement"]]
        statements = own + (shared if {"Ref": "DatabaseAccess"} in role["ManagedPolicyArns"] else [])
        found[name] = [
            (each["Action"], each["Resource"])
            for each in statements
            if each["Action"] in ("secretsmanager:GetSecretValue", "rds-db:connect")
        ]
    return found


def test_the_migrator_reads_its_own_secret_and_not_the_workers() -> None:
    secrets = {"DatabaseSecretArn": "arn:worker-secret", "GitHubSecretArn": "arn:github"}
    one = shape(**secrets)
    assert {tuple(each) for each in database_access(one).values()} == {
        (("secretsmanager:GetSecretValue", "arn:worker-secret"),)
    }
    two = shape(**secrets, MigratorDatabaseSecretArn="arn:owner-secret")
    access = database_access(two)
    assert access.pop("MigratorFunction") == [("secretsmanager:GetSecretValue", "arn:owner-secret")]
    assert {tuple(each) for each in access.values()} == {(("secretsmanager:GetSecretValue", "arn:worker-secret"),)}
    environments = {n: each["Environment"]["Variables"]["DATABASE_SECRET_ARN"] for n, each in functions(two).items()}
    assert environments.pop("MigratorFunction") == "arn:owner-secret"
    assert set(environments.values()) == {"arn:worker-secret"}


def test_by_iam_a_role_may_log_in_as_its_one_database_user() -> None:
    users = {"DatabaseIamUserArn": "arn:as-worker", "MigratorDatabaseIamUserArn": "arn:as-owner"}
    access = database_access(shape(**users, MigratorDatabaseSecretArn="arn:owner-secret"))
    connects = {name: [r for action, r in each if action == "rds-db:connect"] for name, each in access.items()}
    assert connects.pop("MigratorFunction") == ["arn:as-owner"]
    assert set(map(tuple, connects.values())) == {("arn:as-worker",)}
    assert "rds-db:connect" not in json.dumps(shape())


@pytest.mark.parametrize(
    ("parameters", "topics", "action"),
    [
        ({}, 0, []),
        ({"AlarmEmail": "me@example.com"}, 1, [{"Ref": "AlarmTopic"}]),
        ({"AlarmTopicArn": "arn:topic"}, 0, ["arn:topic"]),
        ({"AlarmEmail": "me@example.com", "AlarmTopicArn": "arn:topic"}, 0, ["arn:topic"]),
    ],
    ids=["nobody", "e-mail", "topic", "both"],
)
def test_alarms_go_to_the_topic_that_is_given_or_to_the_e_mail_address(
    parameters: dict[str, str], topics: int, action: list[Any]
) -> None:
    resources = shape(**parameters)
    assert len(of_type(resources, "AWS::SNS::Topic")) == topics
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    assert alarms
    for alarm in alarms.values():
        assert (alarm["AlarmActions"], alarm["OKActions"]) == (action, action)


def test_boundary_signing_tracing_and_architecture_reach_every_function() -> None:
    plain = shape()
    assert "PermissionsBoundary" not in json.dumps(plain) and "CodeSigningConfigArn" not in json.dumps(plain)
    assert {each["TracingConfig"]["Mode"] for each in functions(plain).values()} == {"Active"}
    assert {tuple(each["Architectures"]) for each in functions(plain).values()} == {("arm64",)}
    every = shape(
        PermissionsBoundaryArn="arn:boundary",
        CodeSigningConfigArn="arn:signing",
        Tracing="PassThrough",
        Architecture="x86_64",
    )
    assert {each["PermissionsBoundary"] for each in of_type(every, "AWS::IAM::Role").values()} == {"arn:boundary"}
    assert {each["CodeSigningConfigArn"] for each in functions(every).values()} == {"arn:signing"}
    assert {tuple(each["Architectures"]) for each in functions(every).values()} == {("x86_64",)}
    assert "TracingAccess" not in every and "xray:" not in json.dumps(every)


def test_every_worker_timeout_has_a_visibility_timeout_that_outlasts_it_six_times() -> None:
    """AWS's advice: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    for seconds in translated()["Parameters"]["WorkerTimeout"]["AllowedValues"]:
        decided = deployment(shape(WorkerTimeout=str(seconds)))
        for name in ("PlannerFunction", "ChunkWorkerFunction"):
            function = decided.functions[name]
            assert function.source is not None
            assert function.timeout_seconds == int(seconds)
            assert decided.queues[function.source].visibility_seconds == 6 * int(seconds)


def test_the_settings_of_queues_and_functions_are_the_templates() -> None:
    settings = deployed()
    assert settings.queues == {
        "ChunkQueue": QueueSettings(720, 1_209_600, most_receives=5, dead_letter_queue="DeadLetterQueue"),
        "PlanQueue": QueueSettings(720, 86_400, most_receives=5, dead_letter_queue="DeadLetterQueue"),
        "DeadLetterQueue": QueueSettings(retention_seconds=1_209_600),
    }
    assert settings.functions["PlannerFunction"] == FunctionSettings(120, True, 2, "PlanQueue", 1, True)
    assert settings.functions["ChunkWorkerFunction"] == FunctionSettings(120, True, 4, "ChunkQueue", 1, True)
    assert not [name for name, each in settings.functions.items() if each.source is None and each.may_recur]


def test_a_request_that_aws_refuses_is_refused() -> None:
    resources = json.loads(json.dumps(shape()))
    resources["ChunkQueue"]["Properties"]["VisibilityTimeout"] = 60
    with pytest.raises(ValueError, match="ChunkWorkerFunction may run longer"):
        deployment(resources)
    resources["ChunkQueue"]["Properties"]["VisibilityTimeout"] = 43_201
    with pytest.raises(ValueError, match="VisibilityTimeout from 0 to 43200"):
        deployment(resources)
