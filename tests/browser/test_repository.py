"""The page of one repository, and the plots of the run, in a real browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from backfill.store.connection import Database
from cli.dashboard import Dashboard
from tests.browser.backfills import track, with_a_history, worked_lately
from tests.browser.conftest import Open
from tests.browser.looking import WIDTHS, assert_accessible, button, names, resized, screenshot, tile


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_of_a_repository_says_what_happened_and_what_is_missing(
    db: Database, dashboard: Dashboard, opened: Open, theme: str
) -> None:
    with_a_history(db)
    page = opened(dashboard.address, theme=theme)
    button(page, "octo/history")
    expect(page.locator("h2")).to_have_text("octo/history")
    key = dashboard.address.partition("#")[2]
    assert page.url.endswith(f"/?show=octo%2Fhistory#{key}")
    expect(tile(page, "Failed")).to_have_text("22")
    expect(tile(page, "Incomplete")).to_have_text("1")
    gaps = page.get_by_role("region", name="Failed and incomplete pull requests").locator("tbody tr")
    expect(gaps).to_have_count(20)
    first = gaps.first
    expect(first.get_by_role("link", name="#1", exact=True)).to_have_attribute(
        "href", "https://github.com/octo/history/pull/1"
    )
    expect(first).to_contain_text("<img src=x onerror=\"window.stolen = 'img'\">")
    expect(page.get_by_text("The first 20 of 23.")).to_be_visible()
    chunks = page.get_by_role("region", name="Newest chunks").locator("tbody tr")
    assert [row.split("\t")[:4] for row in chunks.locator("xpath=..").inner_text().splitlines()] == [
        ["4", "pending", "1", "0"],
        ["3", "processing", "1", "1"],
        ["2", "failed", "1", "5"],
        ["1", "completed", "1", "1"],
    ]
    assert chunks.nth(3).inner_text().split("\t")[5] == "1 min"
    expect(chunks.nth(0)).to_contain_text(re.compile(r"waits until .* UTC; server time \(deferred\)"))
    happened = page.locator(".pb-list").first.locator("li")
    for number, words in enumerate(
        ("Chunk 3 (1 pull request) was claimed by a worker.", "Error: ", "Chunk 2 (1 pull request) failed", "Chunk 1 ")
    ):
        expect(happened.nth(number)).to_contain_text(words)
    errors = page.locator(".pb-list").nth(1).locator("li")
    # A chunk that waits for a limit is not an error.
    expect(errors).to_have_count(2)
    expect(errors.nth(1)).to_contain_text('Chunk 2: <script>window.stolen = "script"</script> (too_large)')
    assert page.evaluate("window.stolen") is None
    for width in WIDTHS:
        resized(page, width)
        assert_accessible(page)
        screenshot(page, f"repository-{theme}-{width}")
    # The history of the browser leads back to the table, and to the repository again.
    page.go_back()
    expect(names(page)).to_have_text(["octo/history"])
    page.go_forward()
    expect(page.locator("h2")).to_have_text("octo/history")
    button(page, "All backfills")
    expect(names(page)).to_have_text(["octo/history"])
    page.goto(f"{dashboard.address.partition('#')[0]}?show=octo/nobody#{key}")
    expect(page.locator(".pb-notice")).to_have_text("octo/nobody is not tracked.")


def test_the_plots_show_hours_and_days_and_their_table_the_same_numbers(
    db: Database, dashboard: Dashboard, opened: Open
) -> None:
    backfill = track(db, 1, "octo/hello", total=100_000, done=0)
    page = opened(dashboard.address)
    expect(page.get_by_text("No work in this time yet.")).to_be_visible()
    worked_lately(db, backfill, 30)
    plots = page.locator("figure")
    expect(plots.locator("b")).to_have_text(["Pull requests per hour", "Points per hour", "Server minutes per hour"])
    # 1,000 in the first of 30 hours and 50 more in each that follows; the present hour is empty.
    hours = plots.first.locator("rect")
    expect(hours).to_have_count(30)
    heights = [float(each.get_attribute("height") or 0) for each in hours.all()]
    assert heights[0] == pytest.approx(80 * 1000 / 2450, abs=0.01) and heights[-1] == 80
    expect(plots.first.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile("51,750 in all, 2,450 at the most. The numbers are in the table below.")
    )
    # GitHub's limit is the top of the plot of its time.
    expect(plots.nth(2)).to_contain_text("top: 60.0")
    page.locator("#pb-numbers summary").click()
    rows = page.get_by_role("region", name="Numbers of the plots").locator("tbody tr")
    expect(rows).to_have_count(30)
    last = datetime.now(UTC).replace(minute=0) - timedelta(hours=1)
    assert rows.first.inner_text().split("\t") == [f"{last:%Y-%m-%d %H:%M}", "2,450", "147", "34.7"]
    button(page, "Days")
    expect(plots.locator("b")).to_have_text(["Pull requests per day", "Points per day", "Server hours per day"])
    assert "plot=day" in page.url
    days = {f"{last - timedelta(hours=back):%Y-%m-%d}" for back in range(30)}
    expect(plots.first.locator("rect")).to_have_count(len(days))
    # What was opened stays open.
    expect(rows).to_have_count(len(days))
    assert page.locator("#pb-numbers").get_attribute("open") is not None
