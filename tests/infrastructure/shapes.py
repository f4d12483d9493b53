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
    template = translated()
    values = {name: each.get("Default", "arn:needed") for name, each in template["Parameters"].items()} | parameters
    assert values.keys() == template["Parameters"].keys()

    def holds(condition: Any) -> bool:
        ((function, operands),) = condition.items()
        if function == "Condition":
            return holds(template["Conditions"][operands])
        if function == "Fn::Equals":
            one, other = (decided(each) for each in operands)
            return bool(one == other)
        return {"Fn::Not": lambda v: not v[0], "Fn::And": all, "Fn::Or": any}[function]([holds(o) for o in operands])

    def decided(value: Any) -> Any:
        if isinstance(value, list):
            return [each for each in map(decided, value) if each != NOTHING]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"Fn::If"}:
            condition, then, otherwise = value["Fn::If"]
            return decided(then if holds(template["Conditions"][condition]) else otherwise)
        if value.keys() == {"Ref"} and value["Ref"] in values:
            return values[value["Ref"]]
        if value.keys() == {"Fn::Split"}:
            separator, text = (decided(each) for each in value["Fn::Split"])
            return text.split(separator)
        return {name: each for name, each in ((n, decided(v)) for n, v in value.items()) if each != NOTHING}

    return {
        name: decided(each)
        for name, each in template["Resources"].items()
        if "Condition" not in each or holds(template["Conditions"][each["Condition"]])
    }
