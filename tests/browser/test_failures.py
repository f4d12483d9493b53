"""What the page says when its own server, its key or the stack fails: a sentence that says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from backfill.store.connection import Database
from cli.dashboard import Dashboard
from cli.stack import InvocationFailed
from tests.browser.backfills import track
from tests.browser.conftest import ROOT, InProcess, serving
from tests.browser.looking import WIDTHS, assert_accessible, names, resized, screenshot


@dataclass
class Breaking:
    """The widget of this process, until ``failure`` is set."""

    real: InProcess
    failure: Exception | None = None
    place: str = "progressive-backfill, local"

    def show(self, function: str, event: dict[str, Any]) -> str:
        if self.failure is not None:
            raise self.failure
        return self.real.show(function, event)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose failed calls the browser may log."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


def test_each_failure_is_a_sentence_and_the_last_table_stays(db: Database, in_process: InProcess, page: Page) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    stack = Breaking(in_process)
    failure = page.locator("#failure")
    with serving(Dashboard(stack, seconds=1)) as served:
        page.goto(served.address)
        expect(names(page)).to_have_text(["octo/hello"])
        expect(failure).to_be_hidden()
        stack.failure = InvocationFailed("there is no function progressive-backfill-widget here")
        expect(failure).to_have_text("The stack did not do this: there is no function progressive-backfill-widget here")
        # The age of the table tells that it is old.
        expect(page.locator("#freshness")).to_have_text("received 3 s ago")
        expect(names(page)).to_have_text(["octo/hello"])
        for width in WIDTHS:
            stack.failure = None
            resized(page, width)
            stack.failure = InvocationFailed("there is no function progressive-backfill-widget here")
            expect(failure).to_be_visible()
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                assert_accessible(page)
                screenshot(page, f"failure-{theme}-{width}")
        stack.failure = ZeroDivisionError()
        expect(failure).to_contain_text("The server of this page failed (ZeroDivisionError); its terminal shows where.")
        stack.failure = None
        expect(failure).to_be_hidden()


def test_the_end_of_the_command_is_told_and_so_is_an_endpoint_that_is_not_there(page: Page) -> None:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-west-1",
    }
    command = [
        sys.executable,
        "-m",
        "cli",
        "--stack-name",
        "nowhere",
        "dashboard",
        "--no-browser",
        "--every",
        "1",
        "--json",
    ]
    failure = page.locator("#failure")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            page.goto(json.loads(process.stdout.readline())["url"])
            expect(failure).to_contain_text("The stack did not do this: AWS cannot be reached: Could not connect to")
        finally:
            process.terminate()
    expect(failure).to_contain_text("The server of this page does not answer: backfill dashboard was ended")
    expect(failure).to_contain_text("Run backfill dashboard again and open the address that it prints.")


@pytest.mark.parametrize("key", ["", "#of-an-earlier-start"])
def test_a_missing_key_and_an_old_one_are_told_apart_from_a_failure(dashboard: Dashboard, page: Page, key: str) -> None:
    page.goto(dashboard.address.partition("#")[0] + key)
    expect(page.locator("#failure")).to_contain_text(
        "The key in this page's address is missing, or of an earlier start"
    )
    expect(page.locator("#failure")).to_contain_text("Open the address that backfill dashboard printed last")
