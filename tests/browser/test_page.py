"""The table in a real browser: every state at every width, hostile texts, filters, figures, many backfills."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from backfill.store.connection import Database
from cli.dashboard import Dashboard
from tests.browser.backfills import HOSTILE, every_state, read_lately, track
from tests.browser.conftest import InProcess, Open
from tests.browser.looking import WIDTHS, assert_accessible, button, names, resized, screenshot, tile


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_is_named_at_every_width_and_can_be_read(
    db: Database, dashboard: Dashboard, opened: Open, theme: str
) -> None:
    states = every_state(db)
    page = opened(dashboard.address, theme=theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    for width in WIDTHS:
        resized(page, width)
        shown = {
            row.locator(".pb-badge").inner_text(): row.locator(".pb-link").inner_text()
            for row in page.locator(".pb-table tbody tr").all()
        }
        completed = page.locator("#pb-completed")
        assert completed.locator("summary").inner_text() == "1 completed"
        assert completed.locator(".pb-link").text_content() == states["completed"]
        assert not completed.locator("ul").is_visible(), "completed repositories shout"
        assert {**shown, "completed": "curl/curl"} == states
        assert_accessible(page)
        screenshot(page, f"table-{theme}-{width}")


def test_trouble_comes_first_and_the_figures_are_of_all(db: Database, dashboard: Dashboard, opened: Open) -> None:
    every_state(db)
    page = opened(dashboard.address)
    kinds = page.locator(".pb-table tbody tr").evaluate_all("rows => rows.map(row => row.className.slice(3))")
    assert kinds == ["trouble"] * 5 + ["working"] * 2 + ["waiting"] * 2 + ["resting"]
    tiles = page.locator(".pb-tiles").inner_text()
    assert re.search(r"3,127\s+of 5,000 points", tiles)
    assert re.search(r"5\s+of 11 backfills", tiles)
    expect(page.locator(".pb-advice")).to_contain_text("the token lacks the scope read:org, so teams")
    bar = page.get_by_role("progressbar", name="kubernetes/kubernetes")
    expect(bar).to_have_attribute("aria-valuenow", "37.4")
    assert bar.locator("i").first.evaluate("e => e.offsetWidth / e.parentElement.offsetWidth") == pytest.approx(
        0.374, abs=0.01
    )


def test_filters_apply_as_they_are_typed_and_are_in_the_address(
    db: Database, dashboard: Dashboard, opened: Open
) -> None:
    every_state(db)
    page = opened(dashboard.address)
    key = dashboard.address.partition("#")[2]
    expect(page.get_by_role("button", name="Show", exact=True)).to_be_hidden()
    page.get_by_label("State").select_option("resting")
    expect(names(page)).to_have_text(["nodejs/node"])
    assert page.url.endswith(f"/?state=resting#{key}")
    page.get_by_label("State").select_option("")
    field = page.get_by_role("textbox", name="Repository")
    field.press_sequentially("PY", delay=20)
    expect(names(page)).to_have_text(["python/cpython", "pytorch/pytorch"])
    assert page.url.endswith(f"/?filter=PY#{key}")
    # A refresh meanwhile leaves the focus, the caret and what was typed.
    page.wait_for_timeout(1500)
    field.press_sequentially("T")
    expect(names(page)).to_have_text(["python/cpython", "pytorch/pytorch"])
    field.press_sequentially("o", delay=20)
    expect(names(page)).to_have_text(["pytorch/pytorch"])
    page.reload()
    expect(names(page)).to_have_text(["pytorch/pytorch"])
    expect(field).to_have_value("PYTo")
    field.fill("nobody")
    expect(page.locator(".pb-empty")).to_have_text("No backfill matches the filter.")
    field.fill("")
    expect(names(page)).to_have_count(10)
    # The state "done" shows completed repositories in full.
    page.get_by_label("State").select_option("done")
    expect(names(page)).to_have_text(["curl/curl"])
    expect(page.locator("#pb-completed")).to_have_count(0)


def test_the_finish_is_that_of_the_last_backfill_and_leaves_nothing_out_in_silence(
    db: Database, dashboard: Dashboard, opened: Open
) -> None:
    first, last = track(db, 1, "octo/first", total=1000), track(db, 2, "octo/last", total=9000)
    for backfill in (first, last):
        read_lately(db, backfill, 500)
    db.execute("UPDATE progressive_backfill_state SET activated_at = now() - interval '1 hour'")
    page = opened(dashboard.address)
    # 500 in an hour: what is left are 500 and 8,500.
    expect(tile(page, "Last one finishes")).to_contain_text(re.compile("^in 16 h 59 min|^in 17 h 0 min"))
    expect(tile(page, "Last one finishes")).not_to_contain_text("without")
    track(db, 3, "octo/paused", total=1000, done=5, status="'paused'")
    track(db, 4, "octo/new", total=1000, done=0)
    expect(tile(page, "Last one finishes")).to_contain_text("without 1 not known yet and 1 paused")
    db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    expect(tile(page, "Last one finishes")).to_have_text("nothing active 4 paused")
    db.execute("UPDATE progressive_backfill_state SET status = 'completed'")
    expect(tile(page, "Last one finishes")).to_have_text("all completed")
    # Every time on the page is of one clock.
    text = page.locator("main").inner_text()
    times = re.findall(r"\d\d:\d\d(?::\d\d)?(?! to)(.{4})", text)
    assert times and set(times) == {" UTC"}, text


def test_hostile_names_and_errors_do_no_harm(db: Database, dashboard: Dashboard, opened: Open) -> None:
    for number, text in enumerate(HOSTILE):
        track(db, number, f"octo/{text}", total=100, done=50)
    db.execute(
        "UPDATE progressive_backfill_state AS s SET status = 'paused', pause_reason = r.name, last_error = r.name,"
        " last_error_at = now() FROM repositories AS r WHERE r.id = s.repository_id AND r.node_id IN ('R_0', 'R_1', 'R_2', 'R_3')"
    )
    page = opened(dashboard.address)
    shown = names(page).all_text_contents()
    assert sorted(each.strip() for each in shown) == sorted(f"octo/{text}".strip() for text in HOSTILE)
    assert any(HOSTILE[0] in text for text in page.locator(".pb-error").all_text_contents())
    # A form field and the answer to an action come back to the page as well.
    page.get_by_role("textbox", name="Repository").fill(HOSTILE[1])
    expect(names(page)).to_have_count(1)
    assert page.get_by_role("textbox", name="Repository").input_value() == HOSTILE[1]
    button(page, f"Resume octo/{HOSTILE[1]}")
    assert HOSTILE[1] in page.locator("#question").inner_text()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    # No name that GitHub gives: it is refused, and the refusal quotes it.
    expect(page.locator(".pb-notice")).to_contain_text("Not done: repository: 'octo/<img src=x onerror=")
    assert page.evaluate("window.stolen") is None
    # The widget's own style and plots are not of the texts.
    assert page.locator("#widget script, #widget img, #widget svg[onload], #widget style").count() == 1
    assert page.locator("cwdb-action[action=html]").count() == 0
    screenshot(page, "hostile")


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
    assert len(statements) == 8, "what it costs may not depend on how many backfills there are"
    # Lambda answers with 6 MB at most; half a second on a slow line is a tenth of that.
    assert len(html.encode()) < 600_000
    page = opened(dashboard.address)
    expect(names(page)).to_have_count(50)
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
    expect(names(page)).to_have_count(10)


def test_the_page_follows_a_run_until_it_is_told_not_to(db: Database, dashboard: Dashboard, opened: Open) -> None:
    backfill = track(db, 1, "octo/hello", total=100, done=10)
    page = opened(dashboard.address)
    bar = page.get_by_role("progressbar", name="octo/hello")
    expect(bar).to_have_attribute("aria-valuenow", "10.0")
    db.execute("UPDATE progressive_backfill_state SET current_prs = 60")
    expect(bar).to_have_attribute("aria-valuenow", "60.0")
    db.execute("UPDATE progressive_backfill_state SET current_prs = 100, status = 'completed'")
    expect(page.locator("#pb-completed summary")).to_have_text("1 completed")
    assert page.locator("#pb-completed ul").inner_text() == "octo/hello 100 pull requests"
    page.get_by_role("button", name="Refreshes by itself").click()
    db.execute(
        "UPDATE progressive_backfill_state SET status = 'paused' WHERE id = CAST(:id AS uuid)", id=backfill["id"]
    )
    page.wait_for_timeout(2500)
    expect(page.locator("#pb-completed summary")).to_have_text("1 completed")
    page.get_by_role("button", name="Does not refresh").click()
    expect(page.locator(".pb-badge")).to_have_text("paused")
