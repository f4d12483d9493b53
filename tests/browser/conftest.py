"""A real browser (Debian's Chromium, or CHROMIUM=/path), and the page of `backfill dashboard` over a real Postgres.

Where no browser can be had, the tests fail and say so: a page that nobody looked at is not tested.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from backfill.console import Console
from backfill.store.connection import Database
from backfill.widget.acting import act_and_show
from backfill.widget.contract import view
from backfill.widget.page import show
from cli.dashboard import Dashboard
from local.memory_queue import MemoryQueues

ROOT = Path(__file__).parents[2]
Open = Callable[..., Page]
ARN = "arn:aws:lambda:us-east-1:000000000000:function:progressive-backfill-widget"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class InProcess:
    """The widget and the console as functions of this process; ``calls`` are the events that they got."""

    db: Database
    queues: MemoryQueues = field(default_factory=MemoryQueues)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    place: str = "progressive-backfill, local"
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Most buttons never ask GitHub: without this, a console that cannot is enough.
    console: Console | None = None

    def show(self, function: str, event: dict[str, Any]) -> str:
        with self.lock:
            self.calls.append((function, event))
            if function == "console":
                return act_and_show(self.console or Console(self.db, None, self.queues), event, ARN)  # type: ignore[arg-type]
            return show(self.db, self.queues, view(event), ARN)


@contextmanager
def serving(dashboard: Dashboard) -> Iterator[Dashboard]:
    """The page, answered by a thread of this process."""
    thread = threading.Thread(target=dashboard.serve_forever, daemon=True)
    thread.start()
    try:
        yield dashboard
    finally:
        dashboard.shutdown()
        dashboard.server_close()
        thread.join()


# Of each module anew: one process may run several, and Playwright takes no second start beside the first.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = subprocess.run(["sh", str(ROOT / "local/find-chromium.sh")], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.fail(f"the browser tests need Chromium: {found.stderr[-2000:]}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found.stdout.strip(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address in a fresh context; whatever the page logs as an error fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(address: str, *, theme: str = "light", width: int = 1440, height: int = 900) -> Page:
        context = browser.new_context(
            color_scheme="dark" if theme == "dark" else "light", viewport={"width": width, "height": height}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(address)
        page.wait_for_selector("#widget .pb")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def in_process(connect: Callable[[], Database]) -> InProcess:
    """With a connection of its own: the page asks while a test reads and writes."""
    return InProcess(connect())


@pytest.fixture
def dashboard(in_process: InProcess) -> Iterator[Dashboard]:
    with serving(Dashboard(in_process, seconds=1)) as served:
        yield served
