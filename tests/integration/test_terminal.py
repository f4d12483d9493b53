"""Each command in a real pseudo-terminal of three widths, on a real Postgres: the test compares the shown text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backfill.store import names
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.browser.backfills import fail_some, read_lately, track
from tests.terminal import Served, Shown, play

WIDTHS = (80, 120, 200)
wide = pytest.mark.parametrize("width", WIDTHS)
LONG = "kubernetes/a-name-that-is-long-enough"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    sizes = {"octo/one": 30, "octo/two": 12, **{f"octo/r{n:02d}": 3 for n in range(30)}}
    with Simulator(generate(3, sizes), speed=5000) as running:
        yield running


@pytest.fixture
def served(db: Database, simulator: Simulator) -> Iterator[Served]:
    running = Served(Stack(db, simulator))
    yield running
    running.close()


Play = Callable[..., Shown]


@pytest.fixture
def backfill(served: Served) -> Play:
    def run(width: int, *words: str, **options: Any) -> Shown:
        shown = play(width, served.environment, *words, **options)
        assert all(len(line) <= width for line in shown.lines)
        return shown

    return run


def several(db: Database) -> None:
    """In work, waiting for GitHub, with failures, and completed."""
    working = track(db, 1, "octo/working", total=106_000, done=12_305)
    read_lately(db, working, 40)
    waiting = track(db, 2, LONG, total=85_000, done=8_500)
    db.execute(
        "INSERT INTO backfill_chunks (backfill_state_id, repository_id, chunk_number, pr_numbers, status, origin, available_at,"
        " error_code, error) SELECT id, repository_id, 1, '{1}', 'pending', 'planner', now() + interval '30 minutes',"
        " 'deferred', 'server time' FROM progressive_backfill_state WHERE id = CAST(:id AS uuid)",
        id=waiting["id"],
    )
    fail_some(db, track(db, 3, "octo/failed", total=50, done=47, status="'completed'"), 3)
    for number in range(25):
        track(db, 10 + number, f"octo/done{number:02d}", total=10, done=10, status="'completed'")


def under(lines: list[str], heading: str, row: str) -> str:
    """The cell of a row that stands under a heading: both of a right-aligned column end at the same place."""
    (top,) = [line for line in lines if line.startswith("repository ")]
    (line,) = [each for each in lines if each.startswith(row)]
    begin = top.index(heading)
    cells = [(found.start(), found.end(), found.group()) for found in re.finditer(r"\S+(?: \S+)*", line)]
    found = [text for start, end, text in cells if end == begin + len(heading) or start == begin]
    assert found, f"nothing stands under {heading}"
    return found[0]


def flat(shown: Shown) -> str:
    """What is shown as one line, wherever the terminal's lines end."""
    return " ".join(shown.text.split())


@wide
def test_the_status_shows_each_value_under_its_heading_and_trouble_always(
    served: Served, backfill: Play, width: int
) -> None:
    several(served.stack.db)
    shown = backfill(width, "status")
    assert shown.status == 0
    lines = shown.lines
    assert under(lines, "pull requests", "octo/working") == "12,345 of 106,000"
    assert under(lines, "%", "octo/working") == "11"
    assert int(under(lines, "per hour", "octo/working").replace(",", "")) > 0
    assert re.fullmatch(r"\d\d:\d\d UTC|\d+ \w{3}|\d{4}-\d\d-\d\d", under(lines, "finish", "octo/working"))
    assert LONG[:20] in shown.text and "octo/failed" in shown.text
    assert width == 80 or LONG in shown.text
    assert "octo/done00" not in shown.text
    assert "25 completed backfills are not shown" in shown.text
    text = flat(shown)
    assert len(re.findall(r"waiting for GitHub until \d\d:\d\d UTC \(server-time limit\)", text)) == 1
    assert text.count("until") == 1, "said once"
    if width == 200:
        assert under(lines, "failed", "octo/failed") == "3"
        assert under(lines, "priority", "octo/working") == "normal"
        assert under(lines, "status", LONG).startswith("waiting for GitHub until")
    else:
        assert "3 failed" in text or under(lines, "failed", "octo/failed") == "3"


def test_a_pipe_gets_every_column_in_full_lines(served: Served) -> None:
    import os
    import subprocess
    import sys

    from tests.terminal import ROOT

    several(served.stack.db)
    own = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/shared'}", **served.environment, "COLUMNS": "60"}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "status"], env=own, cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    for heading in ("priority", "failed", "incomplete", "points", "status"):
        assert heading in lines[0]
    assert under(lines, "failed", "octo/failed") == "3"


@wide
def test_watch_shows_a_bar_count_rate_and_finish(served: Served, backfill: Play, width: int) -> None:
    several(served.stack.db)
    shown = backfill(width, "status", "--watch", stop_when="GitHub budget")
    assert shown.status == 130
    (working,) = [line for line in shown.lines if line.startswith("octo/working")]
    assert re.fullmatch(
        r"octo/working\s+█{2}░{18}  11% 12,345/106,000 [\d,]+/h (\d\d:\d\d UTC|\d+ \w{3}|\d{4}-\d\d-\d\d)", working
    )
    (failed,) = [line for line in shown.lines if line.startswith("octo/failed")]
    assert "94% 47/50" in failed and "/h" not in failed, "a finished row has no rate"
    assert any("3 failed" in line for line in shown.lines)
    assert shown.lines.index(failed) < shown.lines.index(working), "trouble first"
    assert "25 completed: 250 pull requests" in shown.lines
    assert any(line.startswith(LONG[:12]) and "10% 8,500/85,000" in line for line in shown.lines)
    assert re.search(r"waiting for GitHub until \d\d:\d\d UTC", shown.text)
    assert "Traceback" not in shown.text


def test_watch_follows_a_run_to_its_end(served: Served, backfill: Play) -> None:
    served.stack.add("octo/one", chunk_size=5)

    def work() -> None:
        with served.lock:
            if served.stack.queues.plans:
                served.stack.plan_once()
            elif served.stack.queues.chunks:
                served.stack.work_once()
        time.sleep(0.2)

    shown = backfill(80, "status", "--watch", between=work)
    assert shown.status == 0
    assert "1 completed: 30 pull requests" in shown.lines
    assert "0 active, 0 paused, 1 completed" in shown.lines
    assert len([line for line in shown.lines if "completed:" in line]) == 1, "the picture is drawn in its place"


@wide
def test_thirty_repositories_are_added_by_one_command_while_others_run(
    served: Served, backfill: Play, tmp_path: Path, width: int
) -> None:
    served.stack.add("octo/one", chunk_size=5)
    served.stack.plan_once()
    thirty = [f"octo/r{n:02d}" for n in range(29, -1, -1)]
    file = tmp_path / "repos.txt"
    rows = [f"https://github.com/{name}/pulls  # with its address" if n % 2 else name for n, name in enumerate(thirty)]
    file.write_text("# what we track\n\n" + "\n".join(rows[:20]) + "\n", encoding="utf-8")

    def work() -> None:
        with served.lock:
            if served.stack.queues.chunks:
                served.stack.work_once()

    shown = backfill(
        width,
        "add",
        *rows[20:25],
        *(f"git@github.com:{name}.git" for name in thirty[25:]),
        "--file",
        str(file),
        between=work,
    )
    assert shown.status == 0, shown.text
    told = [line.split()[0] for line in shown.lines if line.startswith("octo/")]
    assert told == [*thirty[20:], *thirty[:20]], "in the order given"
    assert shown.lines[-2:] == ["30 added", ""] or shown.lines[-1] == "30 added"
    served.stack.run()
    assert {row["status"] for row in served.stack.db.rows("SELECT status FROM progressive_backfill_state")} == {
        "completed"
    }
    served.stack.assert_equals_github()


@wide
def test_add_tells_what_it_changed_what_it_did_not_and_what_failed(served: Served, backfill: Play, width: int) -> None:
    served.stack.add("octo/one")
    served.stack.add("octo/two", priority="low")
    shown = backfill(
        width, "add", "Octo/One", "octo/two", "octo/none", "octo/one", "--priority", "low", "--chunk-size", "25"
    )
    assert shown.status == 1
    text = flat(shown)
    assert "octo/one is tracked already: 30 pull requests; changed: priority normal -> low" in text
    assert "octo/two is tracked already: 12 pull requests; nothing changed" in text
    assert "error: octo/none: GitHub shows no repository octo/none to this token" in text
    assert "1 changed, 1 tracked already, 1 failed" in text


def test_a_file_with_wrong_lines_adds_nothing_and_shows_them_all(
    served: Served, backfill: Play, tmp_path: Path
) -> None:
    file = tmp_path / "repos.txt"
    file.write_text("octo/one\nocto\nhttps://gitlab.com/a/b\nocto/two # fine\n", encoding="utf-8")
    shown = backfill(120, "add", "--file", str(file))
    assert shown.status == 2
    assert "line 2: 'octo'" in shown.text and "line 3: 'https://gitlab.com/a/b'" in shown.text
    assert served.stack.db.rows("SELECT FROM progressive_backfill_state") == []
    assert backfill(120, "add", "--file", str(tmp_path / "none")).status == 2


@wide
def test_gaps_begin_with_the_summary_and_link_to_github(served: Served, backfill: Play, width: int) -> None:
    fail_some(served.stack.db, track(served.stack.db, 1, "octo/failed", total=50, done=47), 3)
    served.stack.db.execute(
        "UPDATE pull_requests SET detail_failed_at = NULL, detail_error = NULL, detail_error_code = NULL WHERE number = 2"
    )
    shown = backfill(width, "gaps", "octo/failed")
    assert shown.lines[0] == "octo/failed: 2 failed; 1 not read yet (--all lists them)"
    rest = "".join(shown.lines[1:])
    assert len(re.findall(r"#(\d+)  failed  (https://github.com/\S+?/pull/\d+)  boom", rest)) == 2
    assert "#2 " not in rest and "detail missing" not in rest
    everything = backfill(width, "gaps", "octo/failed", "--all")
    assert "#2  detail missing" in everything.text
    track(served.stack.db, 2, "octo/whole", total=0)
    assert backfill(width, "gaps", "octo/whole").lines[0] == "octo/whole: no gaps"


@wide
def test_recovery_is_told_in_a_sentence_and_the_dry_run_in_the_same_words(
    served: Served, backfill: Play, width: int
) -> None:
    assert flat(backfill(width, "recover")) == "Nothing to recover; nothing failed"
    track(served.stack.db, 1, "octo/one", total=50)
    for number in range(4):
        served.stack.db.execute(
            "INSERT INTO backfill_chunks (backfill_state_id, repository_id, chunk_number, pr_numbers, status, origin, started_at,"
            " sent_at, available_at, claim_token, lease_expires_at, attempts)"
            " SELECT id, repository_id, :number, ARRAY[CAST(:number AS integer)], CASE WHEN :lost THEN 'pending' ELSE 'processing' END, 'planner',"
            " CASE WHEN :lost THEN NULL ELSE now() - interval '2 hours' END, now() - interval '2 hours',"
            " now() - interval '2 hours', CASE WHEN :lost THEN NULL ELSE gen_random_uuid() END,"
            " CASE WHEN :lost THEN NULL ELSE now() - interval '1 hour' END, 1 FROM progressive_backfill_state",
            number=number + 1,
            lost=number == 3,
        )
    sentence = "3 chunks requeued, 1 message resent; nothing failed"
    dry = flat(backfill(width, "recover", "--dry-run"))
    assert dry == f"Dry run, nothing was changed: {sentence}"
    assert flat(backfill(width, "recover")) == sentence


@wide
def test_plan_says_that_there_is_nothing_to_do(served: Served, backfill: Play, width: int) -> None:
    for words in (("plan",), ("plan", "--dry-run")):
        assert (
            flat(backfill(width, *words)) == "Nothing to plan: no backfill is active, and no completed one has changes"
        )
    served.stack.add("octo/two")
    assert (
        flat(backfill(width, "plan", "https://github.com/octo/two"))
        == "octo/two: 1 page listed, 1 chunk cut, 1 message sent 1 backfill planned"
    )
    assert "octo/one" in backfill(width, "plan", "octo/one", "--dry-run").text


@wide
def test_chunks_and_the_address_of_a_repository(served: Served, backfill: Play, width: int) -> None:
    served.stack.add("octo/one", chunk_size=10)
    assert backfill(width, "chunks", "octo/one").lines[0] == "octo/one has no chunks"
    served.stack.run()
    shown = backfill(width, "chunks", "octo/one", "--limit", "2")
    numbers = [line.split()[0] for line in shown.lines if "completed" in line and line.split()[0].isdigit()]
    assert len(numbers) == 2 and int(numbers[0]) == int(numbers[1]) + 1, "the newest first"
    assert "2 chunks of octo/one, the newest first" in shown.text
    (url,) = [line for line in backfill(width, "open", "octo/one", "7", "--no-browser").lines if line]
    assert url.endswith("/octo/one/pull/7")


def test_an_exit_status_tells_trouble_from_health(served: Served, backfill: Play) -> None:
    served.stack.add("octo/two")
    assert backfill(80, "status", "--exit-code").status == 0
    several(served.stack.db)
    assert backfill(80, "status", "--exit-code").status == 3
    assert backfill(80, "status", "octo/two", LONG, "--exit-code").status == 0
    assert backfill(80, "status", "octo/two", "octo/failed", "--exit-code").status == 3
    served.stack.queues.add_dead_letter("{}", "wrong")
    served.stack.db.execute("DELETE FROM repositories WHERE name = 'failed'")
    assert backfill(80, "status", "--exit-code").status == 3
    assert backfill(80, "status", "octo/two", "--exit-code").status == 0


def test_some_repositories_are_shown_in_the_order_given(served: Served, backfill: Play) -> None:
    several(served.stack.db)
    names.accept(served.stack.db, names.Wanted("octo", "accepted", None, {}), "server time", 60)
    shown = backfill(120, "status", "octo/done07", "https://github.com/OCTO/working", "octo/accepted", "octo/nobody")
    assert shown.status == 1
    rows = [line.split()[0] for line in shown.lines if line.startswith(("octo/done07", "octo/working"))]
    assert rows == ["octo/done07", "octo/working"]
    assert "octo/accepted is not a backfill yet" in shown.text
    assert "octo/nobody is not tracked; run: backfill add octo/nobody" in flat(shown)
    alone = backfill(120, "status", "octo/accepted")
    assert (alone.status, alone.lines[0].startswith("octo/accepted is not a backfill yet")) == (0, True)


def test_a_message_that_is_not_there_cannot_be_discarded(served: Served, backfill: Play) -> None:
    shown = backfill(80, "dead-letters", "discard", "nonsense")
    assert shown.status == 1
    assert shown.lines[0] == "error: there is no dead letter nonsense; see: backfill dead-letters list"


def test_only_what_nobody_explained_sends_a_person_to_the_log(
    served: Served, backfill: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = backfill(120, "pause", "octo/nobody")
    assert explained.status == 1
    assert explained.lines[0] == "error: repository: octo/nobody is not tracked; run: backfill add octo/nobody"
    monkeypatch.setattr(served, "answer", lambda *_: ({"errorMessage": "'x'", "errorType": "KeyError"}, True))
    assert (
        flat(backfill(120, "pause", "octo/nobody"))
        == "error: 'x' (details in the log group /aws/lambda/progressive-backfill-console)"
    )


def test_the_shell_completes_names_of_repositories(served: Served) -> None:
    import os
    import subprocess
    import sys

    from tests.terminal import ROOT

    several(served.stack.db)
    own = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/shared'}", **served.environment}
    own |= {"_BACKFILL_COMPLETE": "complete_bash", "COMP_WORDS": "backfill gaps octo/done1", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "cli"], env=own, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [f"octo/done1{n}" for n in range(10)], done.stderr


def test_json_of_add_names_what_failed(served: Served, backfill: Play) -> None:
    done = backfill(200, "add", "octo/two", "octo/none", "--json")
    answer = json.loads("".join(done.lines))
    assert [each["repository"] for each in answer["repositories"]] == ["octo/two"]
    assert [each["repository"] for each in answer["failed"]] == ["octo/none"]
