"""The template keeps what the design asks of it: a queue or a retry cannot vanish unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import decode_str
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    decoded, problems = decode_str((ROOT / "template.yaml").read_text(encoding="utf-8"))
    assert not problems
    return dict(decoded or {})


def default(template: dict[str, Any], value: Any) -> Any:
    """A literal, or the default of the parameter that it refers to."""
    return template["Parameters"][value["Ref"]]["Default"] if isinstance(value, dict) else value


@pytest.mark.parametrize("queue", ["ChunkQueue", "PlanQueue"])
def test_a_message_outlives_six_runs_and_five_receives(template: dict[str, Any], queue: str) -> None:
    properties = template["Resources"][queue]["Properties"]
    timeout = default(template, template["Globals"]["Function"]["Timeout"])
    assert default(template, properties["VisibilityTimeout"]) >= 6 * timeout
    assert properties["RedrivePolicy"]["maxReceiveCount"] >= 5
    assert properties["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}


@pytest.mark.parametrize(
    ("function", "source"), [("ChunkWorkerFunction", "Chunks"), ("PlannerFunction", "PlanRequests")]
)
def test_event_sources_take_one_message_and_report_failures(
    template: dict[str, Any], function: str, source: str
) -> None:
    properties = template["Resources"][function]["Properties"]["Events"][source]["Properties"]
    assert properties["BatchSize"] == 1
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert default(template, properties["ScalingConfig"]["MaximumConcurrency"]) >= 2


@pytest.mark.parametrize(
    ("function", "expression"), [("PlannerFunction", "rate(30 minutes)"), ("RecoveryFunction", "rate(2 hours)")]
)
def test_schedules(template: dict[str, Any], function: str, expression: str) -> None:
    heartbeat = template["Resources"][function]["Properties"]["Events"]["Heartbeat"]
    assert heartbeat["Type"] == "ScheduleV2"
    assert default(template, heartbeat["Properties"]["ScheduleExpression"]) == expression


def test_every_function_has_a_log_group_with_retention(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    functions = [n for n, each in resources.items() if each["Type"] == "AWS::Serverless::Function"]
    assert len(functions) == 5
    for name in functions:
        logs = resources[name.replace("Function", "Logs")]["Properties"]
        assert logs["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_no_policy_allows_everything(template: dict[str, Any]) -> None:
    assert "*" not in str(
        [each["Properties"].get("Policies") for each in template["Resources"].values() if "Properties" in each]
    )


def test_a_new_migration_makes_a_deployment_migrate(template: dict[str, Any]) -> None:
    newest = max(path.stem[:4] for path in (ROOT / "migrations/versions").glob("*.sql"))
    assert template["Parameters"]["SchemaVersion"]["Default"] == newest


def test_every_parameter_says_what_it_is(template: dict[str, Any]) -> None:
    for name, parameter in template["Parameters"].items():
        assert {"Type", "Default", "Description"} <= parameter.keys(), name


def test_the_translated_template_keeps_event_sources_schedules_and_narrow_roles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    decoded, _ = decode_str((ROOT / "template.yaml").read_text(encoding="utf-8"))
    plain: dict[str, Any] = json.loads(json.dumps(decoded))
    for each in plain["Resources"].values():
        for code in ("CodeUri", "ContentUri"):
            if code in each.get("Properties", {}):
                each["Properties"][code] = "s3://bucket/key"
    translated = Translator({}, Parser()).translate(plain, {})["Resources"].values()
    sources = [each["Properties"] for each in translated if each["Type"] == "AWS::Lambda::EventSourceMapping"]
    assert len(sources) == 2
    for source in sources:
        assert (source["BatchSize"], source["FunctionResponseTypes"]) == (1, ["ReportBatchItemFailures"])
    assert len([each for each in translated if each["Type"] == "AWS::Scheduler::Schedule"]) == 2
    for role in (each["Properties"] for each in translated if each["Type"] == "AWS::IAM::Role"):
        for policy in role.get("Policies", []):
            statements = str(policy)
            assert "'Resource': '*'" not in statements and "'Action': '*'" not in statements
