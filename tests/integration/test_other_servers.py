"""The same tests on the oldest PostgreSQL, and through a transaction pooler: nothing relies on a session or on newer features."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.servers import NotHere, oldest_postgres, pgbouncer

ROOT = Path(__file__).parents[2]
HEART = [
    "tests/integration/test_store_chunks.py",
    "tests/integration/test_store_pull_requests.py",
    "tests/integration/test_runbook_sql.py",
    "tests/integration/test_main_job.py::test_a_repository_is_added_and_completes_without_another_command",
]
EVERYTHING = ["tests/integration", "--ignore", "tests/integration/test_other_servers.py"]
# Which plan is cheapest for a table of some thousand rows is each version's own judgement; the newest's is asserted.
WITHOUT_THE_PLANS = [*EVERYTHING, "--ignore", "tests/integration/test_plans.py"]
# It measures the wire to a Unix socket.
WITHOUT_THE_WIRE = [*EVERYTHING, "--ignore", "tests/integration/test_store_connection.py"]


def run(needed: Callable[[], object], option: str, selected: list[str], seconds: float) -> None:
    """A pytest run of its own with ``option``; skipped, loudly, where the server cannot be had."""
    try:
        needed()
    except NotHere as error:
        pytest.skip(f"NOT TESTED {option}: {error}")
    command = [sys.executable, "-m", "pytest", *selected, option, "-p", "no:cacheprovider", "--timeout", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert not re.search(r"skipped|no tests ran", done.stdout), done.stdout[-1000:]


@pytest.mark.timeout(900)
def test_the_heart_works_on_the_oldest_postgres() -> None:
    run(oldest_postgres, "--oldest-postgres", HEART, 800)


@pytest.mark.timeout(900)
def test_the_heart_works_through_a_transaction_pooler() -> None:
    run(pgbouncer, "--pgbouncer", HEART, 800)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_everything_works_on_the_oldest_postgres() -> None:
    run(oldest_postgres, "--oldest-postgres", WITHOUT_THE_PLANS, 3500)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_everything_works_through_a_transaction_pooler() -> None:
    run(pgbouncer, "--pgbouncer", WITHOUT_THE_WIRE, 3500)
