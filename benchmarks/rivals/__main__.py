"""Each tool reads the same repository four times: as it is, with one 502, with one secondary limit, killed half way."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from backfill.store.connection import Database
from benchmarks import setting
from benchmarks.rivals.tools import KINDS, TOOLS, Tool
from local.simulator import Repository, Simulator
from local.simulator.resolvers import held
from local.stack import ROOT

SPEED, PULL_REQUESTS, MOST_SECONDS = 50.0, 150, 120.0
# The failure comes when about half of the requests of a whole run are made.
_BAD_GATEWAY = {"status": 502, "body": "<html>502 Bad Gateway</html>", "headers": {"content-type": "text/html"}}
_SECONDARY = {
    "status": 403,
    "headers": {"retry-after": "2"},
    "body": {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."},
}


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run: exit status (None: killed or out of time), requests of both budgets, points, rows by kind."""

    status: int | None
    seconds: float
    requests: int
    points: int
    rows: Counter[str]


class Product(Tool):
    """This project: planner and worker as one process, with a real Postgres."""

    package = "this project"
    purpose = "every pull request, whole, in Postgres"

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        return [sys.executable, "-m", "benchmarks.rivals.product", repository]

    def read(self) -> Counter[str]:
        with closing(Database(lambda: self.environment["DATABASE_URL"])) as db:
            statement = " UNION ALL ".join(
                f"SELECT '{kind}' AS kind, count(*) AS rows FROM {table}"
                for kind, table in {
                    "pull_requests": "pull_requests WHERE detail_synced_at IS NOT NULL",
                    "reviews": "reviews",
                    "issue_comments": "comments WHERE kind = 'issue_comment'",
                    "review_comments": "comments WHERE kind = 'review_comment'",
                    "commits": "commits",
                    "files": "files",
                }.items()
            )
            return Counter({row["kind"]: row["rows"] for row in db.rows(statement)})


def main() -> int:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    every = {each.__name__: each for each in (Product, *TOOLS)}
    parser.add_argument(
        "tools", nargs="*", choices=[*every, []], metavar="TOOL", help=f"default all: {', '.join(every)}"
    )
    chosen = parser.parse_args().tools or list(every)
    whole = setting.pull_requests_at_hand()[-1]
    repository = replace(whole, pull_requests=dict(list(whole.pull_requests.items())[:PULL_REQUESTS]))
    progress = Console(stderr=True)
    lines = [
        f"{PULL_REQUESTS} pull requests, simulator at speed {SPEED:g}, {platform.machine()}, Python {platform.python_version()}",
        "",
        "| tool | for | requests | points | time | rows | after one 502 | after one secondary limit | after a kill half way |",
        "|---|---|---:|---:|---:|---|---|---|---|",
    ]
    with setting.postgres() as server, tempfile.TemporaryDirectory() as folder:
        for kind in (every[name] for name in chosen):
            with progress.status(f"{kind.package} …"):
                bin_folder = Path(sys.executable).parent if kind is Product else _installed(kind)

                def database(number: int) -> str:
                    name = f"run_{number}"
                    server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                    server.run(f"CREATE DATABASE {name} TEMPLATE migrated")
                    return server.url(name)

                lines.append(_line(kind, bin_folder, Path(folder) / kind.__name__, repository, database))
            progress.print(lines[-1], soft_wrap=True, markup=False)
    print("\n".join(lines))
    return 0


def _installed(tool: type[Tool]) -> Path:
    """The folder of its commands, in an environment of its own."""
    folder = ROOT / ".local" / "rivals" / tool.__name__
    if not (folder / ".ready").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
        subprocess.run([uv, "pip", "install", "--quiet", tool.package], env=environment, check=True)
        (folder / ".ready").touch()
    return folder / "bin"


def _line(
    kind: type[Tool], bin_folder: Path, folder: Path, repository: Repository, database: Callable[[int], str]
) -> str:
    there = Counter(held(repository))
    wanted = {name: there[name] for name in KINDS if name not in kind.lacks}
    whole = _run(kind, bin_folder, folder / "0", repository, database(0), [])
    half: list[dict[str, object]] = [{}] * (whole.requests // 2)
    gateway = _run(kind, bin_folder, folder / "1", repository, database(1), [*half, _BAD_GATEWAY])
    limited = _run(kind, bin_folder, folder / "2", repository, database(2), [*half, _SECONDARY])
    killed_url = database(3)
    first = _run(kind, bin_folder, folder / "3", repository, killed_url, [], kill_at=whole.requests // 2)
    again = _run(kind, bin_folder, folder / "3", repository, killed_url, [], resumes=True)
    repeated = first.requests + again.requests - whole.requests
    rows = _rows(whole, wanted) + (f", without {', '.join(kind.lacks).replace('_', ' ')}" if kind.lacks else "")
    cells = [
        kind.package.replace("==", " "),
        kind.purpose,
        f"{whole.requests:,}",
        f"{whole.points:,}",
        f"{whole.seconds:.0f} s",
        rows,
        f"{_rows(gateway, wanted)} in {gateway.seconds:.0f} s",
        f"{_rows(limited, wanted)} in {limited.seconds:.0f} s",
        f"{_rows(again, wanted)}, {max(0, repeated):,} requests repeated",
    ]
    return f"| {' | '.join(cells)} |"


def _rows(run: Run, wanted: Mapping[str, int]) -> str:
    """The share of its data that is there, and how it ended."""
    there = sum(min(run.rows[name], count) for name, count in wanted.items())
    ended = {0: "", None: "; out of time"}.get(run.status, f"; exit status {run.status}")
    return ("all" if there == sum(wanted.values()) else f"{100 * there / sum(wanted.values()):.1f} %") + ended


def _run(
    kind: type[Tool],
    bin_folder: Path,
    folder: Path,
    repository: Repository,
    database_url: str,
    script: list[dict[str, object]],
    *,
    kill_at: int | None = None,
    resumes: bool = False,
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    rig = folder / "rig"
    rig.mkdir(exist_ok=True)
    (rig / "sitecustomize.py").write_text(
        (Path(__file__).parent / "redirect.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    with Simulator([repository], speed=SPEED) as simulator:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "PYTHONPATH": os.environ["PYTHONPATH"] if kind is Product else str(rig),
            "GITHUB_SIMULATOR": simulator.url,
            "GITHUB_API_URL": simulator.url,
            "DATABASE_URL": database_url,
        }
        tool = kind(bin_folder, folder, environment)
        command = tool.command(repository.full_name, resumes=resumes)
        # Requests of the preparation do not count, and meet no failure.
        before = _requests(simulator)
        simulator.script(*script)
        begin = time.monotonic()
        number = len(list(folder.glob("out.*")))
        with (folder / f"out.{number}").open("w") as out, (folder / f"err.{number}").open("w") as err:
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=out, stderr=err, start_new_session=True
            )
            while process.poll() is None:
                time.sleep(0.02)
                is_half_way = kill_at is not None and _requests(simulator) - before >= kill_at
                if is_half_way or time.monotonic() - begin > MOST_SECONDS:
                    # With the processes that it started itself.
                    os.killpg(process.pid, signal.SIGKILL)
                    break
            status = process.wait()
        seconds = time.monotonic() - begin
        served = simulator.statistics()
        requests = _requests(simulator) - before
    return Run(None if status < 0 else status, seconds, requests, served.get("points", 0), tool.read())


def _requests(simulator: Simulator) -> int:
    return simulator.served["requests"] + simulator.served["rest_requests"]


if __name__ == "__main__":
    sys.exit(main())
