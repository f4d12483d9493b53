"""The template as CloudFormation gets it from SAM, as parameters decide it, with its settings of queues and functions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from local.sqs import MOST_MESSAGE_BYTES, QueueSettings

ROOT = Path(__file__).parents[1]
NOTHING = {"Ref": "AWS::NoValue"}
# Conditions that the template and its nested stack both have, with the same meaning.
SAME_CONDITIONS = {"HasKmsKey"}
Resources = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """A function of the template, and the event source mapping that invokes it, if there is one."""

    timeout_seconds: int = 3
    may_recur: bool = False
    most_concurrent: int | None = None
    source: str | None = None
    batch_size: int = 10
    reports_failures: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """The template's settings, by logical id."""

    queues: Mapping[str, QueueSettings] = field(default_factory=dict)
    functions: Mapping[str, FunctionSettings] = field(default_factory=dict)


@cache
def translated() -> dict[str, Any]:
    """The template after SAM's transformation, which adds roles and policies of its own where there is room for them.

    The resources and conditions of the nested stack are among its own.
    """
    plain = _parsed("template.yaml")
    for each in plain["Resources"].values():
        for code in ("CodeUri", "ContentUri"):
            if code in each.get("Properties", {}):
                each["Properties"][code] = "s3://bucket/key"
    with _region("us-east-1"):
        whole: dict[str, Any] = Translator({}, Parser()).translate(plain, {})
    inner = monitoring()
    for part in ("Resources", "Conditions"):
        if both := whole[part].keys() & inner[part].keys() - SAME_CONDITIONS:
            raise ValueError(f"template.yaml and monitoring.yaml both have {sorted(both)}")
        whole[part] |= inner[part]
    return whole


@cache
def monitoring() -> dict[str, Any]:
    """The nested stack. It names the outer stack as the outer stack names itself."""
    text = json.dumps(_parsed("monitoring.yaml"))
    return dict(
        json.loads(text.replace("${MonitoredStack}", "${AWS::StackName}").replace("MonitoredStack", "AWS::StackName"))
    )


def _parsed(name: str) -> dict[str, Any]:
    return dict(json.loads(json.dumps(yaml_parse((ROOT / name).read_text(encoding="utf-8")))))


@contextmanager
def _region(name: str) -> Iterator[None]:
    """The translator asks boto3 for a region."""
    before = os.environ.get("AWS_DEFAULT_REGION")
    os.environ["AWS_DEFAULT_REGION"] = name
    try:
        yield
    finally:
        del os.environ["AWS_DEFAULT_REGION"]
        if before is not None:
            os.environ["AWS_DEFAULT_REGION"] = before


def shape(**parameters: str) -> dict[str, Any]:
    """The resources of a deployment with these parameters: conditions decided, parameters and mappings put in, what is
    absent left out."""
    values, conditions = _values(parameters), translated()["Conditions"]
    return {
        name: _decided(each, values)
        for name, each in translated()["Resources"].items()
        if "Condition" not in each or _holds(conditions[each["Condition"]], values)
    }


def refusals(**parameters: str) -> list[str]:
    """CloudFormation's objections to these parameters, before it creates anything."""
    return [
        each["AssertDescription"]
        for rule in translated()["Rules"].values()
        for each in rule["Assertions"]
        if not _holds(each["Assert"], _values(parameters))
    ]


@cache
def deployed() -> Deployment:
    """The template's settings with its defaults."""
    return deployment(shape())


def deployment(resources: Resources) -> Deployment:
    """The settings in the resources of ``shape``. Raises ValueError for a value that AWS would refuse."""
    queues = {
        name: _queue(each.get("Properties", {}))
        for name, each in resources.items()
        if each["Type"] == "AWS::SQS::Queue"
    }
    sources = {
        each["Properties"]["FunctionName"]["Ref"]: each["Properties"]
        for each in resources.values()
        if each["Type"] == "AWS::Lambda::EventSourceMapping"
    }
    functions = {
        name: _function(each["Properties"], sources.get(name, {}))
        for name, each in resources.items()
        if each["Type"] == "AWS::Lambda::Function"
    }
    for name, each in functions.items():
        # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
        if each.source and queues[each.source].visibility_seconds < each.timeout_seconds:
            raise ValueError(
                f"Lambda refuses a mapping of {each.source}: {name} may run longer than a message is hidden"
            )
    return Deployment(queues, functions)


def _queue(properties: Mapping[str, Any]) -> QueueSettings:
    redrive = properties.get("RedrivePolicy", {})
    return QueueSettings(
        visibility_seconds=int(properties.get("VisibilityTimeout", 30)),
        retention_seconds=int(properties.get("MessageRetentionPeriod", 345_600)),
        delay_seconds=int(properties.get("DelaySeconds", 0)),
        wait_seconds=int(properties.get("ReceiveMessageWaitTimeSeconds", 0)),
        most_bytes=int(properties.get("MaximumMessageSize", MOST_MESSAGE_BYTES)),
        most_receives=int(redrive["maxReceiveCount"]) if redrive else None,
        dead_letter_queue=_attribute_of(redrive["deadLetterTargetArn"]) if redrive else None,
    )


def _function(properties: Mapping[str, Any], source: Mapping[str, Any]) -> FunctionSettings:
    if "ReservedConcurrentExecutions" in properties:
        raise ValueError("reserved concurrency is not imitated: Lambda would throttle, and messages would come back")
    scaling = source.get("ScalingConfig", {})
    return FunctionSettings(
        timeout_seconds=int(properties.get("Timeout", 3)),
        may_recur=properties.get("RecursiveLoop") == "Allow",
        most_concurrent=int(scaling["MaximumConcurrency"]) if scaling else None,
        source=_attribute_of(source["EventSourceArn"]) if source else None,
        batch_size=int(source.get("BatchSize", 10)),
        reports_failures="ReportBatchItemFailures" in source.get("FunctionResponseTypes", []),
    )


def _attribute_of(value: Mapping[str, Any]) -> str:
    """The resource whose attribute a value is."""
    target = value["Fn::GetAtt"]
    return str(target.split(".")[0] if isinstance(target, str) else target[0])


def _values(parameters: Mapping[str, str]) -> dict[str, Any]:
    known = {name: each.get("Default", "arn:needed") for name, each in translated()["Parameters"].items()}
    if not parameters.keys() <= known.keys():
        raise ValueError(f"the template has no parameter {sorted(parameters.keys() - known.keys())}")
    return known | dict(parameters)


def _holds(condition: Any, values: dict[str, Any]) -> bool:
    ((function, operands),) = condition.items()
    if function == "Condition":
        return _holds(translated()["Conditions"][operands], values)
    if function == "Fn::Equals":
        one, other = (_decided(each, values) for each in operands)
        return bool(one == other)
    results = [_holds(each, values) for each in operands]
    return {"Fn::Not": not results[0], "Fn::And": all(results), "Fn::Or": any(results)}[function]


def _decided(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [each for each in (_decided(each, values) for each in value) if each != NOTHING]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Fn::If"}:
        condition, then, otherwise = value["Fn::If"]
        return _decided(then if _holds(translated()["Conditions"][condition], values) else otherwise, values)
    if value.keys() == {"Ref"} and value["Ref"] in values:
        return values[value["Ref"]]
    if value.keys() == {"Fn::Split"}:
        separator, text = (_decided(each, values) for each in value["Fn::Split"])
        return text.split(separator)
    if value.keys() == {"Fn::FindInMap"}:
        mapping, first, second = (_decided(each, values) for each in value["Fn::FindInMap"])
        # A key that only AWS knows, as the region, stays undecided.
        if isinstance(first, str) and isinstance(second, str):
            return translated()["Mappings"][mapping][first][second]
    decided = {name: _decided(each, values) for name, each in value.items()}
    return {name: each for name, each in decided.items() if each != NOTHING}
