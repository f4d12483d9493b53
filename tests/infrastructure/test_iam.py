"""The local decisions of IAM, on small policies, and AWS's own calls as the roles of the template."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local import aws_calls
from local.aws_calls import Call
from local.iam import Access, Place, Request, arn_like, like
from local.stack import RECORDER, STACK_NAME, Stack
from local.template import ROOT, shape
from tests.e2e.conftest import assert_no_call_is_denied

QUEUE = {"Fn::GetAtt": ["Queue", "Arn"]}
ARN = "arn:aws:sqs:us-east-1:000000000000:stack-Queue"
BOUNDARY = "arn:aws:iam::000000000000:policy/boundary"
ALLOW_SEND = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": QUEUE}
DENY_ALL = {"Effect": "Deny", "Action": "*", "Resource": "*"}
PLACE = Place("stack")


def access(
    *statements: dict[str, Any], resources: dict[str, Any] | None = None, boundary: Any = None, **role: Any
) -> Access:
    properties = {"Policies": [{"PolicyDocument": {"Statement": list(statements)}}], **role}
    documents = {}
    if boundary is not None:
        properties["PermissionsBoundary"] = BOUNDARY
        documents[BOUNDARY] = {"Statement": boundary}
    queue = {"Type": "AWS::SQS::Queue", "Properties": {}}
    made = {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}, "Queue": queue, **(resources or {})}
    return Access(made, PLACE, documents)


def send(**context: str) -> Request:
    return Request("Role", "sqs:SendMessage", ARN, tuple(context.items()))


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        (ALLOW_SEND, True),
        ({**ALLOW_SEND, "Action": ["SQS:sendmessage"]}, True),
        ({**ALLOW_SEND, "Action": "sqs:Send*"}, True),
        ({**ALLOW_SEND, "Action": "sqs:ReceiveMessage"}, False),
        ({**ALLOW_SEND, "Resource": "*"}, True),
        ({**ALLOW_SEND, "Resource": ["arn:aws:sqs:*:000000000000:stack-?ueue"]}, True),
        ({**ALLOW_SEND, "Resource": "arn:aws:sqs:us-east-1:000000000000:STACK-Queue"}, False),
        (
            {**ALLOW_SEND, "Resource": {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:*:${AWS::StackName}-*"}},
            True,
        ),
        ({**ALLOW_SEND, "Resource": {"Fn::Sub": ["${Any}", {"Any": {"Fn::GetAtt": "Queue.Arn"}}]}}, True),
        ({**ALLOW_SEND, "Resource": {"Fn::Join": [":", ["arn", "aws", "sqs", "*", "*", "stack-Queue"]]}}, True),
        ({**ALLOW_SEND, "Resource": {"Ref": "Queue"}}, False),  # a queue's Ref is its URL
        ({"Effect": "Allow", "NotAction": "sqs:DeleteQueue", "Resource": "*"}, True),
        ({"Effect": "Allow", "NotAction": "sqs:*", "Resource": "*"}, False),
        ({"Effect": "Allow", "Action": "sqs:*", "NotResource": QUEUE}, False),
    ],
)
def test_an_action_needs_a_statement_that_names_it_and_its_resource(statement: dict[str, Any], allowed: bool) -> None:
    assert access(statement).allows(send()) is allowed


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"StringEquals": {"aws:Who": "me"}}, True),
        ({"StringEquals": {"aws:Who": ["you", "me"]}}, True),
        ({"StringEquals": {"aws:Who": "you"}}, False),
        ({"StringNotEquals": {"aws:Who": ["you", "me"]}}, False),
        ({"StringLike": {"AWS:WHO": "m?"}}, True),
        ({"StringEquals": {"aws:Absent": "me"}}, False),
        ({"StringEqualsIfExists": {"aws:Absent": "me"}}, True),
        ({"StringNotEquals": {"aws:Absent": "me"}}, True),
        ({"Null": {"aws:Absent": "true"}}, True),
        ({"Null": {"aws:Who": True}}, False),
        ({"Bool": {"aws:Safe": False}}, False),
        ({"ArnLike": {"aws:Arn": "arn:aws:lambda:*:*:function:x-*"}}, True),
        ({"ArnLike": {"aws:Arn": "arn:aws:*:x-one"}}, False),
        ({"StringEquals": {"aws:Who": "me"}, "Bool": {"aws:Safe": "false"}}, False),
    ],
)
def test_a_statement_counts_where_all_its_conditions_hold(condition: dict[str, Any], allowed: bool) -> None:
    request = send(**{"aws:who": "me", "aws:safe": "true", "aws:arn": "arn:aws:lambda:r:a:function:x-one"})
    assert access({**ALLOW_SEND, "Condition": condition}).allows(request) is allowed


def test_a_denial_outweighs_every_permission() -> None:
    assert not access(ALLOW_SEND, DENY_ALL).allows(send())
    policy = {
        "Type": "AWS::SQS::QueuePolicy",
        "Properties": {
            "Queues": [{"Ref": "Queue"}],
            "PolicyDocument": {
                "Statement": [{**DENY_ALL, "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": False}}}]
            },
        },
    }
    guarded = access(ALLOW_SEND, resources={"Policy": policy})
    assert guarded.allows(send(**{"aws:securetransport": "true"}))
    assert not guarded.allows(send(**{"aws:securetransport": "false"}))


def test_a_boundary_takes_away_what_it_does_not_name() -> None:
    assert access(ALLOW_SEND, boundary=[{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}]).allows(send())
    assert not access(ALLOW_SEND, boundary=[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]).allows(send())
    assert not access(boundary=[ALLOW_SEND]).allows(send())


def test_policies_of_aws_and_of_the_template_are_attached_by_reference() -> None:
    aws = "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"
    receive = Request("Role", "sqs:ReceiveMessage", ARN)
    assert access(ManagedPolicyArns=[{"Fn::Sub": aws.replace(":aws:", ":${AWS::Partition}:", 1)}]).allows(receive)
    assert not access(ManagedPolicyArns=[aws]).allows(send())
    own = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": {"Statement": ALLOW_SEND}}}
    assert access(resources={"Own": own}, ManagedPolicyArns=[{"Ref": "Own"}]).allows(send())
    own["Properties"]["Roles"] = [{"Ref": "Role"}]  # type: ignore[index]
    assert access(resources={"Own": own}).allows(send())


@pytest.mark.parametrize(
    "unknown",
    [
        {"ManagedPolicyArns": ["arn:aws:iam::aws:policy/PowerUserAccess"]},
        {"PermissionsBoundary": "arn:aws:iam::000000000000:policy/elsewhere"},
        {"Policies": [{"PolicyDocument": {"Statement": {**ALLOW_SEND, "Resource": {"Fn::ImportValue": "x"}}}}]},
        {
            "Policies": [
                {"PolicyDocument": {"Statement": {**ALLOW_SEND, "Condition": {"DateLessThan": {"aws:x": "1"}}}}}
            ]
        },
    ],
)
def test_an_unknown_element_is_an_error_and_grants_nothing(unknown: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not known|cannot tell"):
        access(**unknown).allows(send())


def test_wildcards_are_those_of_iam() -> None:
    assert like("a*[b]?", "a--[b]c")
    assert not like("a*[b]?", "a--bc")
    assert arn_like("arn:aws:logs:*:*:log-group:*", "arn:aws:logs:r:a:log-group:x:log-stream:y")


SHAPES = [
    {},
    {"Tracing": "PassThrough"},
    {"SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"},
    {"MigratorDatabaseSecretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:owner-AAAAAA"},
    {"KmsKeyArn": "arn:aws:kms:us-east-1:000000000000:key/1"},
]


@pytest.mark.parametrize("parameters", SHAPES, ids=lambda each: ",".join(each) or "default")
def test_aws_may_do_as_each_role_what_it_does_in_the_background(parameters: dict[str, str]) -> None:
    stack = Access(shape(**parameters), Place("stack"))
    requests = aws_calls.of_aws(stack)
    assert {each.role for each in requests} == set(stack.roles())
    key = parameters.get("KmsKeyArn")
    requests |= aws_calls.of_keys(requests, key) if key else set()
    assert [stack.refusal(each) for each in requests if not stack.allows(each)] == []


def test_a_call_of_a_function_needs_its_own_role() -> None:
    """The planner reads its secret and asks for planning; the widget may not."""
    stack = Access(shape(), Place("stack"))
    url = (("QueueUrl", "http://127.0.0.1:4566/000000000000/stack-plans"),)
    calls = {name: Call(f"stack-{name}", "sqs", "SendMessage", url) for name in ("planner", "widget")}
    refused = {name: stack.refusal(*aws_calls.of_functions(stack, {each})) for name, each in calls.items()}
    assert refused == {
        "planner": None,
        "widget": "WidgetRole: sqs:SendMessage on arn:aws:sqs:us-east-1:000000000000:stack-plans is allowed by no statement",
    }


@pytest.mark.parametrize(
    "call",
    [
        Call("stack-planner", "s3", "PutObject", (("Bucket", "x"),)),
        Call("stack-planner", "sqs", "ListQueues", ()),
        Call("stack-planner", "secretsmanager", "GetSecretValue", (("SecretId", "database"),)),
        Call("another-planner", "sqs", "SendMessage", (("QueueUrl", "http://x/0/stack-plans"),)),
    ],
)
def test_a_call_that_the_check_does_not_know_fails_it(call: Call) -> None:
    with pytest.raises(ValueError, match=call.function):
        aws_calls.of_functions(Access(shape(), Place("stack")), {call})


def recorded(tmp_path: Path, **environment: str) -> set[Call]:
    """The calls of a process that starts as a function of the local AWS does."""
    file = tmp_path / "calls.jsonl"
    code = (
        "import boto3\nfrom botocore.exceptions import BotoCoreError\n"
        "sqs = boto3.client('sqs', region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x',\n"
        "    endpoint_url='http://127.0.0.1:9', config=__import__('botocore.config').config.Config(retries={'total_max_attempts': 1}))\n"
        "try:\n    sqs.send_message_batch(QueueUrl='http://127.0.0.1:9/0/q', Entries=[{'Id': '1', 'MessageBody': 'secret'}])\n"
        "except BotoCoreError:\n    pass\n"
    )
    own = {**os.environ, "PYTHONPATH": str(RECORDER), "AWS_CALLS_FILE": str(file), **environment}
    subprocess.run([sys.executable, "-c", code], env=own, check=True, cwd=ROOT, timeout=60)
    assert not file.exists() or "secret" not in file.read_text(encoding="utf-8")
    return aws_calls.read(file)


def test_the_recorder_writes_calls_of_functions_also_those_that_fail(tmp_path: Path) -> None:
    call = Call("stack-planner", "sqs", "SendMessageBatch", (("QueueUrl", "http://127.0.0.1:9/0/q"),))
    assert recorded(tmp_path, AWS_LAMBDA_FUNCTION_NAME="stack-planner") == {call}
    assert call.action == "sqs:SendMessage"


def test_the_recorder_does_nothing_outside_of_a_function(tmp_path: Path) -> None:
    assert recorded(tmp_path) == set()


def test_a_stack_whose_function_calls_what_its_role_may_not_fails_its_test(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:database-AAAAAA"

    def write(function: str, service: str, operation: str, **named: str) -> None:
        line = {"function": f"{STACK_NAME}-{function}", "service": service, "operation": operation, "parameters": named}
        with stack.calls.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    with pytest.raises(AssertionError, match="no call was recorded"):
        assert_no_call_is_denied(stack, {"DatabaseSecretArn": secret})
    write("migrator", "secretsmanager", "GetSecretValue", SecretId=secret)
    assert_no_call_is_denied(stack, {"DatabaseSecretArn": secret})
    with pytest.raises(AssertionError, match="MigratorRole: secretsmanager:GetSecretValue"):
        assert_no_call_is_denied(stack, {"DatabaseSecretArn": secret.replace("AAAAAA", "BBBBBB")})
    write("widget", "sqs", "SendMessage", QueueUrl=f"http://127.0.0.1:4566/000000000000/{STACK_NAME}-plans")
    with pytest.raises(AssertionError, match="WidgetRole: sqs:SendMessage"):
        assert_no_call_is_denied(stack, {"DatabaseSecretArn": secret})


def test_nothing_of_the_recorder_is_packaged() -> None:
    for folder in ("functions", "layers", "migrations"):
        assert not any((ROOT / folder).rglob("sitecustomize.py"))
    assert "sitecustomize" not in json.dumps(shape())
