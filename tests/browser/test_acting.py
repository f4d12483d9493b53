"""What the page's buttons do in a real browser: each asks by name, is safe to repeat, and says what became of it."""

from __future__ import annotations

import json

import pytest
import requests
from playwright.sync_api import expect

from backfill.console import Console
from backfill.queues import DeadLetter, Source
from backfill.store.connection import Database
from cli.dashboard import Dashboard
from local.in_process import Stack
from local.simulator import Simulator, generate
from tests.browser.backfills import HOSTILE, fail_some, track
from tests.browser.conftest import InProcess, Open, serving
from tests.browser.looking import button, confirmed, names, tile


def state_of(db: Database, name: str) -> tuple[str, str]:
    row = db.one("SELECT status, priority FROM backfill_progress WHERE repository = :name", name=name)
    assert row is not None
    return row["status"], row["priority"]


def test_pause_resume_retry_and_priority_through_the_page(db: Database, dashboard: Dashboard, opened: Open) -> None:
    fail_some(db, track(db, 1, "octo/hello", total=100, done=50), 3)
    page = opened(dashboard.address)
    button(page, "Pause octo/hello")
    expect(page.get_by_role("dialog")).to_contain_text("Pause octo/hello?")
    # The button that does it says what it does.
    expect(page.get_by_role("dialog").get_by_role("button")).to_have_text(["Cancel", "Pause octo/hello"])
    button(page, "Cancel")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert state_of(db, "octo/hello") == ("active", "normal")
    confirmed(page, "Pause octo/hello")
    expect(page.locator(".pb-notice")).to_have_text("octo/hello is paused")
    assert state_of(db, "octo/hello") == ("paused", "normal")
    expect(tile(page, "Last one finishes")).to_have_text("nothing active 1 paused")
    confirmed(page, "Resume octo/hello")
    expect(page.locator(".pb-badge")).to_have_text("queued")
    assert state_of(db, "octo/hello") == ("active", "normal")
    confirmed(page, "High priority for octo/hello")
    expect(page.get_by_role("button", name="High priority for octo/hello")).to_have_attribute("aria-pressed", "true")
    assert state_of(db, "octo/hello") == ("active", "high")
    confirmed(page, "Retry failed octo/hello")
    expect(page.locator(".pb-notice")).to_have_text("octo/hello is active; 3 failed pull requests will be tried again")
    assert db.one("SELECT FROM pull_requests WHERE detail_failed_at IS NOT NULL") is None


def test_the_keyboard_alone_does_everything(db: Database, dashboard: Dashboard, opened: Open) -> None:
    backfill = track(db, 1, "octo/hello", total=100, done=50)
    page = opened(dashboard.address)
    focused = "document.activeElement.id"
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is not visible"
    assert reached == ["refreshing", "theme", "pb-names", "pb-add", "pb-plan-all"] + [
        f"pb-{each}-{backfill['id']}" for each in ("open", "high", "normal", "low")
    ]
    page.keyboard.press("Tab")
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


def test_a_refusal_is_told_on_the_page(db: Database, dashboard: Dashboard, opened: Open) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    page = opened(dashboard.address)
    button(page, "Pause octo/hello")
    db.execute("DELETE FROM repositories")
    page.get_by_role("dialog").get_by_role("button", name="Pause octo/hello").click()
    expect(page.locator(".pb-notice")).to_contain_text("Not done: repository: octo/hello is not tracked")
    expect(page.locator(".pb-empty")).to_contain_text("Nothing is tracked yet")


def test_a_read_only_page_has_no_buttons_and_refuses_actions(
    db: Database, in_process: InProcess, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    monkeypatch.setattr(Console, "act", lambda *_: pytest.fail("an action came through"))
    with serving(Dashboard(in_process, seconds=1, read_only=True)) as served:
        page = opened(served.address)
        expect(names(page)).to_have_text(["octo/hello"])
        # What is left shows another view: the repository, and hours or days.
        assert page.locator("#widget button").all_text_contents() == ["octo/hello", "Hours", "Days"]
        assert page.locator("#widget cwdb-action[endpoint$=console]").count() == 0
        event = {"action": "pause", "repository": "octo/hello", "widgetContext": {}}
        headers = {"x-backfill-token": served.token}
        answer = requests.post(served.address.partition("#")[0] + "console", json=event, headers=headers, timeout=20)
    assert (answer.status_code, "--read-only" in answer.json()["error"]) == (502, True)
    assert state_of(db, "octo/hello")[0] == "active"


def test_repositories_are_added_by_name_or_address_and_adding_them_again_changes_nothing(
    db: Database, in_process: InProcess, opened: Open
) -> None:
    with Simulator(generate(3, {"octo/hello": 30, "octo/world": 20}), speed=2000) as simulator:
        stack = Stack(db, simulator, queues=in_process.queues)
        in_process.console = stack.console
        with serving(Dashboard(in_process, seconds=1)) as served:
            page = opened(served.address)
            expect(page.locator(".pb-empty")).to_contain_text("Nothing is tracked yet")
            field = page.get_by_role("textbox", name="Add")
            field.fill("octo")
            field.press("Enter")
            expect(page.locator(".pb-wrong")).to_contain_text("'octo' is not OWNER/NAME")
            expect(field).to_have_value("octo")
            typed = "octo/hello https://github.com/octo/world/pulls, octo/nothing"
            for fate in ("octo/hello and octo/world: added", "octo/hello and octo/world: tracked already"):
                field.fill(typed)
                # What is typed stays while the page refreshes.
                page.wait_for_timeout(1500)
                expect(field).to_have_value(typed)
                button(page, "Add …")
                expect(page.locator(".pb-asks")).to_contain_text(
                    "Add 3 repositories? octo/hello, octo/world and octo/nothing:"
                )
                # So does the question.
                page.wait_for_timeout(1500)
                button(page, "Add 3 repositories")
                expect(page.locator(".pb-notice")).to_contain_text(fate)
                expect(page.locator(".pb-notice")).to_contain_text("octo/nothing: not added, ")
                expect(page.locator(".pb-asks")).to_have_count(0)
                expect(names(page)).to_have_text(["octo/hello", "octo/world"])
            field.fill("octo/other")
            button(page, "Add …")
            button(page, "Cancel")
            expect(page.locator(".pb-asks")).to_have_count(0)
        # A call of the page may be under way: a connection is for one at a time.
        with in_process.lock:
            stack.run()
            stack.assert_equals_github()


def test_pull_requests_are_synced_from_the_page_of_their_repository(
    db: Database, in_process: InProcess, opened: Open
) -> None:
    with Simulator(generate(3, {"octo/hello": 30}), speed=2000) as simulator:
        stack = Stack(db, simulator, queues=in_process.queues)
        in_process.console = stack.console
        stack.add("octo/hello")
        stack.run()
        number = min(stack.repository("octo/hello").pull_requests)
        with serving(Dashboard(in_process, seconds=1)) as served:
            page = opened(served.address)
            button(page, "octo/hello")
            field = page.get_by_role("textbox", name="Pull requests")
            field.fill("first")
            field.press("Enter")
            expect(page.locator(".pb-wrong")).to_have_text("Type numbers of pull requests, as in 12, 15.")
            # A refresh says again what was typed; the key that pressed the button pressed it once.
            presses = [event for _, event in in_process.calls if "asked" in event and "numbers" not in event]
            assert len(presses) == 1
            field.fill(f"#{number}, 99999")
            field.press("Enter")
            expect(page.locator(".pb-asks")).to_contain_text(f"Sync #{number} and #99999 of octo/hello?")
            button(page, f"Sync #{number} and #99999")
            expect(page.locator(".pb-notice")).to_have_text(
                "A worker reads 1 pull request of octo/hello again; GitHub has no pull request #99999"
            )
            (body,) = in_process.queues.chunks
            assert json.loads(body) == {"schema_version": 1, "repository": "octo/hello", "pr_numbers": [number]}
            # Plan now, of one backfill and of all.
            confirmed(page, "Plan now octo/hello")
            expect(page.locator(".pb-notice")).to_have_text("The planner was asked to plan octo/hello")
            button(page, "All backfills")
            confirmed(page, "Plan now")
            expect(page.locator(".pb-notice")).to_have_text("The planner was asked to plan all active backfills")
        assert len(in_process.queues.plans) == 2
        # A call of the page may be under way: a connection is for one at a time.
        with in_process.lock:
            stack.run()
            stack.assert_equals_github()


def test_a_paused_backfill_is_not_planned(
    db: Database, in_process: InProcess, dashboard: Dashboard, opened: Open
) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    page = opened(dashboard.address)
    button(page, "octo/hello")
    button(page, "Plan now octo/hello")
    db.execute("UPDATE progressive_backfill_state SET status = 'paused'")
    page.get_by_role("dialog").get_by_role("button", name="Plan now octo/hello").click()
    expect(page.locator(".pb-notice")).to_have_text("Not done: repository: octo/hello is paused; resume it first")
    expect(page.get_by_role("button", name="Plan now octo/hello")).to_have_count(0)
    assert len(in_process.queues.plans) == 0


def test_dead_letters_are_listed_redriven_and_discarded(
    db: Database, in_process: InProcess, dashboard: Dashboard, opened: Open
) -> None:
    track(db, 1, "octo/hello", total=100, done=10)
    page = opened(dashboard.address)
    expect(page.get_by_role("button", name="List dead letters")).to_have_count(0)
    sync = '{"schema_version": 1, "repository": "octo/hello", "pr_numbers": [7]}'
    in_process.queues.dead += [
        DeadLetter("letter-1", HOSTILE[0], "r", HOSTILE[1], Source.CHUNKS),
        DeadLetter("letter-2", sync, "r", None, Source.CHUNKS),
        DeadLetter("letter-3", "{}", "r", "it failed again", Source.PLANS),
    ]
    expect(tile(page, "Dead letters")).to_have_text("3")
    button(page, "List dead letters")
    expect(page.locator("h2")).to_have_text("Dead letters")
    rows = page.locator(".pb-plain tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text(HOSTILE[0])
    expect(rows.nth(0)).to_contain_text(HOSTILE[1])
    expect(rows.nth(1)).to_contain_text("received the message as often as the queue allows")
    assert page.evaluate("window.stolen") is None
    # It stays as it was received: nobody lists it again, and the other theme takes no call.
    calls = len(in_process.calls)
    button(page, "Theme: auto")
    button(page, "Theme: light")
    page.wait_for_timeout(2500)
    assert len(in_process.calls) == calls
    confirmed(page, "Discard dead letter letter-1")
    expect(page.locator(".pb-notice")).to_have_text("1 dead letter discarded")
    assert [each.message_id for each in in_process.queues.dead] == ["letter-2", "letter-3"]
    # What SQS hides for a moment comes back.
    expect(page.locator(".pb-small")).to_contain_text("2 more: recovery or another command has them in hand")
    in_process.queues.clock.wait(60)
    button(page, "List dead letters")
    expect(rows).to_have_count(2)
    confirmed(page, "Redrive all")
    expect(page.locator(".pb-notice")).to_have_text("2 dead letters sent again")
    assert [str(each) for each in in_process.queues.chunks] == [sync]
    assert len(in_process.queues.plans) == 1
    expect(page.locator(".pb-empty")).to_have_text("No dead letter can be shown.")
    button(page, "All backfills")
    expect(tile(page, "Dead letters")).to_have_text("0")
