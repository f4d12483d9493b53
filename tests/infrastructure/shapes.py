"""The template as CloudFormation gets it from SAM, and as it is left when its conditions are decided."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import decode_str
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT = Path(__file__).parents[2]
NOTHING = {"Ref": "AWS::NoValue"}


@cache
def translated() -> dict[str, Any]:
    """The template after SAM's transformation, which adds roles and policies of its own where there is room for them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        decoded, problems = decode_str((ROOT / "template.yaml").read_text(encoding="utf-8"))
        assert not problems
        plain: dict[str, Any] = json.loads(json.dumps(decoded))
        for each in plain["Resources"].values():
            for code in ("CodeUri", "ContentUri"):
                if code in each.get("Properties", {}):
                    each["Properties"][code] = "s3://bucket/key"
        return dict(Translator({}, Parser()).translate(plain, {}))
    finally:
        patch.undo()


def shape(**parameters: str) -> dict[str, Any]:
    """The resources of a deployment with these parameters: conditions decided, parameters put in, what is absent left out."""
    values, conditions = _values(parameters), translated()["Conditions"]
    return {
        name: _decided(each, values)
        for name, each in translated()["Resources"].items()
        if "Condition" not in each or _holds(conditions[each["Condition"]], values)
    }


def refusals(**parameters: str) -> list[str]:
    """What CloudFormation would say to these parameters before it makes anything."""
    return [
        each["AssertDescription"]
        for rule in translated()["Rules"].values()
        for each in rule["Assertions"]
        if not _holds(each["Assert"], _values(parameters))
    ]


def _values(parameters: dict[str, str]) -> dict[str, Any]:
    known = {name: each.get("Default", "arn:needed") for name, each in translated()["Parameters"].items()}
    assert parameters.keys() <= known.keys()
    return known | parameters


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
    decided = {name: _decided(each, values) for name, each in value.items()}
    return {name: each for name, each in decided.items() if each != NOTHING}
