"""make demo: the whole system on this machine, from nothing to every pull request stored, with the proof at the end."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.progress import watch
from cli.stack import DeployedStack, InvocationFailed
from local.stack import STACK_NAME, Failed, Stack, default_folder

KINDS = ("reviews", "issue_comments", "review_comments", "commits", "files")


def main() -> int:
    """Exit status 0 only if every pull request that GitHub counts is stored."""
    console = Console()
    stack = Stack(default_folder())
    try:
        begin = time.monotonic()
        state = stack.up()
        os.environ.update(state["environment"])
        console.print(f"The local stack is up after {time.monotonic() - begin:.0f} s.")
        return _run(console, state["environment"]["GITHUB_API_URL"])
    except (Failed, InvocationFailed) as failure:
        console.print(f"error: {failure}", highlight=False, markup=False, soft_wrap=True)
        return 1
    finally:
        if os.environ.get("KEEP"):
            console.print("The stack still runs: .venv/bin/backfill status; stop it with make down.")
        else:
            stack.down()


def _run(console: Console, api_url: str) -> int:
    deployed = DeployedStack(STACK_NAME)
    wanted = os.environ.get("REPO")
    held = _simulated(api_url)
    names = [wanted] if wanted else sorted(held)
    for name in names:
        deployed.invoke("console", {"action": "add", "repository": name})
    begin = time.monotonic()
    watch(lambda: deployed.invoke("console", {"action": "status"}), console)
    console.print(f"The backfill took {time.monotonic() - begin:.0f} s.")
    status = deployed.invoke("console", {"action": "status", "stored": True})
    rows = [row for row in status["backfills"] if row["repository"] in names]
    table = Table("repository", "status", "pull requests", *KINDS, "points")
    for row in rows:
        counts = [f"{row['stored'][kind]:,}" for kind in KINDS]
        done = f"{row['processed_prs']:,} of {row['total_prs']:,}"
        table.add_row(row["repository"], row["status"], done, *counts, str(row["points_spent"]))
    Console(width=150).print(table)
    wrong = [
        row["repository"]
        for row in rows
        if row["status"] != "completed"
        or row["processed_prs"] != row["total_prs"]
        or any(held.get(row["repository"], row["stored"])[kind] != row["stored"][kind] for kind in KINDS)
    ]
    if wrong or len(rows) != len(names):
        console.print(f"NOT complete: {', '.join(wrong) or 'a repository is missing'}")
        return 1
    console.print("Complete: every row that GitHub holds is stored.")
    return 0


def _simulated(api_url: str) -> dict[str, Any]:
    """The simulator's counts per repository; empty if the demo reads GitHub itself."""
    try:
        with urllib.request.urlopen(f"{api_url}/_simulator/statistics", timeout=10) as response:  # noqa: S310
            held: dict[str, Any] = json.load(response)["repositories"]
            return held
    except OSError:
        return {}


if __name__ == "__main__":
    sys.exit(main())
