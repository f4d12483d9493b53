"""make bench: every figure in one table, as markdown and as JSON. Each subject is a module with ``measure()``."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.figures import Figure

SUBJECTS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "__main__", "figures", "fixed_query", "setting")
)


def main() -> int:
    """Exit status 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, and compare with the targets. Ratios are taken within one run.",
        epilog="Example: make bench ONLY='points storing'",
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"default all: {', '.join(SUBJECTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as JSON too")
    arguments = parser.parse_args()
    unknown = set(arguments.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    figures: list[Figure] = []
    subjects = arguments.subjects or SUBJECTS
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(subjects))
        for subject in subjects:
            progress.update(task, description=f"{subject} …")
            begin = time.monotonic()
            # The product prints its metrics while it is measured. They do not belong to the table.
            with redirect_stdout(io.StringIO()):
                figures += importlib.import_module(f"benchmarks.{subject}").measure()
            progress.console.print(f"{subject}: {time.monotonic() - begin:.0f} s")
            progress.advance(task)
    print(_markdown(figures))
    if arguments.json:
        content = {"machine": _machine(), "figures": [{**asdict(each), "met": each.met} for each in figures]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if any(each.met is False for each in figures) else 0


def _machine() -> str:
    memory = psutil.virtual_memory().total / 1024**3
    hardware = f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GiB of memory"
    return f"{hardware}, {platform.system()}, Python {platform.python_version()}; {datetime.now(UTC):%Y-%m-%d}"


def _processor() -> str:
    """The processor's name in Linux; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join([*names[:1], platform.machine()])


def _markdown(figures: Sequence[Figure]) -> str:
    lines = [f"Machine: {_machine()}", "", "| subject | what | value | target | |", "|---|---|---:|---:|---|"]
    for each in figures:
        target = "" if each.target is None else f"{'≥' if each.at_least else '≤'} {each.target:g}"
        verdict = {None: "", True: "met", False: "**missed**"}[each.met]
        lines.append(f"| {each.subject} | {each.what} | {each.value:,.4g} {each.unit} | {target} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
