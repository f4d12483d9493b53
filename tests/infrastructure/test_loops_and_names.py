"""The stack as a whole: loops that Lambda would stop, and names that two stacks would share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli.deploy import LONGEST_STACK_NAME
from tests.infrastructure.shapes import ROOT, shape, translated
from tests.infrastructure.test_shapes import functions, names_in, of_type

# Properties that end in Name and refer to something else than the resource itself.
NOT_ITS_NAME = {("AWS::CloudWatch::Alarm", "MetricName"), ("AWS::Lambda::EventSourceMapping", "FunctionName")}


def queues_that_invoke(resources: dict[str, Any]) -> dict[str, set[str]]:
    """By function: the queues whose messages invoke it."""
    found: dict[str, set[str]] = {name: set() for name in functions(resources)}
    for source in of_type(resources, "AWS::Lambda::EventSourceMapping").values():
        found[source["FunctionName"]["Ref"]] |= names_in(source["EventSourceArn"])
    return found


def queues_that_it_sends_to(resources: dict[str, Any]) -> dict[str, set[str]]:
    """By function: the queues whose URL it is given, and to which its role may send."""
    found = {}
    for name, function in functions(resources).items():
        known = names_in(function["Environment"]["Variables"])
        role = resources[function["Role"]["Fn::GetAtt"][0]]["Properties"]
        statements = [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]]
        may = {
            queue
            for statement in statements
            if {"sqs:SendMessage", "sqs:*", "*"} & set(_list(statement["Action"]))
            for queue in names_in(statement["Resource"])
        }
        found[name] = known & may
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def in_a_loop(resources: dict[str, Any]) -> set[str]:
    """Functions whose messages can come to invoke them again, through whatever other functions."""
    invoked_by, sends_to = queues_that_invoke(resources), queues_that_it_sends_to(resources)
    next_ones = {
        one: {other for other, queues in invoked_by.items() if queues & sends_to[one]} for one in functions(resources)
    }
    found = set()
    for start in next_ones:
        reached, seen = set(next_ones[start]), set[str]()
        while reached - seen:
            each = (reached - seen).pop()
            seen.add(each)
            reached |= next_ones[each]
        if start in reached:
            found.add(start)
    return found


def test_the_functions_of_the_loop_and_they_alone_may_recur() -> None:
    """Lambda stops a chain after about 16 invocations of a function, and its message becomes a dead letter."""
    resources = shape()
    allowed = {name for name, each in functions(resources).items() if each.get("RecursiveLoop") == "Allow"}
    assert in_a_loop(resources) == allowed == {"PlannerFunction", "ChunkWorkerFunction"}
    document = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    assert "lambda:PutFunctionRecursionConfig" in document and "lambda:GetFunctionRecursionConfig" in document


def test_where_lambda_lacks_the_setting_a_parameter_leaves_it_out() -> None:
    assert "RecursiveLoop" not in json.dumps(shape(RecursiveLoop="Unset"))


def as_stack(value: Any, name: str) -> Any:
    """A value with the stack's name put in."""
    if isinstance(value, list):
        return [as_stack(each, name) for each in value]
    if not isinstance(value, dict):
        return value
    if value == {"Ref": "AWS::StackName"}:
        return name
    if value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        return value["Fn::Sub"].replace("${AWS::StackName}", name)
    return {key: as_stack(each, name) for key, each in value.items()}


def own_names(stack: str) -> Iterator[tuple[str, str, str]]:
    """Type, property and text of every name that the template gives to a resource or an export of this stack."""
    for options in ({}, {"AlarmEmail": "me@example.com", "SubnetIds": "subnet-1a", "SecurityGroupIds": "sg-3c"}):
        for each in shape(**options).values():
            for key, value in each.get("Properties", {}).items():
                if (key == "Name" or key.endswith("Name")) and (each["Type"], key) not in NOT_ITS_NAME:
                    yield each["Type"], key, json.dumps(as_stack(value, stack))
    for output in translated()["Outputs"].values():
        if "Export" in output:
            yield "export", "Name", json.dumps(as_stack(output["Export"]["Name"], stack))


def test_two_stacks_of_an_account_share_no_name() -> None:
    one, other = set(own_names("one")), set(own_names("other"))
    assert {kind for kind, _, _ in one} >= {
        "AWS::SQS::Queue", "AWS::Lambda::Function", "AWS::Lambda::LayerVersion", "AWS::Logs::LogGroup",
        "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::Logs::QueryDefinition",
    }  # fmt: skip
    assert one & other == set()
    # Generated by CloudFormation, from the stack's name and at random.
    for schedule in of_type(shape(), "AWS::Scheduler::Schedule").values():
        assert "Name" not in schedule


def test_the_longest_stack_name_fits_into_every_name() -> None:
    """Half of a stack would be made before Lambda refuses a name of 65 characters."""
    longest = {"AWS::Lambda::Function": 64, "AWS::SQS::Queue": 80, "AWS::Lambda::LayerVersion": 140}
    name = "s" * LONGEST_STACK_NAME
    lengths = {(kind, len(json.loads(text))) for kind, _, text in own_names(name) if kind in longest}
    assert all(length <= longest[kind] for kind, length in lengths)
    assert any(length == longest[kind] for kind, length in lengths), "a longer name would fit too"


@pytest.mark.parametrize(
    ("partition", "host"),
    [
        ("aws", "console.aws.amazon.com"),
        ("aws-cn", "console.amazonaws.cn"),
        ("aws-us-gov", "console.amazonaws-us-gov.com"),
    ],
)
def test_the_dashboards_address_is_the_partitions_own(partition: str, host: str) -> None:
    text, variables = translated()["Outputs"]["DashboardUrl"]["Value"]["Fn::Sub"]
    conditions = translated()["Conditions"]
    chosen = variables["Console"]
    while isinstance(chosen, dict):
        condition, then, otherwise = chosen["Fn::If"]
        (one, other) = conditions[condition]["Fn::Equals"]
        assert one == {"Ref": "AWS::Partition"}
        chosen = then if other == partition else otherwise
    assert chosen == host
    assert text.startswith("https://${AWS::Region}.${Console}/cloudwatch/")
