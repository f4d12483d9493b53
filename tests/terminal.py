"""A real pseudo-terminal of a given width for one command, with its visible text; and a stack behind Lambda's API."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from backfill.console import Console
from backfill.errors import BackfillError
from backfill.messages import planner_event, recovery_event
from local.in_process import Stack

ROOT = Path(__file__).parents[1]
HEIGHT = 50
# A command that takes longer is killed, and its test fails.
LONGEST_SECONDS = 120
_SEQUENCE = re.compile(r"\x1b\[([?]?[0-9;]*)([A-Za-z])")


@dataclass
class Screen:
    """A terminal's cells, as far as rich moves in them: line ends, up, erase, colours. Lines that scroll out are kept."""

    width: int

    def __post_init__(self) -> None:
        self.lines: list[list[str]] = [[]]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        """What a program printed. A sequence that is not known fails the test."""
        position = 0
        while position < len(text):
            found = _SEQUENCE.match(text, position)
            if found:
                self._act(found[1], found[2])
                position = found.end()
                continue
            self._put(text[position])
            position += 1

    @property
    def shown(self) -> list[str]:
        """The lines, without blanks at their ends."""
        return ["".join(line).rstrip() for line in self.lines]

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        else:
            assert character >= " ", f"a control character {character!r}"
            if self.column == self.width:
                self.column = 0
                self._down()
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = character
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def _act(self, numbers: str, letter: str) -> None:
        if letter == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif letter == "K":
            assert numbers in ("", "0", "2")
            line = self.lines[self.row]
            del line[0 if numbers == "2" else self.column :]
        else:
            assert letter in "mhl", f"a sequence {numbers}{letter}"


@dataclass(frozen=True)
class Shown:
    """What a command printed on its terminal, and its exit status."""

    lines: list[str]
    status: int

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)


def play(
    width: int,
    environment: dict[str, str],
    *words: str,
    between: Callable[[], object] = lambda: None,
    stop_when: str | None = None,
) -> Shown:
    """Run ``backfill WORDS`` in a pseudo-terminal. ``between`` is called again and again.

    Ctrl-C is pressed a moment after the terminal shows ``stop_when``.
    """
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "STACK_", "COLUMNS", "LOCAL_", "GITHUB_", "DATABASE_"))
    }
    own |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", **environment}
    zygote = _zygote()
    pid = zygote.ask({"terminal": os.ttyname(terminal), "environment": own, "words": words})["pid"]
    printed, began, waiting = b"", time.monotonic(), _Waiting(zygote)
    try:
        # The other end stays open here, so that it is open when the command opens it: it has ended when its status is known.
        while not (waiting.has_ended and not _readable(person)):
            if time.monotonic() > began + LONGEST_SECONDS:
                os.killpg(pid, signal.SIGKILL)
            if _readable(person):
                printed += os.read(person, 65536)
            else:
                between()
            if stop_when is not None and stop_when.encode() in printed:
                time.sleep(0.5)
                os.killpg(pid, signal.SIGINT)
                stop_when = None
    finally:
        if not waiting.has_ended:
            os.killpg(pid, signal.SIGKILL)
        waiting.thread.join()
        os.close(terminal)
        os.close(person)
    screen = Screen(width)
    screen.write(printed.decode())
    return Shown(screen.shown, waiting.status)


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.05)[0])


class _Zygote:
    """The process that forks for each command (tests.zygote)."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/shared'}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._end)

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Play a command; its process's number."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self.told()

    def told(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


@cache
def _zygote() -> _Zygote:
    return _Zygote()


class _Waiting:
    """For the exit status, beside the reading of what is printed."""

    def __init__(self, zygote: _Zygote) -> None:
        self.status = -1
        self.has_ended = False
        self._zygote = zygote
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()

    def _wait(self) -> None:
        self.status = self._zygote.told()["status"]
        self.has_ended = True


class Served:
    """An in-process stack behind Lambda's Invoke API, so that the command's own process reaches it."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.lock = stack, threading.Lock()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                function = self.path.split("/")[3].rsplit("-", 1)[1]
                payload, failed = served.answer(function, event)
                body = json.dumps(payload, default=str).encode()
                self.send_response(200)
                if failed:
                    self.send_header("X-Amz-Function-Error", "Unhandled")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def answer(self, function: str, event: dict[str, Any]) -> tuple[Any, bool]:
        """What Lambda answers: the payload, and whether the function failed."""
        with self.lock:
            try:
                return self._run(function, event), False
            except BackfillError as error:
                return {"errorMessage": str(error), "errorType": type(error).__name__}, True

    def _run(self, function: str, event: dict[str, Any]) -> Any:
        if function == "console":
            github = self.stack.forecaster.github if event.get("dry_run") else self.stack.github
            return Console(self.stack.db, github, self.stack.queues).act(event)
        if function == "recovery":
            return self.stack.recovery.recover(recovery_event(event))
        request = planner_event(event)
        if request.dry_run:
            return self.stack.forecaster.forecast(request).as_json()
        return self.stack.planner.plan(request).as_json()

    def close(self) -> None:
        """Free the port."""
        self.server.shutdown()
        self.server.server_close()
