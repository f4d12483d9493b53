"""The page of `backfill dashboard` answers only its own address with its own token."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from cli.dashboard import MOST_BYTES, Dashboard
from cli.stack import InvocationFailed
from tests.browser.conftest import serving


class Recorded:
    """A stack that notes what was asked of it."""

    place = "test"

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.delay = 0.0
        self.breaks = False

    def show(self, function: str, event: dict[str, Any]) -> str:
        self.calls.append((function, event))
        json.dumps(event)  # as for Lambda
        time.sleep(self.delay)
        if self.breaks:
            raise ZeroDivisionError
        if event.get("fail"):
            raise InvocationFailed("there is no function here")
        return "<p>hello</p>"


@pytest.fixture
def stack() -> Recorded:
    return Recorded()


@pytest.fixture
def served(stack: Recorded) -> Iterator[Dashboard]:
    with serving(Dashboard(stack)) as dashboard:
        yield dashboard


def post(served: Dashboard, path: str = "/console", body: str = '{"action": "pause"}', **headers: str) -> Any:
    url = f"http://127.0.0.1:{served.server_address[1]}{path}"
    return requests.post(url, data=body, headers={"x-backfill-token": served.token, **headers}, timeout=20)


def test_the_page_itself_may_call(served: Dashboard, stack: Recorded) -> None:
    answer = post(served, origin=f"http://127.0.0.1:{served.server_address[1]}")
    assert (answer.status_code, answer.json()) == (200, {"html": "<p>hello</p>"})
    assert stack.calls == [("console", {"action": "pause"})]


@pytest.mark.parametrize("token", ["", "guessed", "é"])
def test_without_the_token_of_this_start_nothing_is_done(served: Dashboard, stack: Recorded, token: str) -> None:
    answer = post(served, **{"x-backfill-token": token.encode("latin-1").decode("latin-1")})
    assert (answer.status_code, stack.calls) == (403, [])
    assert "Open the address that backfill dashboard printed last" in answer.json()["error"]


def test_another_start_has_another_token(stack: Recorded, served: Dashboard) -> None:
    with serving(Dashboard(stack)) as other:
        assert post(served, **{"x-backfill-token": other.token}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "[::1]:{port}"]
)
def test_a_name_that_was_rebound_to_this_address_is_refused(served: Dashboard, stack: Recorded, host: str) -> None:
    host = host.format(port=served.server_address[1])
    assert post(served, host=host).status_code == 403
    page = requests.get(f"http://127.0.0.1:{served.server_address[1]}/", headers={"host": host}, timeout=20)
    assert (page.status_code, stack.calls) == (403, [])


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_page_is_refused_even_with_the_token(served: Dashboard, stack: Recorded, origin: str) -> None:
    assert (post(served, origin=origin).status_code, stack.calls) == (403, [])


@pytest.mark.parametrize(
    "body",
    ["", "no json", "[]", '{"x": "' + "y" * MOST_BYTES + '"}', '{"x":' * 10_000, "[" * MOST_BYTES],
    ids=["empty", "no JSON", "no object", "long", "objects within objects", "lists within lists"],
)
def test_text_that_is_not_an_event_is_refused(served: Dashboard, stack: Recorded, body: str) -> None:
    assert (post(served, body=body).status_code, stack.calls) == (400, [])


def test_no_depth_of_an_event_ends_in_a_traceback(served: Dashboard, capfd: pytest.CaptureFixture[str]) -> None:
    """Between what Python reads and what it writes are a few levels."""
    few, many = 1, MOST_BYTES // 2 - 10
    while many - few > 1:
        depth = (few + many) // 2
        answer = post(served, body='{"x":' + "[" * depth + "]" * depth + "}")
        assert answer.status_code in (200, 400)
        few, many = (depth, many) if answer.status_code == 200 else (few, depth)
    for depth in range(few - 5, few + 6):
        assert post(served, body='{"x":' + "[" * depth + "]" * depth + "}").status_code in (200, 400)
    assert capfd.readouterr().err == ""


def test_a_failing_stack_is_told_and_an_unknown_path_does_not_exist(served: Dashboard) -> None:
    failed = post(served, "/widget", '{"fail": true}')
    assert (failed.status_code, failed.json()) == (
        502,
        {"error": "The stack did not do this: there is no function here"},
    )
    assert post(served, "/other", "{}").status_code == 404


def test_it_listens_on_this_machine_alone_and_scripts_come_from_its_file_alone(served: Dashboard) -> None:
    assert served.server_address[0] == "127.0.0.1"
    for path in ("/", "/?state=trouble", "/page.js", "/page.css"):
        answer = requests.get(f"http://127.0.0.1:{served.server_address[1]}{path}", timeout=20)
        assert answer.status_code == 200
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert served.token not in answer.text


def test_a_browser_that_goes_away_leaves_no_traceback(
    served: Dashboard, stack: Recorded, capfd: pytest.CaptureFixture[str]
) -> None:
    """It reloads the page, say, while the stack is asked."""
    stack.delay = 0.3
    host = f"127.0.0.1:{served.server_address[1]}"
    head = f"POST /widget HTTP/1.1\r\nhost: {host}\r\nx-backfill-token: {served.token}\r\ncontent-length: 2\r\n\r\n{{}}"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.server_address[1])) as browser:
            # Closing with a reset, as when the answer of a page that is gone arrives.
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            browser.sendall(head.encode())
            time.sleep(0.1)
    time.sleep(0.5)
    assert len(stack.calls) == 3
    assert capfd.readouterr().err == ""


def test_an_error_of_the_server_is_a_sentence_on_the_page_and_a_traceback_in_the_terminal(
    served: Dashboard, stack: Recorded, capfd: pytest.CaptureFixture[str]
) -> None:
    stack.breaks = True
    failed = post(served, "/widget", "{}")
    assert (failed.status_code, failed.json()) == (
        500,
        {"error": "The server of this page failed (ZeroDivisionError); its terminal shows where. Try again."},
    )
    # The answer is sent before the traceback is written.
    told, deadline = "", time.monotonic() + 10
    while "ZeroDivisionError" not in told and time.monotonic() < deadline:
        time.sleep(0.05)
        told += capfd.readouterr().err
    assert "Traceback" in told
