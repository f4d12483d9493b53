"""Pages name only commands, options and targets that exist, cover what they say they cover, and their SQL does what they say."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from backfill.error_codes import ErrorCode
from backfill.messages import SyncRequest, chunk_message
from backfill.store.connection import Database
from cli.main import app
from local.postgres import Postgres
from local.query_examples import examples
from migrations.runner import upgrade
from tests.docs.pages import ROOT, blocks, pages
from tests.infrastructure.shapes import shape
from tests.integration.test_database_safety import roles

__all__ = ["roles"]

DOCS = ROOT / "docs"
COMMAND = typer.main.get_command(app)
# What the script's own documentation has, line by line: commands, options, settings, promises and columns.
THE_SCRIPT = """
progressive-backfill.js
--repository-id
--chunk-size
--max-chunks
--dry-run
default 25
default 10
incomplete data
batches of pull requests
tracks progress
rate limits are low
recovers from failures
VITE_SUPABASE_URL
SUPABASE_SERVICE_KEY
GITHUB_TOKEN
scope `repo`
pbs.processed_prs || '/' || pbs.total_prs
array_length(pr_numbers, 1) AS pr_count
ORDER BY chunk_number DESC
every two hours
npm run recover:chunks
recover-stuck-chunks.js
--stuck-threshold 60
--cleanup-days 7
GraphQL rate limit too low
--chunk-size 10
processing
Missing pull requests
jsonb_set(metadata, '{priority}', '"high"')
SET status = 'paused'
SET status = 'active', consecutive_errors = 0
*/30 * * * *
Run workflow
progressive-backfill.yml
progressive_backfill_state
backfill_chunks
pull_requests
last_processed_cursor
"""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(page: Path) -> Iterator[str]:
    """Every `backfill …` of a page: lines of its blocks of code, and code within sentences."""
    content = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", content, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    content = re.sub(r"^```.*?^```", "", content, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"^ {4,}(.*)$", content, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", content)


def unknown(line: str) -> str | None:
    """What the command line does not know of `backfill …`; None if it knows all, or the line is about something else."""
    words = shlex.split(line.split(" #")[0].replace("…", ""), posix=True)
    if not words or words[0] not in ("backfill", ".venv/bin/backfill"):
        return None
    command: Any = COMMAND
    options = {each for parameter in command.params for each in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help", "-h", "--version", "--install-completion", "--show-completion"}
    for word in words[1:]:
        if word.startswith("-"):
            if word.split("=")[0] not in options:
                return f"{line}: {word}"
        elif (below := getattr(command, "commands", None)) and word.islower() and re.fullmatch("[a-z-]+", word):
            found = below.get(word)
            if found is None:
                return f"{line}: {word}"
            command = found
            options |= {each for parameter in command.params for each in (*parameter.opts, *parameter.secondary_opts)}
    return None


def parsed(page: Path) -> list[str]:
    """What a page's commands have that the command line does not."""
    found = []
    for line in commands(page):
        if re.match(r"(\.venv/bin/)?backfill( |$)", line.strip()):
            try:
                found.append(unknown(line.strip()))
            except ValueError:
                found.append(f"{line}: not a line of a shell")
    return [each for each in found if each is not None]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    assert parsed(page) == []


def test_a_command_or_an_option_that_does_not_exist_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`backfill addd x/y` `backfill add x/y --fast`\n```sh\nbackfill status --json\nbackfill nothing\n```\n"
    )
    assert parsed(page) == ["backfill nothing: nothing", "backfill addd x/y: addd", "backfill add x/y --fast: --fast"]


def test_targets_of_make_exist() -> None:
    makefile = text("Makefile")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    targets |= set(re.findall(r"^make ([a-z-]+)", makefile, re.MULTILINE))
    missing = [
        (page.name, target)
        for page in pages()
        for line in commands(page)
        for target in re.findall(r"(?:^|[ ;(]|=\$\()make (?:-s )?([a-z][a-z-]+)", line)
        if target not in targets and not target.startswith("invoke-")
    ]
    assert missing == []


def test_troubleshooting_has_every_error_code_and_every_alarm() -> None:
    page = text("docs/troubleshooting.md")
    assert {code.value for code in ErrorCode} - set(re.findall(r"`(\w+)`", page)) == set()
    alarms = {
        each["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
        for each in shape().values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }
    named = {
        name
        for row in re.findall(
            r"^\| ([a-z, -]+) \| ", page.split("## An alarm fires")[1].split("## On your machine")[0], re.MULTILINE
        )
        for name in row.split(", ")
    }
    assert alarms - named == set()
    assert named - alarms <= {"alarm"}


def test_troubleshooting_has_every_state_of_the_runbook() -> None:
    states = text("docs/operations.md").split("\n## States\n")[1].split("\n## ")[0]
    page = text("docs/troubleshooting.md")
    quiet = {"detailing, listing, queued", "completed", "completed with failures", "completed incomplete"}
    assert [
        state for state in re.findall(r"^### (.*)$", states, re.MULTILINE) if state not in quiet and state not in page
    ] == []


def test_every_line_of_the_script_has_a_counterpart() -> None:
    page = text("docs/migrating.md")
    assert [line for line in THE_SCRIPT.strip().splitlines() if line not in page] == []


def test_teardown_leaves_nothing_in_the_database(postgres: Postgres, roles: Callable[[str], str]) -> None:
    upgrade(roles("backfill_owner"))
    db = Database(lambda: roles("administrator"))
    left = (
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'backfill%'"
    )
    assert len(db.rows(left)) > 60
    db.execute("CREATE TABLE of_another (id integer)")
    (sql,) = [block for block in blocks(DOCS / "teardown.md", "sql") if "DROP OWNED" in block]
    for statement in filter(str.strip, sql.split(";")):
        db.execute(statement)
    assert db.rows(left) == [{"name": "of_another"}]
    db.close()
    # The fixture removes the roles again.
    for role in ("backfill_worker", "backfill_owner"):
        postgres.run(f"CREATE ROLE {role}")


def test_templates_for_chat_are_valid_and_give_what_the_page_passes() -> None:
    page = text("docs/operations.md")
    for file in sorted(DOCS.glob("*.yaml")):
        done = subprocess.run(
            [ROOT / ".venv/bin/cfn-lint", file], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout
        parameters = set(re.findall(r"^  (\w+):\n    Type: String", file.read_text(encoding="utf-8"), re.MULTILINE))
        (line,) = re.findall(rf"docs/{file.name} \\\n.*--parameter-overrides (.*)", page)
        assert {each.split("=")[0] for each in line.split()} == parameters


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:4566"])
def test_the_message_of_the_runbook_is_a_sync_request_and_reaches_both_stacks(tmp_path: Path, endpoint: str) -> None:
    (block,) = [each for each in blocks(DOCS / "operations.md", "bash") if "send-message" in each]
    program = tmp_path / "aws"
    program.write_text('#!/bin/sh\nfor each in "$@"; do printf "%s\\\\0" "$each"; done\n', encoding="utf-8")
    program.chmod(0o755)
    settings = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CHUNK_QUEUE_URL": "http://queue/chunks"}
    settings |= {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}
    given = subprocess.run(["sh", "-c", block], env=settings, capture_output=True, text=True, check=True).stdout.split(
        "\0"
    )
    assert given[:-1][-5:-1] == ["send-message", "--queue-url", "http://queue/chunks", "--message-body"]
    assert given[:2] == (["--endpoint-url", endpoint] if endpoint else ["sqs", "send-message"])
    message = chunk_message(given[-2])
    assert isinstance(message, SyncRequest)
    assert (message.repository, list(message.pr_numbers)) == ("owner/name", [4711])


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    shown = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")}
    targets = set(re.findall(r"^([a-z-]+%?):", text("Makefile"), re.MULTILINE))
    assert targets - shown == set()


def test_the_readme_is_short_and_has_a_result() -> None:
    readme = text("README.md")
    assert len(readme.splitlines()) <= 90
    (example,) = examples(readme)
    assert "(3 rows)" in example.output
    assert "```mermaid" in readme
