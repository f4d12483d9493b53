"""The template keeps what the design asks of it: a queue or a retry cannot vanish unnoticed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:backfill/worker-AbCdEf"


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return dict(yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8")))


def default(template: dict[str, Any], value: Any) -> Any:
    """A literal, or the default of the parameter that it refers to."""
    return template["Parameters"][value["Ref"]]["Default"] if isinstance(value, dict) else value


@pytest.mark.parametrize("queue", ["ChunkQueue", "PlanQueue"])
def test_a_message_outlives_six_runs_and_five_receives(template: dict[str, Any], queue: str) -> None:
    properties = template["Resources"][queue]["Properties"]
    assert template["Globals"]["Function"]["Timeout"] == {"Ref": "WorkerTimeout"}
    assert properties["VisibilityTimeout"] == {
        "Fn::FindInMap": ["VisibilityTimeout", {"Ref": "WorkerTimeout"}, "Seconds"]
    }
    timeouts = template["Parameters"]["WorkerTimeout"]["AllowedValues"]
    assert timeouts == list(template["Mappings"]["VisibilityTimeout"])
    for timeout in timeouts:
        assert template["Mappings"]["VisibilityTimeout"][timeout]["Seconds"] >= 6 * int(timeout)
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
    assert len(functions) == 6
    for name in functions:
        logs = resources[name.replace("Function", "Logs")]["Properties"]
        assert logs["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        assert logs["KmsKeyId"] == {"Fn::If": ["HasKmsKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}


def test_a_new_migration_makes_a_deployment_migrate(template: dict[str, Any]) -> None:
    newest = max(path.stem[:4] for path in (ROOT / "migrations/versions").glob("*.sql"))
    assert template["Resources"]["Migrations"]["Properties"]["SchemaVersion"] == newest


def test_every_parameter_says_what_it_is_and_refuses_what_it_is_not(template: dict[str, Any]) -> None:
    for name, parameter in template["Parameters"].items():
        assert {"Type", "Description"} <= parameter.keys(), name
        assert {"AllowedPattern", "AllowedValues", "MaxValue"} & parameter.keys(), name
        if "AllowedPattern" in parameter:
            assert "ConstraintDescription" in parameter, name
            assert re.match(
                parameter["AllowedPattern"],
                parameter.get("Default", SECRET),
            )


@pytest.mark.parametrize("name", ["DatabaseSecretArn", "GitHubSecretArn", "MigratorDatabaseSecretArn"])
def test_a_secrets_arn_without_its_six_characters_is_refused(template: dict[str, Any], name: str) -> None:
    """Secrets Manager finds the secret by it, and IAM denies it: the policy names this ARN and no other."""
    pattern = template["Parameters"][name]["AllowedPattern"]
    assert re.match(pattern, SECRET)
    for cut in (SECRET.removesuffix("-AbCdEf"), SECRET.removesuffix("AbCdEf"), SECRET[:-1], f"{SECRET}-??????"):
        assert not re.match(pattern, cut), cut


def test_an_address_of_github_that_holds_a_password_is_refused(template: dict[str, Any]) -> None:
    pattern = template["Parameters"]["GitHubApiUrl"]["AllowedPattern"]
    for good in ("https://api.github.com", "https://github.example.com/api", "http://localhost:8080"):
        assert re.match(pattern, good), good
    for bad in ("https://me:secret@github.example.com/api", "https://token@github.example.com", "https://h/api/"):
        assert not re.match(pattern, bad), bad


def test_the_functions_fit_into_a_new_account(template: dict[str, Any]) -> None:
    """Ten concurrent executions: workers and planners of the queues, and one each of what schedules and people start."""
    resources = template["Resources"]
    from_queues = sum(
        default(template, source["Properties"]["ScalingConfig"]["MaximumConcurrency"])
        for each in resources.values()
        for source in each.get("Properties", {}).get("Events", {}).values()
        if source["Type"] == "SQS"
    )
    alone = {"the planner of the schedule", "recovery", "console", "widget"}
    assert from_queues + len(alone) <= 10
    # Frozen containers keep their connections, and two versions overlap in a deployment, in which the migrator runs.
    planned = re.search(r"Plan (\d+) connections", (ROOT / "docs/deploying.md").read_text(encoding="utf-8"))
    assert planned is not None and int(planned[1]) > 2 * (from_queues + len(alone)) + 1


def test_the_console_shows_every_parameter_in_one_group(template: dict[str, Any]) -> None:
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(template["Parameters"])


def test_a_guided_deployment_needs_two_answers_and_asks_for_them_first(template: dict[str, Any]) -> None:
    """SAM asks for every parameter; Enter answers each that has a default."""
    asked = [name for name, parameter in template["Parameters"].items() if "Default" not in parameter]
    assert asked == list(template["Parameters"])[:2] == ["DatabaseSecretArn", "GitHubSecretArn"]


def test_nothing_secret_is_a_parameter_an_environment_variable_or_an_output(template: dict[str, Any]) -> None:
    assert not [name for name, each in template["Parameters"].items() if each.get("NoEcho")]
    environments = [template["Globals"]["Function"]["Environment"]["Variables"]]
    environments += [
        each["Properties"]["Environment"]["Variables"]
        for each in template["Resources"].values()
        if "Environment" in each.get("Properties", {})
    ]
    nothing = {"Ref": "AWS::NoValue"}
    names = {name for environment in environments for name, value in environment.items() if value != nothing}
    assert {"DATABASE_SECRET_ARN", "GITHUB_SECRET_ARN"} <= names
    assert not {name for name in names if re.search("TOKEN|PASSWORD|KEY|DATABASE_URL", name)}
    assert "Secret" not in json.dumps(template["Outputs"])


@pytest.mark.parametrize("queue", ["ChunkQueue", "PlanQueue", "DeadLetterQueue"])
def test_queues_are_encrypted_and_take_nothing_without_tls(template: dict[str, Any], queue: str) -> None:
    properties = template["Resources"][queue]["Properties"]
    assert properties["SqsManagedSseEnabled"] == {"Fn::If": ["HasKmsKey", {"Ref": "AWS::NoValue"}, True]}
    assert properties["KmsMasterKeyId"] == {"Fn::If": ["HasKmsKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}
    policy = template["Resources"][f"{queue}OnlyByTls"]["Properties"]
    assert policy["Queues"] == [{"Ref": queue}]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Principal"]) == ("Deny", "sqs:*", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}
