"""A process that has imported the command once and forks for each test, because imports take most of the time.

Each line of its input is a command: ``{"terminal": path, "environment": {…}, "words": […]}``; it answers with the process's
number, and then with its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

# What the command imports when it runs.
import boto3  # noqa: F401
import botocore.config  # noqa: F401
import psutil  # noqa: F401

import cli.main  # noqa: F401


def main() -> None:
    """Until the input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked)
        _say({"pid": pid})
        _, status = os.waitpid(pid, 0)
        _say({"status": os.waitstatus_to_exitcode(status)})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _become(asked: dict[str, Any]) -> None:
    """The command, on its terminal, in a session of its own. Does not return."""
    os.setsid()
    terminal = os.open(asked["terminal"], os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    # Text streams of before hold what they knew of the old ones.
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    # Its consoles look at the terminal when they are made.
    for name in [each for each in sys.modules if each.partition(".")[0] == "cli"]:
        del sys.modules[name]
    app = importlib.import_module("cli.main").app
    try:
        app(asked["words"], prog_name="backfill")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
