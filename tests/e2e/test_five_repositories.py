"""Five repositories of different size and priority are added, and change on GitHub while they are read."""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backfill.store.connection import Database
from cli.main import app
from local.in_process import differences
from local.simulator import Simulator, generate
from local.stack import ROOT
from tests.e2e.conftest import Deployed, OneStack, running_stack

PRIORITIES = {
    "octo/giant": "high",
    "octo/large": "normal",
    "octo/medium": "low",
    "octo/small": "normal",
    "octo/tiny": "low",
}
WITH_TIMELINE = "octo/tiny"

_WITH_TIMELINES = """
    SELECT r.owner || '/' || r.name AS repository, count(*) AS pull_requests,
           bool_or(EXISTS (SELECT FROM timeline_events AS e WHERE e.repository_id = p.repository_id)) AS have_events
    FROM pull_requests AS p JOIN repositories AS r ON r.id = p.repository_id
    WHERE p.timeline_updated_at = p.detail_updated_at GROUP BY 1
"""
_SAMPLE = """
    SELECT (SELECT count(*) FROM backfill_chunks WHERE status = 'pending' AND sent_at IS NOT NULL) AS waiting,
           (SELECT count(*) FROM backfill_chunks WHERE status = 'processing') AS processing,
           (SELECT count(*) FROM pull_requests AS p JOIN progressive_backfill_state AS s USING (repository_id)
            WHERE s.status = 'active' AND gone_at IS NULL AND (detail_updated_at IS NULL OR detail_updated_at < p.updated_at)
              AND NOT EXISTS (SELECT FROM backfill_chunk_members AS m
                              WHERE m.backfill_state_id = s.id AND m.number = p.number)) AS uncut,
           (SELECT jsonb_object_agg(r.name, jsonb_build_array(s.processed_prs, s.total_prs, s.listed_prs, s.status))
            FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id) AS progress
"""


@dataclass
class Watch:
    """Samples of a run, twice a second: ``(seconds, row)``."""

    db: Database
    began: float = field(default_factory=time.monotonic)
    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(0.5):
                self.samples.append((time.monotonic() - self.began, self.db.rows(_SAMPLE)[0]))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def idle_share(self) -> float:
        """Of the time in which there was something to cut, the share in which no chunk waited for a worker."""
        begun = [row for _, row in self.samples if row["progress"] and (row["uncut"] or row["waiting"])]
        busy = [row for row in begun if row["uncut"]]
        return sum(not row["waiting"] for row in busy) / len(busy) if busy else 0.0

    def done_between(self, names: list[str]) -> tuple[float, float, dict[str, int]]:
        """While all of them had work: from when to when, and how many pull requests of each were detailed."""

        def working(row: dict[str, Any]) -> bool:
            progress = row["progress"] or {}
            return all(
                name in progress and 0 < progress[name][0] < 0.98 * progress[name][1] and progress[name][3] == "active"
                for name in names
            )

        inside = [(at, row["progress"]) for at, row in self.samples if working(row)]
        (begin, first), (end, last) = inside[0], inside[-1]
        return begin, end, {name: last[name][0] - first[name][0] for name in names}


def happenings(deployed: Deployed, sizes: dict[str, int]) -> list[tuple[str, Callable[[], bool], Callable[[], object]]]:
    """What happens during the run: its name, when, and how."""
    simulator, db = deployed.simulator, deployed.db
    held = {name: simulator.repository(name) for name in sizes}

    def share_of(name: str) -> float:
        row = db.one(
            "SELECT processed_prs FROM progressive_backfill_state AS s JOIN repositories AS r ON r.id = s.repository_id"
            " WHERE r.node_id = :id",
            id=f"R_{name}",
        )
        return row["processed_prs"] / sizes[name] if row else 0.0

    def set_status(name: str, status: str) -> None:
        db.execute(
            f"UPDATE progressive_backfill_state SET status = '{status}', consecutive_errors = 0"
            " WHERE repository_id = (SELECT id FROM repositories WHERE node_id = :id)",
            id=f"R_{name}",
        )

    def grow() -> None:
        numbers = sorted(held["octo/small"].pull_requests)  # type: ignore[union-attr]
        held["octo/small"].open_pull_requests(7)  # type: ignore[union-attr]
        for number in (*numbers[:3], *numbers[-3:]):
            held["octo/small"].change(number, title=f"Another title of {number}")  # type: ignore[union-attr]

    def lose() -> None:
        numbers = sorted(held["octo/giant"].pull_requests)  # type: ignore[union-attr]
        held["octo/giant"].delete(*numbers[:2], numbers[len(numbers) // 2], *numbers[-2:])  # type: ignore[union-attr]

    paused_at: list[float] = []

    def pause() -> None:
        set_status("octo/medium", "paused")
        paused_at.append(time.monotonic())

    return [
        ("one is paused by SQL", lambda: share_of("octo/medium") > 0.1, pause),
        (
            "it is resumed by SQL",
            lambda: bool(paused_at) and time.monotonic() - paused_at[0] > 5,
            lambda: set_status("octo/medium", "active"),
        ),
        (
            "one is renamed",
            lambda: share_of("octo/large") > 0.1,
            lambda: held["octo/large"].rename("elsewhere/renamed"),  # type: ignore[union-attr]
        ),
        ("one gets new and changed pull requests", lambda: share_of("octo/small") > 0.2, grow),
        ("one loses five", lambda: share_of("octo/giant") > 0.3, lose),
    ]


def run(deployed: Deployed, sizes: dict[str, int], seconds: float, say: Callable[[str], None]) -> Watch:
    """Add all, let everything happen, and wait until the database equals what GitHub holds."""
    for name in sizes:
        wanted = {"action": "add", "repository": name, "priority": PRIORITIES[name], "timeline": name == WITH_TIMELINE}
        deployed.functions.invoke("console", wanted)
    watch = Watch(Database(lambda: deployed.environment["DATABASE_URL"]))
    waiting = happenings(deployed, sizes)

    def is_done() -> bool:
        for each in list(waiting):
            name, when, happen = each
            if when():
                happen()
                waiting.remove(each)
                say(f"{time.monotonic() - watch.began:7.1f} s  {name}")
        return not waiting and deployed.is_completed() and differences(deployed.db, deployed.simulator) == []

    with watch.running():
        deployed.wait("everything is stored as GitHub holds it", is_done, seconds)
    watch.db.close()
    say(f"{time.monotonic() - watch.began:7.1f} s  all completed, and equal to what GitHub holds")
    assert deployed.db.rows("SELECT * FROM pull_request_gaps") == []
    assert deployed.dead_letters() == 0
    for row in deployed.db.rows("SELECT * FROM backfill_progress ORDER BY total_prs DESC"):
        say(
            f"           {row['repository']}: {row['processed_prs']}/{row['total_prs']}, {row['points_spent']} points,"
            f" {row['priority']}, {row['consecutive_errors']} errors"
        )
        assert row["processed_prs"] == row["total_prs"]
    assert deployed.db.rows(_WITH_TIMELINES) == [
        {"repository": WITH_TIMELINE, "pull_requests": sizes[WITH_TIMELINE], "have_events": True}
    ]
    return watch


SMALL_SIZES = {"octo/giant": 120, "octo/large": 60, "octo/medium": 40, "octo/small": 30, "octo/tiny": 10}


@pytest.fixture(scope="module")
def deployed(one_stack: OneStack) -> Iterator[Deployed]:
    with one_stack.lent(generate(31, SMALL_SIZES), speed=50) as running:
        yield running


def test_five_small_repositories_complete_whatever_happens(deployed: Deployed) -> None:
    run(deployed, SMALL_SIZES, 280, print)
    assert deployed.simulator.statistics().get("secondary_limits", 0) == 0


def test_every_line_of_the_page_for_migrating_works(deployed: Deployed) -> None:
    """Commands by the command line on the deployed stack, statements on its database; with a repository that is here."""
    text = (ROOT / "docs/migrating.md").read_text(encoding="utf-8")
    numbers = sorted(deployed.simulator.repositories["R_octo/small"].pull_requests)[:2]
    text = text.replace("kubernetes/kubernetes", "octo/small").replace("'kubernetes'", "'octo'", 1)
    text = text.replace("owner = 'kubernetes' AND name = 'kubernetes'", "owner = 'octo' AND name = 'small'")
    text = text.replace("r.owner = 'octo' AND r.name = 'kubernetes'", "r.owner = 'octo' AND r.name = 'small'")
    text = text.replace(" 101 102", "".join(f" {number}" for number in numbers))
    assert "kubernetes" not in text
    blocks = re.findall(r"```(bash|sql)\n(.*?)```", text, re.DOTALL)
    commands = [line for language, block in blocks if language == "bash" for line in block.splitlines()]
    statements = [each for language, block in blocks if language == "sql" for each in block.split(";") if each.strip()]
    assert (len(commands), len(statements)) == (18, 7)
    database = deployed.db
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "backfill"
        result = CliRunner().invoke(app, arguments, prog_name="backfill")
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception}"
        assert result.stdout.strip(), command
    for statement in statements:
        assert database.execute(statement) >= (
            0 if "FROM pull_request_gaps" in statement or "'active'" in statement else 1
        )
    deployed.wait("everything is at rest again", deployed.is_completed)
    assert differences(database, deployed.simulator) == []


@pytest.mark.soak
def test_five_repositories_share_the_budget_by_priority(tmp_path: Path) -> None:
    """40 to 5,000 pull requests at ten times GitHub's speed: shares of 4, 2 and 1, and no worker without a chunk."""
    sizes = {"octo/giant": 5000, "octo/large": 2500, "octo/medium": 1000, "octo/small": 300, "octo/tiny": 40}
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    with (
        Simulator(generate(31, sizes), speed=10) as simulator,
        running_stack(tmp_path, simulator, schedule="rate(1 minute)") as deployed,
    ):
        watch = run(deployed, sizes, 3000, say)
        begin, end, done = watch.done_between(["giant", "renamed", "medium"])
        say(f"           from {begin:.0f} to {end:.0f} s: {done}")
        ratios = (done["giant"] / done["renamed"], done["renamed"] / done["medium"])
        say(f"           high : normal = {ratios[0]:.2f} : 1, normal : low = {ratios[1]:.2f} : 1")
        idle = watch.idle_share()
        say(f"           no chunk waited in {idle:.1%} of the time in which there was something to cut")
        for name in sizes:
            first = next(at for at, row in watch.samples if (row["progress"] or {}).get(name.split("/")[1], [0])[0])
            say(f"           {name}: first pull requests after {first:.0f} s")
        say(f"           simulator: { ({k: v for k, v in simulator.statistics().items() if k != 'repositories'}) }")
    assert all(1.5 <= ratio <= 2.7 for ratio in ratios)
    assert idle <= 0.01
