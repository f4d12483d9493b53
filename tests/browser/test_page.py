"""The page in a real browser: every state, hostile texts, the buttons by mouse and keyboard, many backfills, contrast."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from backfill.console import Console
from backfill.store.connection import Database
from cli.dashboard import Dashboard
from tests.browser.backfills import HOSTILE, every_state, fail_some, track
from tests.browser.conftest import InProcess, screenshot, serving

Open = Callable[..., Page]


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def state_of(db: Database, name: str) -> tuple[str, str]:
    row = db.one("SELECT status, priority FROM backfill_progress WHERE repository = :name", name=name)
    assert row is not None
    return row["status"], row["priority"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_is_named_at_every_width_and_can_be_read(
    db: Database, dashboard: Dashboard, opened: Open, theme: str
) -> None:
    states = every_state(db)
    page = opened(dashboard.address, theme=theme, width=1600)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    for width in (1600, 1200, 600, 380):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            "narrow => document.querySelector('#widget .pb').classList.contains('pb-narrow') === narrow",
            arg=width < 900,
        )
        shown = {
            row.locator(".pb-badge").inner_text(): row.locator("th").inner_text().split()[0]
            for row in page.locator("tbody tr").all()
        }
        assert shown == states
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width}"
        screenshot(page, f"states-{theme}-{width}")
        if width in (1200, 600):
            found = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
            assert [each["id"] for each in found["violations"]] == []
            assert [each["id"] for each in found["incomplete"] if each["id"] == "color-contrast"] == []


def test_trouble_comes_first_and_the_figures_are_of_all(db: Database, dashboard: Dashboard, opened: Open) -> None:
    every_state(db)
    page = opened(dashboard.address)
    kinds = page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.className.slice(3))")
    assert kinds == ["trouble"] * 5 + ["waiting"] * 2 + ["working"] * 2 + ["resting", "done"]
    tiles = page.locator(".pb-tiles").inner_text()
    assert re.search(r"3,127\s+of 5,000 points", tiles)
    assert re.search(r"5\s+of 11 backfills", tiles)
    bar = page.get_by_role("progressbar", name="kubernetes/kubernetes")
    expect(bar).to_have_attribute("aria-valuenow", "37.4")
    assert bar.locator("i").first.evaluate("e => e.offsetWidth / e.parentElement.offsetWidth") == pytest.approx(
        0.374, abs=0.01
    )
    page.get_by_label("State").select_option("resting")
    button(page, "Show")
    expect(page.locator("tbody th")).to_have_text(["nodejs/node"])
    page.get_by_role("textbox", name="Repository").fill("nobody")
    page.keyboard.press("Enter")
    expect(page.locator(".pb-empty")).to_have_text("No backfill matches the filter.")


def test_hostile_names_and_errors_do_no_harm(db: Database, dashboard: Dashboard, opened: Open) -> None:
    for number, text in enumerate(HOSTILE):
        track(db, number, f"octo/{text}", total=100, done=50)
    db.execute(
        "UPDATE progressive_backfill_state AS s SET status = 'paused', pause_reason = r.name, last_error = r.name,"
        " last_error_at = now() FROM repositories AS r WHERE r.id = s.repository_id AND r.node_id IN ('R_0', 'R_1', 'R_2', 'R_3')"
    )
    page = opened(dashboard.address)
    shown = page.locator("tbody th").all_text_contents()
    assert sorted(each.strip() for each in shown) == sorted(f"octo/{text}".strip() for text in HOSTILE)
    assert any(HOSTILE[0] in text for text in page.locator(".pb-error").all_text_contents())
    # A form field and the answer to an action come back to the page as well.
    page.get_by_role("textbox", name="Repository").fill(HOSTILE[1])
    button(page, "Show")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.get_by_role("textbox", name="Repository").input_value() == HOSTILE[1]
    button(page, f"Resume octo/{HOSTILE[1]}")
    assert HOSTILE[1] in page.locator("#question").inner_text()
    button(page, "Yes")
    # No name that GitHub gives: it is refused, and the refusal quotes it.
    expect(page.locator(".pb-notice")).to_contain_text("Not done: repository: 'octo/<img src=x onerror=")
    assert page.evaluate("window.stolen") is None
    assert page.locator("#widget script, #widget svg, #widget img, #widget style").count() == 1
    assert page.locator("cwdb-action[action=html]").count() == 0
    screenshot(page, "hostile")


def test_pause_resume_retry_and_priority_through_the_page(db: Database, dashboard: Dashboard, opened: Open) -> None:
    fail_some(db, track(db, 1, "octo/hello", total=100, done=50), 3)
    page = opened(dashboard.address)
    button(page, "Pause octo/hello")
    expect(page.get_by_role("dialog")).to_contain_text("Pause octo/hello?")
    button(page, "Cancel")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert state_of(db, "octo/hello") == ("active", "normal")
    button(page, "Pause octo/hello")
    button(page, "Yes")
    expect(page.locator(".pb-notice")).to_have_text("octo/hello is paused")
    assert state_of(db, "octo/hello") == ("paused", "normal")
    expect(page.locator(".pb-tile", has_text="Everything done in").locator("dd")).to_have_text("paused")
    button(page, "Resume octo/hello")
    button(page, "Yes")
    expect(page.locator(".pb-badge")).to_have_text("queued")
    assert state_of(db, "octo/hello") == ("active", "normal")
    button(page, "High")
    button(page, "Yes")
    expect(page.get_by_role("button", name="High")).to_have_attribute("aria-pressed", "true")
    assert state_of(db, "octo/hello") == ("active", "high")
    button(page, "Retry failed octo/hello")
    button(page, "Yes")
    expect(page.locator(".pb-notice")).to_have_text("octo/hello is active; 3 failed pull requests will be tried again")
    assert db.one("SELECT FROM pull_requests WHERE detail_failed_at IS NOT NULL") is None


def test_the_keyboard_alone_does_everything(db: Database, dashboard: Dashboard, opened: Open) -> None:
    backfill = track(db, 1, "octo/hello", total=100, done=50)
    page = opened(dashboard.address)
    focused = "document.activeElement.id"
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is not visible"
    assert reached == ["refreshing", "theme"] + [
        f"pb-{each}-{backfill['id']}" for each in ("pause", "high", "normal", "low")
    ]
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
    # The page refreshes every second meanwhile; the focus stays.
    page.wait_for_timeout(2500)
    assert page.evaluate(focused) == f"pb-pause-{backfill['id']}"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "yes"
    page.keyboard.press("Enter")
    expect(page.locator(".pb-notice")).to_have_text("octo/hello is paused")
    assert state_of(db, "octo/hello")[0] == "paused"


def test_two_hundred_backfills_stay_readable_and_cost_the_same_statements(
    db: Database, dashboard: Dashboard, in_process: InProcess, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        track(db, number, f"octo/repository-{number:03}", total=1000 + number, done=number * 5)
    statements: list[str] = []
    run = Database.rows

    def counted(self: Database, sql: str, **parameters: object) -> list[dict[str, object]]:
        statements.append(sql)
        return run(self, sql, **parameters)

    monkeypatch.setattr(Database, "rows", counted)
    html = in_process.show("widget", {"rows": 200})
    assert len(statements) == 6, "what it costs may not depend on how many backfills there are"
    # Lambda answers with 6 MB at most; half a second on a slow line is a tenth of that.
    assert len(html.encode()) < 600_000
    page = opened(dashboard.address)
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator(".pb-foot")).to_contain_text("1 to 50 of 200")
    screenshot(page, "two-hundred")
    for first in (51, 101, 151):
        button(page, "Next")
        expect(page.locator(".pb-foot")).to_contain_text(f"{first} to {first + 49} of 200")
    # A refresh keeps the page that was chosen.
    calls = len(in_process.calls)
    page.wait_for_function("() => document.querySelector('#freshness').textContent === 'received 0 s ago'")
    while len(in_process.calls) < calls + 2:
        page.wait_for_timeout(200)
    expect(page.locator(".pb-foot")).to_contain_text("151 to 200 of 200")
    page.get_by_role("textbox", name="Repository").fill("-07")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(10)


def test_the_page_follows_a_run_and_says_when_it_cannot(db: Database, dashboard: Dashboard, opened: Open) -> None:
    backfill = track(db, 1, "octo/hello", total=100, done=10)
    page = opened(dashboard.address)
    bar = page.get_by_role("progressbar", name="octo/hello")
    expect(bar).to_have_attribute("aria-valuenow", "10.0")
    db.execute("UPDATE progressive_backfill_state SET current_prs = 60")
    expect(bar).to_have_attribute("aria-valuenow", "60.0")
    db.execute("UPDATE progressive_backfill_state SET current_prs = 100, status = 'completed'")
    expect(page.locator(".pb-badge")).to_have_text("completed")
    page.get_by_role("button", name="Refreshes by itself").click()
    db.execute(
        "UPDATE progressive_backfill_state SET status = 'paused' WHERE id = CAST(:id AS uuid)", id=backfill["id"]
    )
    page.wait_for_timeout(2500)
    expect(page.locator(".pb-badge")).to_have_text("completed")
    page.get_by_role("button", name="Does not refresh").click()
    expect(page.locator(".pb-badge")).to_have_text("paused")


def test_a_refusal_is_told_on_the_page(db: Database, dashboard: Dashboard, opened: Open) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    page = opened(dashboard.address)
    button(page, "Pause octo/hello")
    db.execute("DELETE FROM repositories")
    button(page, "Yes")
    expect(page.locator(".pb-notice")).to_contain_text("Not done: repository: octo/hello is not tracked")
    expect(page.locator(".pb-empty")).to_contain_text("Nothing is tracked yet")


def test_a_read_only_page_has_no_buttons_and_refuses_actions(
    db: Database, in_process: InProcess, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    monkeypatch.setattr(Console, "act", lambda *_: pytest.fail("an action came through"))
    with serving(Dashboard(in_process, seconds=1, read_only=True)) as served:
        page = opened(served.address)
        expect(page.locator("tbody th")).to_have_text(["octo/hello"])
        assert page.locator("#widget button").count() == 0
        event = {"action": "pause", "repository": "octo/hello", "widgetContext": {}}
        headers = {"x-backfill-token": served.token}
        answer = requests.post(served.address.partition("#")[0] + "console", json=event, headers=headers, timeout=20)
    assert (answer.status_code, "--read-only" in answer.json()["error"]) == (502, True)
    assert state_of(db, "octo/hello")[0] == "active"
