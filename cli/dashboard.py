"""`backfill dashboard`: the CloudWatch widget as a page of this machine, for people without CloudWatch.

The page acts with the user's AWS permissions, so three rules keep others out. It listens on 127.0.0.1 only. It refuses a
foreign Host, which means a name that was rebound to this address. Every call carries a token of this start. Only the
printed address has the token, in its fragment, which browsers do not send; so no other page can call.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from cli.stack import InvocationFailed

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
# The widget has its own <style>. Scripts come only from this server's file, so a text cannot bring one.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_BYTES = 65536
NO_KEY = (
    "The key in this page's address is missing, or of an earlier start of backfill dashboard. Open the address that"
    " backfill dashboard printed last, with everything after the #."
)
# How long the page shows the result of an action before it refreshes.
NOTICE_SECONDS = 6


class Stack(Protocol):
    """The part of cli.stack.DeployedStack that the page uses."""

    @property
    def place(self) -> str: ...
    def show(self, function: str, event: dict[str, Any]) -> str: ...


class Dashboard(ThreadingHTTPServer):
    """Serves the page of one stack at ``address``. Port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, stack: Stack, *, port: int = 0, seconds: int = 5, read_only: bool = False) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.stack, self.seconds, self.read_only = stack, seconds, read_only
        self.token = secrets.token_urlsafe(32)
        self.hosts = {f"{name}:{self.server_address[1]}" for name in ("127.0.0.1", "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that left or never sent a request; show the traceback of any other error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """The address with the token; everybody who knows it may act."""
        return f"http://127.0.0.1:{self.server_address[1]}/#{self.token}"

    def answer(self, path: str, event: dict[str, Any]) -> dict[str, Any]:
        """The answer to a call of the page. Raises InvocationFailed; KeyError for an unknown path."""
        if path == "/settings":
            parameters = {"actions": False} if self.read_only else {}
            times = {"seconds": self.seconds, "notice_seconds": NOTICE_SECONDS}
            return {"stack": self.stack.place, "parameters": parameters, **times}
        if path == "/widget":
            return {"html": self.stack.show("widget", event)}
        if path == "/console":
            if self.read_only:
                raise InvocationFailed("this page was started with --read-only")
            return {"html": self.stack.show("console", event)}
        raise KeyError(path)


class _Handler(BaseHTTPRequestHandler):
    server: Dashboard
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        # The view is in the query, for the page alone.
        path = self.path.partition("?")[0]
        if path not in FILES:
            self._send(404, "text/plain", b"not found")
            return
        name, kind = FILES[path]
        self._send(200, f"{kind}; charset=utf-8", (PAGE / name).read_bytes())

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        given = self.headers.get("x-backfill-token") or ""
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            self._answer(403, {"error": NO_KEY})
            return
        event = self._event()
        if event is None:
            self._refuse()
            return
        try:
            self._answer(200, self.server.answer(self.path, event))
        except InvocationFailed as failure:
            self._answer(502, {"error": f"The stack did not do this: {failure}"})
        except KeyError:
            self._answer(404, {"error": "This page does not exist."})
        except RecursionError:  # what Python could just read, it could not write for Lambda
            self._refuse()
        except ConnectionError:
            raise
        except Exception as failure:
            # The terminal shows the traceback, as for any other error of a server.
            words = f"The server of this page failed ({type(failure).__name__}); its terminal shows where. Try again."
            self._answer(500, {"error": words})
            raise

    def _refuse(self) -> None:
        self._answer(400, {"error": f"A JSON object of at most {MOST_BYTES} bytes, and not deeply nested, is needed."})

    def _event(self) -> dict[str, Any] | None:
        try:
            length = int(self.headers.get("content-length") or 0)
            event = json.loads(self.rfile.read(length)) if 0 < length <= MOST_BYTES else None
        except (ValueError, RecursionError):  # brackets within brackets, more than Python follows
            return None
        return event if isinstance(event, dict) else None

    def _is_for_us(self) -> bool:
        """A Host of another name was rebound to this address; another Origin is another page."""
        host, origin = self.headers.get("host") or "", self.headers.get("origin")
        if host in self.server.hosts and origin in (None, f"http://{host}"):
            return True
        self._answer(403, {"error": "This address is not for other names or pages."})
        return False

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        if status >= 400:
            # What was sent along may not have been read.
            self.close_connection = True
        for name, value in (
            ("content-type", kind),
            ("content-length", str(len(body))),
            ("content-security-policy", POLICY),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal stays quiet."""
