"""GitHub's API as a server, as strict as GitHub where the backfill could go wrong: price, limits, paging, failures.

Time runs ``speed`` times as fast as GitHub's, also for the windows of the limits.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    execute,
)

from local.simulator.data import Node, Repository
from local.simulator.documents import Documents
from local.simulator.execution import Unusual, answer_of
from local.simulator.failures import Failure, encoded
from local.simulator.limits import Limited, Limits
from local.simulator.owners import Owners
from local.simulator.price import BASE_SECONDS, Price, Refused, price_of
from local.simulator.resolvers import Repositories, held, root
from local.simulator.rest import Rest
from local.simulator.schema import refusal, schema_without
from local.simulator.tokens import App, Tokens
from local.simulator.validation import Validation, ValidationTimeout
from local.simulator.viewers import EVERYBODY, Installation, Viewer

# How long a simulator may take to notice that it ends; half a second, if nobody says, at the end of each of a thousand tests.
STOP_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over the wire; ``cut`` as in Failure."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: str = ""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A query that the limits allowed. ``begin`` by this machine's monotonic clock."""

    viewer: Viewer
    limits: Limits
    price: Price
    failure: Failure | None
    begin: float


@cache
def schema(lacks: frozenset[str] = frozenset()) -> GraphQLSchema:
    """GitHub's, for all simulators of this process that lack the same."""
    built = schema_without(lacks)
    for name in {"Node", "Actor", "RequestedReviewer", "RepositoryOwner"} & {*built.type_map}:
        kind: Any = built.type_map[name]
        kind.resolve_type = lambda value, *_: value["__typename"]
    for each in built.type_map.values():
        if isinstance(each, GraphQLObjectType) and "id" in each.fields:
            each.fields["id"].resolve = _resolve_id
    return built


def _resolve_id(value: Node, info: GraphQLResolveInfo[Any]) -> str | None:
    """The context of a request is its simulator's ``shown_id``."""
    node_id = value.get("id")
    return None if node_id is None else str(info.context(node_id))


@cache
def documents(lacks: frozenset[str] = frozenset()) -> Documents:
    """What one simulator has validated, the others of this process need not validate again."""
    return Documents(schema(lacks))


class Simulator:
    """``with Simulator(repositories, speed=…) as simulator: simulator.url``. Counts what it served in ``served``."""

    def __init__(
        self,
        repositories: list[Repository],
        *,
        speed: float = 10.0,
        limit: int | None = 5000,
        window: float = 3600.0,
        clock_ahead: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        app: App | None = None,
        validation: Validation | None = None,
        lacks: Collection[str] = (),
    ) -> None:
        """``limit`` None: an Enterprise Server with rate limiting off. ``clock_ahead``: seconds that GitHub's clock is off.

        ``lacks``: what the schema of an old server does not have (local.simulator.schema).

        ``validation``: what a document may hold before GitHub's validation of it times out.

        ``token``: the only personal token that is good; None takes any, unless there is an ``app``.
        """
        self.repositories = Repositories({each.node["id"]: each for each in repositories})
        self.owners = Owners(self.repositories)
        self.speed, self.clock_ahead = speed, clock_ahead
        self.limits = Limits(limit, window, speed, self.clock)
        self._window = window
        self._limits: dict[Viewer, Limits] = {EVERYBODY: self.limits}
        self.rest = Rest(self.repository, Limits(5000, window, speed, self.clock))
        self.served: Counter[str] = Counter()
        self.tokens = Tokens(token, app, self.clock, self.served)
        # How often each pull request was read with its body: by repository and number.
        self.details: Counter[tuple[str, int]] = Counter()
        self.scripted: deque[Failure | None] = deque()
        self.poison: dict[int, str] = {}
        self.validation = validation
        self.lacks = frozenset(lacks)
        # The form of every node id in an answer: `other_form` of local.simulator.node_ids makes legacy ones next, and next
        # ones legacy.
        self.shown_id: Callable[[str], str] = lambda node_id: node_id
        self._closed = False
        self._lock = threading.Lock()
        self._server = _Server((host, port), _handler(self))
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Simulator:
        threading.Thread(target=self._server.serve_forever, args=(STOP_SECONDS,), name="simulator", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def clock(self) -> float:
        """GitHub's time, in seconds since 1970."""
        return time.time() + self.clock_ahead

    def script(self, *failures: Failure | dict[str, Any]) -> None:
        """The next requests get these replies: failures, or ``status``, ``body``, ``headers`` in a dictionary; {} passes."""
        for each in failures:
            if isinstance(each, Failure):
                self.scripted.append(each)
            else:
                self.scripted.append(Failure("scripted", **each) if each else None)

    def play(self, failures: Sequence[Failure], every: int) -> None:
        """Each ``every``-th request gets the next of the failures."""
        for each in failures:
            self.scripted.extend([*[None] * (every - 1), each])

    def create(self, *repositories: Repository) -> None:
        """Repositories that somebody creates now."""
        for each in repositories:
            self.repositories[each.node["id"]] = each

    def delete(self, full_name: str) -> None:
        """Somebody deletes a repository."""
        del self.repositories[self.repository_named(full_name).node["id"]]

    def repository(self, full_name: str) -> Repository | None:
        """By present or former name."""
        return self.repositories.named(full_name)

    def repository_named(self, full_name: str) -> Repository:
        """By present name, also a hidden one. Raises ValueError."""
        (found,) = [each for each in list(self.repositories.values()) if each.full_name == full_name]
        return found

    def statistics(self) -> dict[str, Any]:
        """What was served so far."""
        with self._lock:
            return {
                **self.served,
                "detailed": len(self.details),
                "detailed_again": sum(self.details.values()) - len(self.details),
                "least_remaining": self.limits.least_remaining,
                "windows": len(self.limits.windows),
                "repositories": {each.full_name: held(each) for each in self.repositories.values()},
            }

    def limits_of(self, viewer: Viewer) -> Limits:
        """The budget of a user or an installation."""
        with self._lock:
            if isinstance(viewer, Installation) and viewer not in self._limits:
                self._limits[viewer] = Limits(viewer.limit, self._window, self.speed, self.clock)
            return self._limits[viewer]

    def answer(self, body: dict[str, Any], viewer: Viewer = EVERYBODY) -> Answer:
        """The reply to one GraphQL request, after GitHub's time for it: what this machine needs is part of that."""
        begin = time.monotonic()
        limits = self.limits_of(viewer)
        if isinstance(viewer, Installation) and viewer.suspended_at is not None:
            # GitHub documents that it has no access; that it says so in these words is assumed.
            return Answer(403, {}, encoded({"message": "This installation has been suspended"}))
        with self._lock:
            failure = self.scripted.popleft() if self.scripted else None
            self.served["requests"] += 1
        if failure is not None:
            self.served["scripted"] += 1
            if failure.change is None:
                headers = {**self._headers(limits), **failure.headers}
                return Answer(failure.status, headers, failure.content, failure.cut)
        variables = body.get("variables") or {}
        try:
            document = documents(self.lacks).of(body["query"])
            if self.validation is not None:
                self.validation.check(document)
            price = price_of(document, variables, self.repositories.number_of)
        except ValidationTimeout as timeout:
            self.served["validation_timeouts"] += 1
            return Answer(200, self._headers(limits), _errors([{"message": str(timeout)}]))
        except Refused as refused:
            self.served["refused"] += 1
            return Answer(200, self._headers(limits), _errors([{"type": refused.kind, "message": str(refused)}]))
        except GraphQLError as error:
            self.served["refused"] += 1
            return Answer(200, self._headers(limits), _errors([refusal(error)]))
        limited = limits.admit(price)
        if limited is not None:
            return self._limited(limited, limits)
        with self._lock:
            self.served["points"] += price.points
            self.served[f"points of {price.operation}"] += price.points
            self.served["server_milliseconds"] += round(price.seconds * 1000)
        try:
            return self._execute(document, variables, _Admitted(viewer, limits, price, failure, begin))
        finally:
            limits.leave()

    def get(self, target: str) -> Answer:
        """The reply to one REST request."""
        with self._lock:
            failure = self.scripted.popleft() if self.scripted else None
            self.served["rest_requests"] += 1
        if failure is not None:
            self.served["scripted"] += 1
            return Answer(failure.status, {**self.rest.headers(), **failure.headers}, failure.content, failure.cut)
        begin = time.monotonic()
        status, headers, content = self.rest.answer(target, self.url)
        time.sleep(max(0.0, BASE_SECONDS / self.speed - (time.monotonic() - begin)))
        return Answer(status, headers, encoded(content))

    def _limited(self, limited: Limited, limits: Limits) -> Answer:
        self.served[f"{limited.kind}_limits"] += 1
        if limited.kind == "primary":
            error = {"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."}
            return Answer(200, self._headers(limits), _errors([error]))
        body = {
            "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
            "documentation_url": "https://docs.github.com/graphql/using-the-rest-api/rate-limits-for-the-rest-api",
        }
        return Answer(403, {**self._headers(limits), "retry-after": str(limited.retry_after)}, encoded(body))

    def _execute(self, document: DocumentNode, variables: dict[str, Any], admitted: _Admitted) -> Answer:
        limits, price, failure = admitted.limits, admitted.price, admitted.failure
        if price.is_too_slow:
            time.sleep(price.seconds / self.speed)
            self.served["timeouts"] += 1
            limits.penalize(price.points)
            message = "Something went wrong while executing your query. This may be the result of a timeout."
            return Answer(502, self._headers(limits), encoded({"data": None, "errors": [{"message": message}]}))
        poisoned = next((number for number in price.asked if number in self.poison), None)
        if poisoned is not None:
            self.served["poisoned"] += 1
            return Answer(502, self._headers(limits), self.poison[poisoned].encode())
        fields = root(self.repositories, self.owners, limits.rate_limit(price), admitted.viewer)
        answer = self._executed(document, variables, fields)
        changed = failure.change(answer) if failure is not None and failure.change is not None else answer
        content = encoded(changed)
        with self._lock:
            self.details.update((str(variables.get("repository")), number) for number in price.read)
        time.sleep(max(0.0, price.seconds / self.speed - (time.monotonic() - admitted.begin)))
        return Answer(200, self._headers(limits), content, failure.cut if failure is not None else "")

    def _executed(self, document: DocumentNode, variables: dict[str, Any], fields: Node) -> Node:
        try:
            return {"data": answer_of(schema(self.lacks), document, fields, variables, self.shown_id)}
        except Unusual:
            result = execute(schema(self.lacks), document, fields, self.shown_id, variables)
        if not isinstance(result, ExecutionResult):
            raise TypeError("the schema has asynchronous resolvers")
        answer: Node = {"data": result.data}
        if result.errors:
            answer["errors"] = [
                {**(error.extensions or {}), "path": error.path, "message": error.message} for error in result.errors
            ]
        return answer

    def _headers(self, limits: Limits) -> dict[str, str]:
        return {**limits.headers(), "x-github-request-id": f"SIM:{self.served['requests']}"}


def _errors(errors: list[Node]) -> bytes:
    return json.dumps({"errors": errors}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections that may wait for a thread: more than the most concurrent requests.
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up (a worker that was killed, say) is nothing to print a traceback about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def parse_request(self) -> bool:
            """Connections that were kept alive end with the simulator."""
            self.close_connection = True
            return not simulator._closed and super().parse_request()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            token = self.headers.get("authorization", "").partition(" ")[2]
            installation = re.fullmatch(r"/app/installations/([^/]+)/access_tokens", self.path)
            if installation:
                return self._send_json(simulator.tokens.issue(token, installation[1]))
            if self.path.partition("?")[0] != "/graphql":
                return self._send(Answer(404, {}, b'{"message": "Not Found"}'))
            viewer = simulator.tokens.viewer(token)
            if viewer is None:
                simulator.served["bad_credentials"] += 1
                answer = {"message": "Bad credentials", "documentation_url": "https://docs.github.com/graphql"}
                return self._send_json((401, {}, answer))
            return self._send(simulator.answer(body, viewer))

        def do_GET(self) -> None:
            if self.path == "/_simulator/statistics":
                return self._send_json((200, {}, simulator.statistics()))
            parts = urlsplit(self.path)
            if parts.path == "/app/installations":
                token = self.headers.get("authorization", "").partition(" ")[2]
                url = simulator.url + parts.path
                return self._send_json(simulator.tokens.installed(token, dict(parse_qsl(parts.query)), url))
            return self._send(simulator.get(self.path))

        def _send_json(self, reply: tuple[int, Mapping[str, str], Any]) -> None:
            self._send(Answer(reply[0], reply[1], encoded(reply[2])))

        def _send(self, answer: Answer) -> None:
            self.close_connection |= bool(answer.cut)
            if answer.cut == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            body, headers = answer.body, dict(answer.headers)
            zipped = "gzip" in self.headers.get("accept-encoding", "")
            if zipped and len(body) > 1000 and "content-encoding" not in headers:
                body = gzip.compress(body, 1)
                headers["content-encoding"] = "gzip"
            self.send_response_only(answer.status)
            self.send_header("date", formatdate(simulator.clock(), usegmt=True))
            self.send_header("content-type", "application/json; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if answer.cut == "end" else body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are counted, not printed."""

    return Handler
