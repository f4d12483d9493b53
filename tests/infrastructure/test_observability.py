"""The dashboard, the alarms, the saved queries and the runbook refer to what exists: each metric, dimension, function, queue,
field and heading is looked up where it comes from."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backfill import overview
from backfill.observability import EVENTS, LEVELS, NAMESPACE, UNITS
from backfill.store.progress import UNCHECKED_HOURS
from benchmarks.cost import alarms, prices, watching
from local.template import monitoring
from tests.infrastructure.test_permissions import resources

__all__ = ["resources"]

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "layers/shared/backfill").rglob("*.py"), *(ROOT / "functions").glob("*/app.py")]
RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
# What AWS itself reports, by namespace: the dimension, the type of resource that it names, and the metrics in use.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
AWS = {
    "AWS/Lambda": (
        "FunctionName",
        "AWS::Lambda::Function",
        {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"},
    ),
    "AWS/SQS": (
        "QueueName",
        "AWS::SQS::Queue",
        {
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesVisible",
            "NumberOfEmptyReceives",
            "NumberOfMessagesDeleted",
            "NumberOfMessagesReceived",
            "NumberOfMessagesSent",
        },
    ),
}
# Keys of every line, by Powertools' logger and by Lambda; and those that a failure adds.
# https://docs.powertools.aws.dev/lambda/python/latest/core/logger/#standard-structured-keys
STANDARD_FIELDS = {"level", "message", "location", "timestamp", "service", "function_request_id", "function_name"}
STANDARD_FIELDS |= {"exception", "exception_name", "@timestamp", "@message"}
PSEUDO_PARAMETERS = {"AWS::AccountId", "AWS::Partition", "AWS::Region", "AWS::StackName"}
NAMES = {"AWS::Lambda::Function": "FunctionName", "AWS::SQS::Queue": "QueueName", "AWS::Logs::LogGroup": "LogGroupName"}


@pytest.fixture(scope="module")
def body(resources: dict[str, Any]) -> dict[str, Any]:
    """The dashboard's body, with every reference left as ${…}."""
    text, variables = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    known = resources.keys() | variables.keys() | PSEUDO_PARAMETERS
    for reference in re.findall(r"\$\{([^}]+)\}", text):
        assert reference.partition(".")[0] in known, reference
    return dict(json.loads(text))


def metrics_of(body: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for widget in body["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            yield widget["properties"]["title"], metric


def names_of(resources: dict[str, Any], kind: str) -> set[str]:
    """The names that template.yaml gives to its resources of a type, with references left as ${…}."""
    return {each["Properties"][NAMES[kind]]["Fn::Sub"] for each in resources.values() if each["Type"] == kind}


def check(resources: dict[str, Any], namespace: str, metric: str, dimension: str, value: str, statistic: str) -> None:
    """A metric exists, has this dimension, of a resource of template.yaml, and the statistic fits its kind."""
    if namespace == NAMESPACE:
        assert metric in UNITS, f"no such metric: {metric}"
        assert (dimension, value) == ("service", "${AWS::StackName}")
        if metric in LEVELS:
            assert statistic in ("Maximum", "Minimum", "SampleCount"), f"{statistic} of the level {metric}"
        else:
            assert statistic == "Sum" or statistic.startswith("p"), f"{statistic} of the event {metric}"
        return
    name, kind, known = AWS[namespace]
    assert (dimension, metric in known) == (name, True), (namespace, dimension, metric)
    assert value in names_of(resources, kind)


def test_the_dashboard_shows_only_what_exists(resources: dict[str, Any], body: dict[str, Any]) -> None:
    checked = 0
    for title, metric in metrics_of(body):
        if isinstance(metric[0], dict):
            continue
        namespace, name, dimension, reference, options = metric
        assert reference.startswith("${AWS::StackName}"), title
        check(resources, namespace, name, dimension, reference, options["stat"])
        checked += 1
    assert checked > 50
    (custom,) = [each["properties"] for each in body["widgets"] if each["type"] == "custom"]
    widget = resources["WidgetFunction"]["Properties"]["FunctionName"]["Fn::Sub"]
    assert (
        custom["endpoint"] == f"arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:{widget}"
    )


def test_expressions_refer_to_metrics_of_their_own_widget(body: dict[str, Any]) -> None:
    seen = 0
    for widget in body["widgets"]:
        metrics = widget["properties"].get("metrics", [])
        ids = {each[-1].get("id") for each in metrics}
        for each in metrics:
            expression = each[0].get("expression") if isinstance(each[0], dict) else None
            if expression:
                names = set(re.findall(r"\b[a-z][a-z0-9]*\b", expression.replace("${GbSecond}", "")))
                assert names <= ids, expression
                seen += 1
    assert seen >= 3


def test_the_cost_estimate_knows_the_memory_of_the_functions(resources: dict[str, Any], body: dict[str, Any]) -> None:
    (expression,) = [m[0]["expression"] for _, m in metrics_of(body) if "GbSecond" in str(m[0])]
    assert "/1000*0.5*${GbSecond}" in expression
    memory = {
        each["Properties"]["MemorySize"] for each in resources.values() if each["Type"] == "AWS::Lambda::Function"
    }
    assert memory == {512}


def test_every_metric_is_on_the_dashboard(body: dict[str, Any]) -> None:
    shown = {metric[1] for _, metric in metrics_of(body) if metric[0] == NAMESPACE}
    assert shown == UNITS.keys()


def test_widgets_do_not_overlap(body: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for w in body["widgets"]
        for x in range(w["x"], w["x"] + w["width"])
        for y in range(w["y"], w["y"] + w["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_alarms_watch_only_what_exists_and_say_what_to_do(resources: dict[str, Any], body: dict[str, Any]) -> None:
    alarms = {name: each["Properties"] for name, each in resources.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
    headings = {line.lstrip("#").strip() for line in RUNBOOK.splitlines() if line.startswith("#")}
    for name, alarm in alarms.items():
        ((dimension),) = alarm["Dimensions"]
        value = dimension["Value"].get("Fn::Sub") or f"${{{dimension['Value']['Ref']}}}"
        check(resources, alarm["Namespace"], alarm["MetricName"], dimension["Name"], value, alarm["Statistic"])
        quoted = re.findall(r'docs/operations.md, "([^"]+)"', alarm["AlarmDescription"])
        assert len(quoted) == 1, name
        assert quoted[0] in headings, f"{name}: the runbook has no heading {quoted[0]!r}"
        assert alarm["AlarmName"]["Fn::Sub"].removeprefix("${AWS::StackName}-") in RUNBOOK, name
    (shown,) = [each["properties"]["alarms"] for each in body["widgets"] if each["type"] == "alarm"]
    assert set(shown) == {f"${{{name}.Arn}}" for name in alarms}


def test_missing_data_counts_as_what_it_means(resources: dict[str, Any]) -> None:
    """A level or a queue that keeps its messages stays as it was; an event that did not come did not happen; and a
    heartbeat that does not come is the fault."""
    for name, each in resources.items():
        if each["Type"] != "AWS::CloudWatch::Alarm":
            continue
        alarm = each["Properties"]
        treated = alarm["TreatMissingData"]
        if name == "HeartbeatAlarm":
            assert (treated, alarm["Statistic"], alarm["Period"] * alarm["EvaluationPeriods"]) == (
                "breaching",
                "SampleCount",
                7200,
            )
        elif alarm["MetricName"] in LEVELS or name in ("DeadLettersAlarm", "MigrationsAlarm"):
            assert (treated, alarm["EvaluationPeriods"]) == ("ignore", 1), name
        else:
            assert treated == "notBreaching", name


@pytest.mark.parametrize("condition", ["HasAlarmTopic", "HasAlarmEmail"])
def test_alarms_tell_somebody_only_where_a_parameter_says_whom(resources: dict[str, Any], condition: str) -> None:
    for each in resources.values():
        if each["Type"] == "AWS::CloudWatch::Alarm":
            for actions in (each["Properties"]["AlarmActions"], each["Properties"]["OKActions"]):
                assert condition in json.dumps(actions)
    assert resources["AlarmTopic"]["Condition"] == "HasAlarmEmail"


def calls(*names: str) -> Iterator[ast.Call]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if called in names:
                    yield node


def test_every_metric_is_noted_by_the_code_and_declared() -> None:
    counted = [call.args[0] for call in calls("count") if call.args]
    # itertools has a function of this name, which takes a number.
    noted = {each.value for each in counted if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    governor = (ROOT / "layers/shared/backfill/github/governor.py").read_text(encoding="utf-8")
    noted |= set(re.findall(r'"(Requests\w+)"', governor))
    noted |= set(re.findall(r'AS "(\w+)"', (ROOT / "layers/shared/backfill/store/levels.py").read_text()))
    assert noted == UNITS.keys()


def test_saved_queries_ask_for_fields_and_messages_that_are_logged(resources: dict[str, Any]) -> None:
    logged = {keyword.arg for call in calls("event", "problem", "log", "about", "_about") for keyword in call.keywords}
    logged |= {"chunk_id", "chunk", "attempt"}
    messages = {
        call.args[0].value
        for call in calls("event", "problem", "log")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    queries = {n: each["Properties"] for n, each in resources.items() if each["Type"] == "AWS::Logs::QueryDefinition"}
    assert len(queries) == 5
    for name, query in queries.items():
        assert {group["Fn::Sub"] for group in query["LogGroupNames"]} <= names_of(resources, "AWS::Logs::LogGroup")
        text = query["QueryString"]
        for message in re.findall(r'message = "([^"]+)"', text):
            assert message in messages, f"{name}: nothing logs {message!r}"
        aliases = set(re.findall(r"\bas (\w+)", text))
        listed = [each.strip() for part in re.findall(r"(?:fields|by) ([^\n|]+)", text) for each in part.split(",")]
        filtered = re.findall(r"filter (@?\w+)", text) + re.findall(r"(?:sum|max)\((\w+)\)", text)
        fields = {re.sub(r" (asc|desc)$", "", each) for each in listed + filtered}
        assert fields - aliases <= logged | STANDARD_FIELDS, f"{name}: {fields - aliases - logged - STANDARD_FIELDS}"


def test_the_runbook_documents_every_metric_with_its_unit() -> None:
    rows = dict(re.findall(r"^\| ([A-Z]\w+) \| (Count|Seconds) \| .+ \|$", RUNBOOK, re.MULTILINE))
    assert rows == {name: unit.value for name, unit in UNITS.items()}
    events, levels = RUNBOOK.split("| level | unit | meaning |")
    assert all(f"| {name} |" in levels for name in LEVELS)
    assert all(f"| {name} |" in events for name in EVENTS)


def test_the_runbook_has_every_state_that_a_reader_can_meet() -> None:
    source = (ROOT / "layers/shared/backfill/overview.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'Condition\(\s*"(\w+)"', source)) | overview._PAUSES.keys()
    codes |= set(re.findall(r'code = "(\w+)" if .* else "(\w+)"', source)[0])
    # GitHub's errors become pause reasons by their own codes.
    codes |= set(
        re.findall(r'super\(\).__init__\("(\w+)"', (ROOT / "layers/shared/backfill/github/errors.py").read_text())
    )
    assert len(codes) >= 14
    titles = [part.strip() for line in re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE) for part in line.split(",")]
    for code in codes:
        assert code.replace("_", " ").replace("github", "GitHub") in titles, code


def test_tracing_is_active_and_nothing_is_imported_for_it(resources: dict[str, Any]) -> None:
    functions = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::Lambda::Function"]
    assert len(functions) == 6
    for function in functions:
        assert function["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}
    # Powertools' Tracer imports the X-Ray SDK, about 400 ms of a cold start.
    assert not [path for path in SOURCES if re.search(r"\bTracer\b|xray_sdk", path.read_text(encoding="utf-8"))]


def test_the_monitoring_stack_gets_its_parameters_from_those_of_the_same_name(resources: dict[str, Any]) -> None:
    declared = monitoring()["Parameters"].keys()
    given = dict(resources["Monitoring"]["Properties"]["Parameters"])
    assert given.pop("MonitoredStack") == {"Ref": "AWS::StackName"}
    assert declared == given.keys() | {"AWS::StackName"}
    assert given == {name: {"Ref": name} for name in given}


def test_an_alarm_watches_migrations_that_failed(resources: dict[str, Any]) -> None:
    """The migrator answers CloudFormation and returns, so Lambda counts no error of it: tests/integration/test_migrator.py."""
    alarm = resources["MigrationsAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == (NAMESPACE, "MigrationsFailed", 1)


def test_an_alarm_watches_completed_backfills_that_nobody_checks(resources: dict[str, Any]) -> None:
    """A token that was revoked after the last one completed stops nothing else."""
    alarm = resources["UncheckedAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (NAMESPACE, "CheckLag")
    assert alarm["Threshold"] == 3600 * UNCHECKED_HOURS


@pytest.mark.parametrize("metric", ["Throttles", "Invocations"])
def test_throttles_and_a_runaway_of_whatever_a_queue_invokes_are_told(resources: dict[str, Any], metric: str) -> None:
    invoked = {
        resources[each["Properties"]["FunctionName"]["Ref"]]["Properties"]["FunctionName"]["Fn::Sub"]
        for each in resources.values()
        if each["Type"] == "AWS::Lambda::EventSourceMapping"
    }
    watched = {
        each["Properties"]["Dimensions"][0]["Value"]["Fn::Sub"]
        for each in resources.values()
        if each["Type"] == "AWS::CloudWatch::Alarm" and each["Properties"]["MetricName"] == metric
    }
    assert watched == invoked != set()


def test_the_documents_say_what_watching_costs() -> None:
    """Both pages name the number of alarms, and the sum of all metrics, alarms and the dashboard."""
    dollars = f"{watching(prices(ROOT / 'benchmarks/prices.toml')):.2f}"
    cost, deploying = ((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("cost", "deploying"))
    billed = f"{len(UNITS)} metrics (those that occur are billed), the dashboard, {alarms()} alarms"
    assert f"| {billed} | $ {dollars} |" in cost
    assert f"| metrics, dashboard, {alarms()} alarms | {dollars} a month |" in deploying
