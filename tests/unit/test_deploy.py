"""`make deploy` asks only for the required parameters, and names a refused value before it builds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.deploy import ROOT, Unusable, ask, command, problem, read, template_parameters, written

PARAMETERS = template_parameters(ROOT / "template.yaml")
NEEDED = {
    name: f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"
    for name in PARAMETERS
    if "Default" not in PARAMETERS[name]
}


def secret_arn(name: str) -> str:
    """Of an account that has the three secrets of docs/deploying.md."""
    if name not in ("backfill/worker", "backfill/owner", "backfill/github"):
        raise Unusable(f"{name}: Secrets Manager can't find the specified secret.")
    return f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"


def person(*answers: str) -> tuple[list[str], Callable[[str, str], str]]:
    """Who answers so, and the questions that were asked; an empty answer is a mere Enter."""
    asked: list[str] = []
    left = list(answers)

    def prompt(question: str, default: str) -> str:
        asked.append(question)
        return left.pop(0) or default

    return asked, prompt


def test_a_reader_of_the_document_answers_four_questions_by_enter() -> None:
    asked, prompt = person("", "", "", "")
    assert ask(PARAMETERS, prompt, secret_arn) == {
        "DatabaseSecretArn": secret_arn("backfill/worker"),
        "MigratorDatabaseSecretArn": secret_arn("backfill/owner"),
        "GitHubSecretArn": secret_arn("backfill/github"),
    }
    assert len(asked) == 4


def test_in_a_vpc_security_groups_are_asked_for_too_until_they_are_given() -> None:
    asked, prompt = person("", "-", "", "subnet-1a,subnet-2b", "", "sg-3c")
    answers = ask(PARAMETERS, prompt, secret_arn)
    assert (answers["SubnetIds"], answers["SecurityGroupIds"]) == ("subnet-1a,subnet-2b", "sg-3c")
    assert "MigratorDatabaseSecretArn" not in answers
    assert len(asked) == 6


def test_a_wrong_answer_is_explained_and_asked_for_again(capsys: pytest.CaptureFixture[str]) -> None:
    asked, prompt = person("typo", "", "", "", "my subnet", "")
    assert ask(PARAMETERS, prompt, secret_arn)["DatabaseSecretArn"] == secret_arn("backfill/worker")
    told = capsys.readouterr().err
    assert "typo: Secrets Manager can't find the specified secret." in told
    assert "SubnetIds must be subnet ids with commas between them, or empty; it is 'my subnet'" in told
    assert (asked[0], asked[4]) == (asked[1], asked[5])


def test_the_file_shows_every_parameter_and_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "parameters.toml"
    file.write_text(written(PARAMETERS, NEEDED), encoding="utf-8")
    assert read(file, PARAMETERS) == NEEDED
    for name, parameter in PARAMETERS.items():
        assert f"# {parameter['Description']}\n" in file.read_text(encoding="utf-8"), name
    # What stands there as a comment is the default, in a form that the file takes.
    shown = [line.removeprefix("# ") for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("\n".join(line for line in shown if line.split(" = ")[0] in PARAMETERS), encoding="utf-8")
    assert read(file, PARAMETERS).keys() == PARAMETERS.keys()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("AlarmMail = 'me@example.com'", "no parameter AlarmMail; it has DatabaseSecretArn"),
        (
            "KmsKeyArn = 'alias/mine'",
            r"KmsKeyArn must be the ARN of a key \(not of an alias\), or empty; it is 'alias/mine'",
        ),
        ("WorkerTimeout = 45", "WorkerTimeout must be one of 30, 60, 120, 300, 600, 900; it is '45'"),
        ("MaximumConcurrency = 1", "MaximumConcurrency must be a number from 2 to 1000; it is '1'"),
        ("SubnetIds = 'subnet-1a'", "give SubnetIds and SecurityGroupIds together"),
        ("no toml", "parameters.toml: "),
    ],
)
def test_a_value_that_the_template_refuses_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "parameters.toml"
    file.write_text("\n".join([*(f"{name} = '{value}'" for name, value in NEEDED.items()), line]), encoding="utf-8")
    with pytest.raises(Unusable, match=told):
        read(file, PARAMETERS)


def test_a_file_without_what_is_needed_is_told(tmp_path: Path) -> None:
    (tmp_path / "parameters.toml").write_text("AlarmEmail = 'me@example.com'", encoding="utf-8")
    with pytest.raises(Unusable, match="DatabaseSecretArn, GitHubSecretArn is missing"):
        read(tmp_path / "parameters.toml", PARAMETERS)


def test_every_default_is_one_that_the_template_takes() -> None:
    for name, parameter in PARAMETERS.items():
        assert "Default" not in parameter or problem(name, parameter, str(parameter["Default"])) is None


def test_sam_deploys_where_the_secrets_are(tmp_path: Path) -> None:
    file = tmp_path / "parameters.toml"
    sam = ["deploy", "--config-file", f"{ROOT}/samconfig.toml", "--region", "eu-west-1", "--on-failure", "DELETE"]
    sam += ["--parameter-overrides", f"file://{file}"]
    assert command(file, NEEDED, None, None)[1:] == sam
    assert command(file, NEEDED, "staging", None)[1:] == [*sam, "--stack-name", "staging"]


def test_without_a_file_and_without_a_person_it_says_so_and_does_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.deploy", "--file", str(tmp_path / "parameters.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "no terminal is here for questions" in done.stderr
    assert list(tmp_path.iterdir()) == []
