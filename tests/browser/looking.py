"""What the tests of the page look at, and how they press its buttons."""

from __future__ import annotations

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page

SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"
# A telephone, a tablet on its side, a desk.
WIDTHS = (390, 1024, 1440)


def button(page: Page, name: str) -> None:
    """Press a button by its accessible name."""
    page.get_by_role("button", name=name, exact=True).click()


def confirmed(page: Page, name: str) -> None:
    """Press a button, and the one of the same name in the dialog that asks."""
    button(page, name)
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def names(page: Page) -> Locator:
    """Repositories of the table, in its order."""
    return page.locator(".pb-table tbody th .pb-link")


def tile(page: Page, title: str) -> Locator:
    """The figure of a tile."""
    return page.locator(".pb-tile", has=page.get_by_text(title, exact=True)).locator("dd")


def resized(page: Page, width: int) -> None:
    """Another width, once the page has been made for it. Nothing is wider than the window."""
    page.set_viewport_size({"width": width, "height": 900})
    narrow = "narrow => document.querySelector('#widget .pb').classList.contains('pb-narrow') === narrow"
    page.wait_for_function(narrow, arg=width < 900)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width}"


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing, and is sure about every contrast."""
    found = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
    unsure = [each for each in found["incomplete"] if each["id"] == "color-contrast"]
    problems = [
        (each["id"], node["html"], [why["message"] for why in node["any"]])
        for each in [*found["violations"], *unsure]
        for node in each["nodes"]
    ]
    assert not problems, problems


def screenshot(page: Page, name: str) -> None:
    """For people to look at; the folder is not kept."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), full_page=True)
