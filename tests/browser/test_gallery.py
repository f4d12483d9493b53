"""Every state of the page beside the plain table, at every width and in both themes: axe-core finds nothing, and a picture to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

import pytest
from playwright.sync_api import Browser, Page, expect

from backfill.queues import DeadLetter, Source
from backfill.store.connection import Database
from cli.dashboard import Dashboard
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.browser.backfills import HOSTILE, every_state, track, with_a_history
from tests.browser.conftest import InProcess, Open, serving
from tests.browser.looking import WIDTHS, assert_accessible, button, screenshot

# Six looks at each state take a few seconds each.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


def look(opened: Open, address: str, name: str, reach: Callable[[Page], object]) -> None:
    """The state that ``reach`` leads to, six times."""
    for width, theme in product(WIDTHS, ("light", "dark")):
        page = opened(address, theme=theme, width=width)
        reach(page)
        looked_at(page, f"{name}-{theme}-{width}")
        page.close()


def looked_at(page: Page, name: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its window"
    screenshot(page, name)
    with covered_page_hidden(page):
        assert_accessible(page)


@contextmanager
def covered_page_hidden(page: Page) -> Iterator[None]:
    """Where a dialog is open, axe-core gives up on a text whose lines cover different things, although the ground is opaque."""
    covered = (
        "hidden => document.querySelector('dialog').open && (document.querySelector('main').style.visibility = hidden)"
    )
    page.evaluate(covered, "hidden")
    yield
    page.evaluate(covered, "")


def test_nothing_tracked_yet(dashboard: Dashboard, opened: Open) -> None:
    look(opened, dashboard.address, "empty", lambda page: expect(page.locator(".pb-empty")).to_be_visible())


def test_questions_refusals_and_answers(db: Database, in_process: InProcess, opened: Open) -> None:
    def typed(text: str) -> Callable[[Page], None]:
        def reach(page: Page) -> None:
            page.get_by_role("textbox", name="Add").fill(text)
            button(page, "Add …")
            expect(page.locator(".pb-asks, .pb-wrong")).to_be_visible()

        return reach

    def asked(page: Page) -> None:
        button(page, "Pause octo/hello")
        expect(page.get_by_role("dialog")).to_be_visible()

    def told(page: Page) -> None:
        button(page, "High priority for octo/hello")
        page.get_by_role("dialog").get_by_role("button", name="High priority for octo/hello").click()
        expect(page.locator(".pb-notice")).to_be_visible()

    with Simulator(generate(3, {"octo/hello": 30}), speed=2000) as simulator:
        stack = Stack(db, simulator, queues=in_process.queues)
        in_process.console = stack.console
        stack.add("octo/hello")
        names = " ".join(f"octo/repository-with-a-long-name-{number}" for number in range(12))
        # No refresh replaces the answer before it was looked at.
        with serving(Dashboard(in_process, seconds=3600)) as served:
            look(opened, served.address, "add-question", typed(f"octo/hello {names}"))
            look(opened, served.address, "add-refused", typed("octo"))
            look(opened, served.address, "confirm", asked)
            look(opened, served.address, "answer", told)


def test_filters_completed_ones_days_and_their_numbers(db: Database, dashboard: Dashboard, opened: Open) -> None:
    every_state(db)

    def everything_open(page: Page) -> None:
        page.locator("#pb-completed summary").click()
        button(page, "Days")
        page.locator("#pb-numbers summary").click()
        expect(page.get_by_role("region", name="Numbers of the plots").locator("tbody tr").first).to_be_visible()

    def nothing_found(page: Page) -> None:
        page.get_by_role("textbox", name="Repository").fill("nobody")
        expect(page.locator(".pb-empty")).to_be_visible()

    look(opened, dashboard.address, "days", everything_open)
    look(opened, dashboard.address, "no-match", nothing_found)


def test_a_page_for_viewers_and_the_second_of_many_pages(db: Database, in_process: InProcess, opened: Open) -> None:
    for number in range(70):
        track(db, number, f"octo/repository-{number:03}", total=1000 + number, done=number * 5)

    def second(page: Page) -> None:
        button(page, "Next")
        expect(page.locator(".pb-foot")).to_contain_text("51 to 70 of 70")

    with serving(Dashboard(in_process, seconds=3600, read_only=True)) as served:
        look(opened, served.address, "read-only", second)


def test_a_sync_question_on_the_page_of_a_repository(db: Database, dashboard: Dashboard, opened: Open) -> None:
    with_a_history(db)

    def asked(page: Page) -> None:
        button(page, "octo/history")
        page.get_by_role("textbox", name="Pull requests").fill("12, 15")
        button(page, "Sync …")
        expect(page.locator(".pb-asks")).to_be_visible()

    look(opened, dashboard.address, "sync-question", asked)


def test_dead_letters(in_process: InProcess, dashboard: Dashboard, opened: Open) -> None:
    def listed(page: Page) -> None:
        # A look hides them from the next one for a second.
        in_process.queues.clock.wait(2)
        button(page, "List dead letters")
        expect(page.locator(".pb-plain tbody tr")).to_have_count(3)

    sync = '{"schema_version": 1, "repository": "octo/hello", "pr_numbers": [7]}'
    in_process.queues.dead += [
        DeadLetter("0d4f1c5e-9a0b-4f3e-8a51-3f0f6f0f7a11", HOSTILE[0], "r", HOSTILE[1], Source.CHUNKS),
        DeadLetter("1d4f1c5e-9a0b-4f3e-8a51-3f0f6f0f7a11", sync, "r", None, Source.CHUNKS),
        DeadLetter("2d4f1c5e-9a0b-4f3e-8a51-3f0f6f0f7a11", "{}", "r", "it failed again", Source.PLANS),
    ]
    look(opened, dashboard.address, "dead-letters", listed)


def test_an_address_without_its_key(browser: Browser, dashboard: Dashboard) -> None:
    for width, theme in product(WIDTHS, ("light", "dark")):
        # The browser may log the refused call.
        context = browser.new_context(
            color_scheme="dark" if theme == "dark" else "light", viewport={"width": width, "height": 900}
        )
        page = context.new_page()
        page.goto(dashboard.address.partition("#")[0])
        expect(page.locator("#failure")).to_be_visible()
        looked_at(page, f"no-key-{theme}-{width}")
        context.close()
