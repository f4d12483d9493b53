"""Decides one request of one role as IAM would, by the policies of the translated template.

An unknown element, such as a condition's operator, raises ValueError. So nothing is allowed by ignorance.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.template import Resources

_LOGS = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
_POLL = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
_INTERFACES = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]
# https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
AWS_MANAGED = {
    "service-role/AWSLambdaBasicExecutionRole": _LOGS,
    "service-role/AWSLambdaSQSQueueExecutionRole": _LOGS + _POLL,
    "service-role/AWSLambdaVPCAccessExecutionRole": _LOGS + _INTERFACES,
}
_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stack is deployed."""

    stack_name: str
    account: str = "000000000000"
    region: str = "us-east-1"
    partition: str = "aws"


@dataclass(frozen=True, slots=True)
class Request:
    """An action of a role (its logical id) on a resource (its ARN), with IAM's context keys in lower case."""

    role: str
    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.role}: {self.action} on {self.resource}"


@dataclass(frozen=True, slots=True)
class Grant:
    """One action on one resource that an Allow of a role's policies names; either may hold wildcards."""

    role: str
    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class Access:
    """The policies of a stack. ``documents`` are those that stand outside of its template, by ARN."""

    resources: Resources
    place: Place
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def allows(self, request: Request) -> bool:
        """Whether IAM would allow it."""
        return self.refusal(request) is None

    def refusal(self, request: Request) -> str | None:
        """Why IAM would deny it; None where it would not."""
        identity = list(self._identity(request.role))
        boundary = self._boundary(request.role)
        by_resource = list(self._resource_statements(request))
        for each in [*identity, *(boundary or []), *by_resource]:
            if each["Effect"] == "Deny" and self._matches(each, request):
                return f"{request} is denied by a statement"
        allowing = [each for each in identity if each["Effect"] == "Allow" and self._matches(each, request)]
        by_itself = [each for each in by_resource if each["Effect"] == "Allow" and self._matches(each, request)]
        if not allowing and not by_itself:
            return f"{request} is allowed by no statement"
        if boundary is not None and not any(
            each["Effect"] == "Allow" and self._matches(each, request) for each in boundary
        ):
            return f"{request} is not within the permissions boundary"
        return None

    def roles(self) -> list[str]:
        """The logical ids of the roles."""
        return [name for name, each in self.resources.items() if each["Type"] == "AWS::IAM::Role"]

    def grants(self) -> list[Grant]:
        """The permissions of the roles' own and attached policies, one by one."""
        return [
            Grant(role, action, resource)
            for role in self.roles()
            for statement in self._identity(role)
            if statement["Effect"] == "Allow"
            for action in _list(statement["Action"])
            for resource in map(self.text, _list(statement["Resource"]))
        ]

    def used(self, grant: Grant, request: Request) -> bool:
        """Whether a request needs the permission of a grant."""
        return (
            grant.role == request.role
            and like(grant.action.lower(), request.action.lower())
            and like(grant.resource, request.resource)
        )

    def text(self, value: Any) -> str:
        """A value of the template as AWS resolves it. Raises ValueError for an unknown function."""
        if isinstance(value, str | int | float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, Mapping) and len(value) == 1:
            ((function, operand),) = value.items()
            if function == "Ref":
                return self._reference(operand)
            if function == "Fn::GetAtt":
                name, attribute = operand.split(".", 1) if isinstance(operand, str) else operand
                return self._attribute(name, attribute)
            if function == "Fn::Join":
                return str(operand[0]).join(self.text(each) for each in operand[1])
            if function == "Fn::Sub":
                pattern, names = operand if isinstance(operand, list) else (operand, {})
                return _VARIABLE.sub(lambda found: self._substitute(found[1], names), pattern)
        raise ValueError(f"cannot tell what CloudFormation makes of {value!r}")

    def _substitute(self, name: str, names: Mapping[str, Any]) -> str:
        if name in names:
            return self.text(names[name])
        if name.startswith("!"):  # literal: IAM's own variables
            return f"${{{name[1:]}}}"
        if "." in name:
            return self._attribute(*name.split(".", 1))
        return self._reference(name)

    def _reference(self, name: str) -> str:
        pseudo = {
            "AWS::StackName": self.place.stack_name,
            "AWS::AccountId": self.place.account,
            "AWS::Region": self.place.region,
            "AWS::Partition": self.place.partition,
        }
        if name in pseudo:
            return pseudo[name]
        each = self._resource(name)
        if each["Type"] == "AWS::SQS::Queue":
            return f"https://sqs.{self.place.region}.amazonaws.com/{self.place.account}/{self._name(name)}"
        if each["Type"] in ("AWS::IAM::ManagedPolicy", "AWS::SNS::Topic"):
            return self._attribute(name, "Arn")
        return self._name(name)

    def _attribute(self, name: str, attribute: str) -> str:
        if attribute.endswith("Name"):
            return self._name(name)
        pattern = {
            "AWS::SQS::Queue": "arn:{p}:sqs:{r}:{a}:{n}",
            "AWS::SNS::Topic": "arn:{p}:sns:{r}:{a}:{n}",
            "AWS::Lambda::Function": "arn:{p}:lambda:{r}:{a}:function:{n}",
            "AWS::Logs::LogGroup": "arn:{p}:logs:{r}:{a}:log-group:{n}:*",
            "AWS::IAM::Role": "arn:{p}:iam::{a}:role/{n}",
            "AWS::IAM::ManagedPolicy": "arn:{p}:iam::{a}:policy/{n}",
        }.get(self._resource(name)["Type"])
        if attribute not in ("Arn", "TopicArn") or pattern is None:
            raise ValueError(f"cannot tell the attribute {attribute} of {name}")
        place = self.place
        return pattern.format(p=place.partition, r=place.region, a=place.account, n=self._name(name))

    def _resource(self, name: str) -> Mapping[str, Any]:
        if name not in self.resources:
            raise ValueError(f"the template has no resource {name} in this shape")
        found: Mapping[str, Any] = self.resources[name]
        return found

    def _name(self, name: str) -> str:
        """The name that the template gives a resource, or one like CloudFormation's."""
        kind = self._resource(name)["Type"].rsplit("::", 1)[1]
        properties = self._resource(name).get("Properties", {})
        for key in (f"{kind}Name", "ManagedPolicyName"):
            if key in properties:
                return self.text(properties[key])
        return f"{self.place.stack_name}-{name}"

    def _identity(self, role: str) -> Iterator[Mapping[str, Any]]:
        properties = self._resource(role)["Properties"]
        for policy in properties.get("Policies", []):
            yield from _list(policy["PolicyDocument"]["Statement"])
        for attached in properties.get("ManagedPolicyArns", []):
            yield from self._document(attached)
        for each in self.resources.values():
            if each["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                holders = [self.text(holder) for holder in each["Properties"].get("Roles", [])]
                if self._name(role) in holders:
                    yield from _list(each["Properties"]["PolicyDocument"]["Statement"])

    def _boundary(self, role: str) -> list[Mapping[str, Any]] | None:
        boundary = self._resource(role)["Properties"].get("PermissionsBoundary")
        return None if boundary is None else self._document(boundary)

    def _document(self, reference: Any) -> list[Mapping[str, Any]]:
        """The statements of a managed policy, by its ARN or by reference."""
        if isinstance(reference, Mapping) and reference.get("Ref") in self.resources:
            return _list(self.resources[reference["Ref"]]["Properties"]["PolicyDocument"]["Statement"])
        arn = self.text(reference)
        if arn in self.documents:
            return _list(self.documents[arn]["Statement"])
        managed = arn.partition(":policy/")[2]
        if arn.split(":")[4:5] == ["aws"] and managed in AWS_MANAGED:
            return [{"Effect": "Allow", "Action": AWS_MANAGED[managed], "Resource": "*"}]
        raise ValueError(f"the policy {arn} is not known here")

    def _resource_statements(self, request: Request) -> Iterator[Mapping[str, Any]]:
        """Of queue policies: the statements that concern this role."""
        for each in self.resources.values():
            if each["Type"] not in ("AWS::SQS::QueuePolicy", "AWS::SQS::QueueInlinePolicy"):
                continue
            properties = each["Properties"]
            queues = _list(properties.get("Queues", properties.get("Queue")))
            if request.resource not in [self._attribute(queue["Ref"], "Arn") for queue in queues]:
                continue
            for statement in _list(properties["PolicyDocument"]["Statement"]):
                if self._concerns(statement, request.role):
                    yield statement

    def _concerns(self, statement: Mapping[str, Any], role: str) -> bool:
        if "Principal" not in statement:
            raise ValueError(f"a resource's policy without Principal: {statement}")
        principal = statement["Principal"]
        if principal == "*":
            return True
        named = [self.text(each) for each in _list(principal.get("AWS", []))]
        return "*" in named or self._attribute(role, "Arn") in named

    def _matches(self, statement: Mapping[str, Any], request: Request) -> bool:
        actions = [each.lower() for each in _list(statement.get("Action", statement.get("NotAction")))]
        if any(like(each, request.action.lower()) for each in actions) == ("Action" not in statement):
            return False
        patterns = map(self.text, _list(statement.get("Resource", statement.get("NotResource"))))
        resources = [
            each for each in (_with_variables(each, dict(request.context)) for each in patterns) if each is not None
        ]
        if any(like(each, request.resource) for each in resources) == ("Resource" not in statement):
            return False
        return all(
            self._holds(operator, key.lower(), [self.text(each) for each in _list(wanted)], dict(request.context))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )

    def _holds(self, operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
        found = context.get(key)
        if operator == "Null":
            return (found is None) == (wanted == ["true"])
        base = operator.removesuffix("IfExists")
        negated = base in _NEGATED
        base = _NEGATED.get(base, base)
        if base not in _COMPARISONS:
            raise ValueError(f"the condition operator {operator} is not known here")
        if found is None:
            return negated or operator.endswith("IfExists")
        compared = [_with_variables(each, context) for each in wanted]
        return any(each is not None and _COMPARISONS[base](each, found) for each in compared) != negated


def like(pattern: str, text: str) -> bool:
    """IAM's wildcards: ``*`` for any text, ``?`` for one character; nothing else is special."""
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(escaped, text, re.DOTALL) is not None


def arn_like(pattern: str, arn: str) -> bool:
    """Each of the six parts of an ARN by itself: a wildcard does not reach over a colon, but for the last part's."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) == 6 and all(map(like, patterns, parts))


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringEqualsIgnoreCase": lambda wanted, found: wanted.lower() == found.lower(),
    "StringLike": like,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}


def _with_variables(text: str, context: Mapping[str, str]) -> str | None:
    """IAM's policy variables put in; None where the request has no such key, and then nothing matches."""
    names = _VARIABLE.findall(text)
    if any(name.lower() not in context for name in names):
        return None
    return _VARIABLE.sub(lambda found: context[found[1].lower()], text)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
