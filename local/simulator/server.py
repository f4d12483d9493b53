"""GitHub's GraphQL API, as strict as GitHub where the backfill could go wrong: price, limits, paging, failures.

Time runs ``speed`` times as fast as GitHub's, also for the windows of the limits.
"""

from __future__ import annotations

import base64
import bisect
import gzip
import json
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    build_schema,
    execute,
    parse,
    validate,
)

from local.simulator.data import Node, Repository
from local.simulator.schema import SDL

# Fields that take a page, and what each is reached from.
CONNECTIONS = {
    "pullRequests", "labels", "assignees", "reviewRequests", "closingIssuesReferences", "comments", "reviews",
    "reviewThreads", "commits", "files",
}  # fmt: skip
MOST_NODES = 500_000
# Seconds of GitHub's time: per request, per pull request of a light listing, and per pull request with connections.
BASE_SECONDS, LISTED_SECONDS, DETAILED_SECONDS = 0.15, 0.006, 0.1
QUERY_SECONDS = 10.0
WINDOW_SECONDS, SERVER_SECONDS, POINTS_A_MINUTE, MOST_CONCURRENT = 60.0, 60.0, 2000, 100
CACHED_DOCUMENTS = 400


class Refused(Exception):
    """GitHub's own error for a query that breaks a rule."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Price:
    """What a query costs by the formula, and what it touches."""

    weight: int = 0
    nodes: int = 0
    detailed: list[int] = field(default_factory=list)
    listed: int = 0

    @property
    def points(self) -> int:
        return max(1, (self.weight + 50) // 100)

    @property
    def seconds(self) -> float:
        return BASE_SECONDS + LISTED_SECONDS * self.listed + DETAILED_SECONDS * len(self.detailed)


class Simulator:
    """``with Simulator(repositories, speed=…) as simulator: simulator.url``. Counts what it served in ``served``."""

    def __init__(
        self,
        repositories: list[Repository],
        *,
        speed: float = 10.0,
        limit: int = 5000,
        window: float = 3600.0,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        self.repositories = {each.node["id"]: each for each in repositories}
        self.speed, self.limit, self.window, self.token = speed, limit, window, token
        self.served: Counter[str] = Counter()
        self.details: Counter[int] = Counter()
        self.scripted: deque[dict[str, Any]] = deque()
        self.poison: dict[int, str] = {}
        self.least_remaining = limit
        self._used, self._window_began = 0, time.time()
        self._recent: deque[tuple[float, float, int]] = deque()
        self._running = 0
        self._closed = False
        self._lock = threading.Lock()
        self._documents: OrderedDict[str, DocumentNode] = OrderedDict()
        self._schema = build_schema(SDL)
        for name in ("Node", "Actor", "RequestedReviewer", "RepositoryOwner"):
            kind: Any = self._schema.type_map[name]
            kind.resolve_type = lambda value, *_: value["__typename"]
        self._server = ThreadingHTTPServer((host, port), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Simulator:
        threading.Thread(target=self._server.serve_forever, name="simulator", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def script(self, *failures: dict[str, Any]) -> None:
        """The next requests get these replies: ``status``, ``body`` (text or JSON), ``headers``, ``close``; {} passes."""
        self.scripted.extend(failures)

    def repository(self, full_name: str) -> Repository | None:
        """By present or former name."""
        wanted = full_name.lower()
        for each in self.repositories.values():
            if not each.hidden and each.full_name.lower() == wanted:
                return each
        return next((r for r in self.repositories.values() if not r.hidden and wanted in r.former_names), None)

    def statistics(self) -> dict[str, Any]:
        """What was served so far."""
        with self._lock:
            return {
                **self.served,
                "detailed": len(self.details),
                "detailed_again": sum(self.details.values()) - len(self.details),
                "least_remaining": self.least_remaining,
                "repositories": {each.full_name: held(each) for each in self.repositories.values()},
            }

    # One query

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one GraphQL request."""
        with self._lock:
            failure = self.scripted.popleft() if self.scripted else {}
            self.served["requests"] += 1
        if failure:
            self.served["scripted"] += 1
            text = failure.get("body", "")
            content = text if isinstance(text, str) else json.dumps(text)
            return failure.get("status", 200), {**self._headers(), **failure.get("headers", {})}, content.encode()
        variables = body.get("variables") or {}
        try:
            document = self._document(body["query"])
            price = self._price(document, variables)
        except Refused as refused:
            self.served["refused"] += 1
            return 200, self._headers(), _errors([{"type": refused.kind, "message": str(refused)}])
        except GraphQLError as error:
            self.served["refused"] += 1
            return 200, self._headers(), _errors([{"message": error.message}])
        limited = self._admit(price)
        if limited is not None:
            return limited
        try:
            return self._execute(document, variables, price)
        finally:
            with self._lock:
                self._running -= 1

    def _execute(
        self, document: DocumentNode, variables: dict[str, Any], price: Price
    ) -> tuple[int, dict[str, str], bytes]:
        if price.seconds > QUERY_SECONDS:
            time.sleep(QUERY_SECONDS / self.speed)
            self.served["timeouts"] += 1
            return (
                502,
                self._headers(),
                json.dumps(
                    {
                        "data": None,
                        "errors": [
                            {
                                "message": "Something went wrong while executing your query. This may be the result of a timeout."
                            }
                        ],
                    }
                ).encode(),
            )
        begin = time.monotonic()
        poisoned = next((number for number in price.detailed if number in self.poison), None)
        if poisoned is not None:
            self.served["poisoned"] += 1
            return 502, self._headers(), self.poison[poisoned].encode()
        result = execute(self._schema, document, self._root(price), variable_values=variables)
        if not isinstance(result, ExecutionResult):
            raise TypeError("the schema has asynchronous resolvers")
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [
                {**(error.extensions or {}), "path": error.path, "message": error.message} for error in result.errors
            ]
        content = json.dumps(answer).encode()
        with self._lock:
            self.details.update(price.detailed)
        time.sleep(max(0.0, price.seconds / self.speed - (time.monotonic() - begin)))
        return 200, self._headers(), content

    def _document(self, text: str) -> DocumentNode:
        with self._lock:
            known = self._documents.get(text)
        if known is not None:
            return known
        document = parse(text, no_location=True)
        problems = validate(self._schema, document)
        if problems:
            raise problems[0]
        with self._lock:
            self._documents[text] = document
            while len(self._documents) > CACHED_DOCUMENTS:
                self._documents.popitem(last=False)
        return document

    # Price and limits

    def _price(self, document: DocumentNode, variables: dict[str, Any]) -> Price:
        price = Price()
        fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                self._walk(definition.selection_set, 1, price, variables, fragments)
        if price.nodes > MOST_NODES:
            raise Refused(
                "MAX_NODE_LIMIT_EXCEEDED",
                f"This query requests up to {price.nodes} possible nodes, over the maximum of {MOST_NODES}.",
            )
        return price

    def _walk(
        self, selections: SelectionSetNode | None, parents: int, price: Price, variables: dict[str, Any],
        fragments: dict[str, FragmentDefinitionNode],
    ) -> None:  # fmt: skip
        for field_node in _fields(selections, fragments):
            name = field_node.name.value
            arguments = {each.name.value: _value(each.value, variables) for each in field_node.arguments or ()}
            below = parents
            if name == "nodes" and "ids" in arguments:
                if len(arguments["ids"]) > 100:
                    raise Refused("ARGUMENT_LIMIT", "You may not provide more than 100 node ids.")
                below = len(arguments["ids"])
            elif name == "pullRequest" and isinstance(arguments.get("number"), int):
                price.detailed.append(arguments["number"])
            elif name in CONNECTIONS and field_node.selection_set is not None:
                first = arguments.get("first", arguments.get("last"))
                asked = {each.name.value for each in _fields(field_node.selection_set, fragments)}
                if first is None:
                    if asked & {"nodes", "edges", "pageInfo"}:
                        raise Refused(
                            "MISSING_PAGINATION_BOUNDARIES",
                            f"You must provide a `first` or `last` value to properly paginate the `{name}` connection.",
                        )
                    continue
                if not 1 <= first <= 100:
                    raise Refused(
                        "EXCESSIVE_PAGINATION",
                        f"Requesting {first} records on the `{name}` connection exceeds the `first` limit of 100 records.",
                    )
                price.weight += parents
                below = parents * first
                price.nodes += below
                if name == "pullRequests":
                    price.listed += below
            self._walk(field_node.selection_set, below, price, variables, fragments)

    def _admit(self, price: Price) -> tuple[int, dict[str, str], bytes] | None:
        """Charge the query, or the reply that refuses it."""
        with self._lock:
            now = time.time()
            self._turn(now)
            horizon = now - WINDOW_SECONDS / self.speed
            while self._recent and self._recent[0][0] < horizon:
                self._recent.popleft()
            seconds = sum(each[1] for each in self._recent)
            points = sum(each[2] for each in self._recent)
            if (
                self._running >= MOST_CONCURRENT
                or seconds + price.seconds > SERVER_SECONDS * 1.02
                or points + price.points > POINTS_A_MINUTE
            ):
                self.served["secondary_limits"] += 1
                wait = max(1, round((self._recent[0][0] - horizon) if self._recent else 1))
                body = {
                    "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
                    "documentation_url": "https://docs.github.com/graphql/using-the-rest-api/rate-limits-for-the-rest-api",
                }
                return 403, {**self._headers(), "retry-after": str(wait)}, json.dumps(body).encode()
            if self._used + price.points > self.limit:
                self.served["primary_limits"] += 1
                return (
                    200,
                    self._headers(),
                    _errors([{"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."}]),
                )
            self._used += price.points
            self.least_remaining = min(self.least_remaining, self.limit - self._used)
            self.served["points"] += price.points
            self.served["server_milliseconds"] += round(price.seconds * 1000)
            self._recent.append((now, price.seconds, price.points))
            self._running += 1
        return None

    def _turn(self, now: float) -> None:
        length = self.window / self.speed
        if now >= self._window_began + length:
            self._window_began, self._used = now, 0

    def _headers(self) -> dict[str, str]:
        reset = self._window_began + self.window / self.speed
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.limit - self._used),
            "x-ratelimit-used": str(self._used),
            "x-ratelimit-reset": str(round(reset + 0.5)),
            "x-ratelimit-resource": "graphql",
            "x-github-request-id": f"SIM:{self.served['requests']}",
        }

    # Resolvers: the root's; below it, dictionaries and pages

    def _root(self, price: Price) -> dict[str, Any]:
        def rate_limit(info: Any, dryRun: bool = False) -> Node:
            reset = datetime.fromtimestamp(self._window_began + self.window / self.speed + 0.999, UTC)
            return {
                "cost": price.points,
                "limit": self.limit,
                "nodeCount": price.nodes,
                "remaining": self.limit - self._used,
                "used": self._used,
                "resetAt": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }

        def repository(info: Any, owner: str, name: str, followRenames: bool = True) -> Any:
            found = self.repository(f"{owner}/{name}")
            if found is None:
                return _not_found(f"Could not resolve to a Repository with the name '{owner}/{name}'.")
            return _RepositoryView(found)

        def node(info: Any, id: str) -> Any:
            return self._node(id)

        def nodes(info: Any, ids: list[str]) -> Any:
            return [self._node(each) for each in ids]

        viewer = {
            "__typename": "User",
            "id": "U_viewer",
            "databaseId": 1,
            "login": "viewer",
            "avatarUrl": "",
            "url": "",
        }
        return {"rateLimit": rate_limit, "repository": repository, "node": node, "nodes": nodes, "viewer": viewer}

    def _node(self, node_id: str) -> Any:
        found = self.repositories.get(node_id)
        if found is not None and not found.hidden:
            return _RepositoryView(found)
        if node_id.startswith(("PRR_", "PRRT_")):
            for repository in self.repositories.values():
                for pull_request in repository.pull_requests.values():
                    for each in (*pull_request["reviews"], *pull_request["reviewThreads"]):
                        if each["id"] == node_id:
                            return _View(each, repository)
        return _not_found(f"Could not resolve to a node with the global id of '{node_id}'")


def held(repository: Repository) -> dict[str, int]:
    """How much of everything a repository has."""
    pull_requests = repository.pull_requests.values()
    return {
        "pull_requests": len(pull_requests),
        "reviews": sum(len(each["reviews"]) for each in pull_requests),
        "issue_comments": sum(len(each["comments"]) for each in pull_requests),
        "review_comments": sum(len(review["comments"]) for each in pull_requests for review in each["reviews"]),
        "commits": sum(len(each["commits"]) for each in pull_requests),
        "files": sum(len(each["files"]) for each in pull_requests),
    }


class _View(dict[str, Any]):
    """A node whose lists are connections: each becomes a function of the page that is asked."""

    def __init__(self, node: Node, repository: Repository) -> None:
        super().__init__(node)
        for name in CONNECTIONS & node.keys():
            self[name] = _connection(name, node[name], repository)


class _RepositoryView(dict[str, Any]):
    """A repository: its pull requests by page and by number."""

    def __init__(self, repository: Repository) -> None:
        super().__init__(repository.node)

        def pull_request(info: Any, number: int) -> Any:
            found = repository.pull_requests.get(number)
            if found is None:
                return _not_found(f"Could not resolve to a PullRequest with the number of {number}.")
            return _View(found, repository)

        def pull_requests(info: Any, orderBy: Node | None = None, states: Any = None, **page: Any) -> Node:
            order = orderBy or {"field": "CREATED_AT", "direction": "ASC"}
            key = "createdAt" if order["field"] == "CREATED_AT" else "updatedAt"
            keyed = sorted((each[key], each["number"]) for each in repository.pull_requests.values())
            if order["direction"] == "DESC":
                keyed.reverse()
            rows = _page_by_key(keyed, page.get("first"), page.get("after"), order["direction"] == "DESC")
            chosen = [_View(repository.pull_requests[number], repository) for _, number in rows[0]]
            return {"totalCount": len(keyed), "nodes": chosen, "pageInfo": rows[1]}

        self["pullRequest"] = pull_request
        self["pullRequests"] = pull_requests


def _connection(name: str, items: list[Node], repository: Repository) -> Any:
    def resolve(
        info: Any,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Node:
        start = int(_decoded(after)[0]) if after else 0
        end = min(len(items), int(_decoded(before)[0])) if before else len(items)
        if first is not None:
            end = min(end, start + first)
        elif last is not None:
            start = max(start, end - last)
        chosen = [_item(name, each, repository) for each in items[start:end]]
        return {
            "totalCount": len(items),
            "nodes": chosen,
            "pageInfo": {
                "hasNextPage": end < len(items),
                "hasPreviousPage": start > 0,
                "startCursor": _encoded(start, ""),
                "endCursor": _encoded(end, ""),
            },
        }

    return resolve


def _item(name: str, node: Node, repository: Repository) -> Node:
    if name == "reviewRequests":
        return {"requestedReviewer": node}
    if name == "closingIssuesReferences":
        return {"id": f"I_{node['number']}", "number": node["number"], "repository": _RepositoryView(repository)}
    return _View(node, repository)


def _page_by_key(
    keyed: list[tuple[str, int]], first: int | None, after: str | None, descending: bool
) -> tuple[list[tuple[str, int]], Node]:
    """Cursors hold the sort value and the number: what is inserted or deleted elsewhere does not shift the page."""
    start = 0
    if after:
        value, number = _decoded(after)
        at = (value, int(number))
        start = len(keyed) - bisect.bisect_left(keyed[::-1], at) if descending else bisect.bisect_right(keyed, at)
    end = min(len(keyed), start + (first or 0))
    chosen = keyed[start:end]
    return chosen, {
        "hasNextPage": end < len(keyed),
        "hasPreviousPage": start > 0,
        "startCursor": _encoded(*chosen[0]) if chosen else None,
        "endCursor": _encoded(*chosen[-1]) if chosen else None,
    }


def _encoded(value: str | int, number: str | int) -> str:
    return base64.b64encode(json.dumps([value, number]).encode()).decode()


def _decoded(cursor: str) -> tuple[Any, Any]:
    try:
        value, number = json.loads(base64.b64decode(cursor, validate=True))
    except ValueError:
        raise GraphQLError(
            f"`{cursor}` does not appear to be a valid cursor.", extensions={"type": "INVALID_CURSOR_ARGUMENTS"}
        ) from None
    return value, number


def _not_found(message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"type": "NOT_FOUND"})


def _errors(errors: list[Node]) -> bytes:
    return json.dumps({"errors": errors}).encode()


def _fields(selections: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode]) -> Iterator[FieldNode]:
    for selection in selections.selections if selections else ():
        if isinstance(selection, FieldNode):
            yield selection
        elif isinstance(selection, InlineFragmentNode):
            yield from _fields(selection.selection_set, fragments)
        elif isinstance(selection, FragmentSpreadNode):
            yield from _fields(fragments[selection.name.value].selection_set, fragments)


def _value(node: ValueNode, variables: dict[str, Any]) -> Any:
    if isinstance(node, VariableNode):
        return variables.get(node.name.value)
    if isinstance(node, IntValueNode):
        return int(node.value)
    return getattr(node, "value", None)


def _handler(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            """Connections that were kept alive end with the simulator."""
            self.close_connection = True
            return not simulator._closed and super().parse_request()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if self.path != "/graphql":
                return self._send(404, {}, b'{"message": "Not Found"}')
            token = self.headers.get("authorization", "").partition(" ")[2]
            if not token or (simulator.token is not None and token != simulator.token):
                return self._send(
                    401, {}, b'{"message": "Bad credentials", "documentation_url": "https://docs.github.com/graphql"}'
                )
            return self._send(*simulator.answer(body))

        def do_GET(self) -> None:
            if self.path == "/_simulator/statistics":
                return self._send(200, {}, json.dumps(simulator.statistics()).encode())
            return self._send(404, {}, b'{"message": "Not Found"}')

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if "gzip" in self.headers.get("accept-encoding", "") and len(body) > 1000:
                body = gzip.compress(body, 1)
                headers = {**headers, "content-encoding": "gzip"}
            self.send_response_only(status)
            self.send_header("date", formatdate(usegmt=True))
            self.send_header("content-type", "application/json; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are counted, not printed."""

    return Handler
