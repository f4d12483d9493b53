"""The AWS calls of a deployment, as requests that IAM decides on: those of functions, and those that AWS makes as their roles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local.iam import Access, Place, Request

# IAM actions whose names differ from botocore's operations:
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "lambda:Invoke": "lambda:InvokeFunction",
}
# The parameter that names the resource. A call of another service fails the check until it stands here.
RESOURCES = {"sqs": "QueueUrl", "secretsmanager": "SecretId"}
# Calls that Lambda makes as a function's role: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
# and https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
POLL = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")
TRACE = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")
ATTACH = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
# Calls that a key's policy leaves to the caller:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
KEY_ACTIONS = {
    "sqs:SendMessage": ("kms:GenerateDataKey", "kms:Decrypt"),
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    "secretsmanager:GetSecretValue": ("kms:Decrypt",),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the recorder wrote it. ``parameters`` are those that may name a resource."""

    function: str
    service: str
    operation: str
    parameters: tuple[tuple[str, str], ...]

    @property
    def action(self) -> str:
        """The IAM action."""
        action = f"{self.service}:{self.operation}"
        return ACTIONS.get(action, action)

    @property
    def named(self) -> str:
        """The resource that the caller named. Raises ValueError for an unknown call."""
        parameter, given = RESOURCES.get(self.service), dict(self.parameters)
        if parameter is None or parameter not in given:
            raise ValueError(
                f"{self.function} calls {self.action}: add what names its resource to {__name__}.RESOURCES"
            )
        if not given[parameter].startswith(("arn:", "http")):
            raise ValueError(
                f"{self.function} calls {self.action} on {given[parameter]}: neither an ARN nor a queue's URL"
            )
        return given[parameter]


def read(file: Path) -> set[Call]:
    """The different calls that the recorder wrote."""
    if not file.exists():
        return set()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {
        Call(each["function"], each["service"], each["operation"], tuple(sorted(each["parameters"].items())))
        for each in lines
    }


def of_functions(access: Access, calls: set[Call]) -> set[Request]:
    """The requests of the functions' code, with the context that AWS adds to them."""
    place, found = access.place, set()
    for call in calls:
        name = _function(access, call.function)
        arn = access.text({"Fn::GetAtt": [name, "Arn"]})
        role = access.resources[name]["Properties"]["Role"]["Fn::GetAtt"][0]
        context = (("aws:securetransport", "true"), ("lambda:sourcefunctionarn", arn))
        found.add(Request(role, call.action, _arn(place, call.named), context))
    return found


def elsewhere(access: Access, calls: set[Call], other: Access) -> set[Call]:
    """The same calls in a stack with other parameters. The variables of a function name the resources of its calls."""
    found = set()
    for call in calls:
        name = _function(access, call.function)
        variables = access.resources[name]["Properties"]["Environment"]["Variables"]
        resource = _arn(access.place, call.named)
        meant = [each for each in variables if _names(access, variables[each], resource)]
        if not meant:
            raise ValueError(f"{call.function} calls {call.action} on {call.named}, which no variable of it names")
        there = other.resources[name]["Properties"]["Environment"]["Variables"][meant[0]]
        found.add(replace(call, parameters=((RESOURCES[call.service], other.text(there)),)))
    return found


def of_aws(access: Access) -> set[Request]:
    """AWS's own calls as the roles of the template: it polls, logs, traces, attaches to a network, and invokes."""
    found: set[Request] = set()
    for name, each in access.resources.items():
        properties = each.get("Properties", {})
        if each["Type"] == "AWS::Lambda::Function":
            found |= _of_lambda(access, name)
        elif each["Type"] == "AWS::Lambda::EventSourceMapping":
            function = access.resources[properties["FunctionName"]["Ref"]]["Properties"]
            found |= _as_role(access, function["Role"], POLL, access.text(properties["EventSourceArn"]))
        elif each["Type"] == "AWS::Scheduler::Schedule":
            target = properties["Target"]
            found |= _as_role(access, target["RoleArn"], ["lambda:InvokeFunction"], access.text(target["Arn"]))
    return found


def of_keys(requests: set[Request], key: str) -> set[Request]:
    """The calls to ``key`` that encrypted queues and secrets make in the caller's name."""
    return {
        replace(each, action=action, resource=key) for each in requests for action in KEY_ACTIONS.get(each.action, ())
    }


def _of_lambda(access: Access, name: str) -> set[Request]:
    properties = access.resources[name]["Properties"]
    place, function = access.place, access.text(properties["FunctionName"])
    stream = (
        f"arn:{place.partition}:logs:{place.region}:{place.account}:log-group:/aws/lambda/{function}:log-stream:any"
    )
    found = _as_role(access, properties["Role"], LOG, stream)
    if properties.get("TracingConfig", {}).get("Mode") == "Active":
        found |= _as_role(access, properties["Role"], TRACE, "*")
    if "VpcConfig" in properties:
        found |= _as_role(access, properties["Role"], ATTACH, "*")
    return found


def _as_role(access: Access, role: Mapping[str, Any], actions: Iterable[str], resource: str) -> set[Request]:
    logical_id = str(role["Fn::GetAtt"][0])
    return {Request(logical_id, action, resource, (("aws:securetransport", "true"),)) for action in actions}


def _function(access: Access, name: str) -> str:
    """The logical id of the function with this name."""
    for logical_id, each in access.resources.items():
        if each["Type"] == "AWS::Lambda::Function" and access.text(each["Properties"]["FunctionName"]) == name:
            return logical_id
    raise ValueError(f"the template has no function {name}")


def _names(access: Access, value: Any, resource: str) -> bool:
    text = access.text(value)
    return text.startswith(("arn:", "https://sqs.")) and _arn(access.place, text) == resource


def _arn(place: Place, named: str) -> str:
    """The ARN that an ARN or a queue's URL means."""
    if named.startswith("arn:"):
        return named
    account, queue = named.rsplit("/", 2)[1:]
    return f"arn:{place.partition}:sqs:{place.region}:{account}:{queue}"
