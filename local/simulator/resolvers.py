"""The answers: repositories, pull requests and their pages, as GraphQL resolvers over dictionaries."""

from __future__ import annotations

import base64
import bisect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

from local.simulator import timeline
from local.simulator.data import Node, Repository
from local.simulator.node_ids import other_form
from local.simulator.price import CONNECTIONS
from local.simulator.viewers import EVERYBODY, Viewer

if TYPE_CHECKING:
    from local.simulator.owners import Owners

# Where GitHub ends a connection, whatever its totalCount says.
ENDS = {"commits": 250}


def held(repository: Repository) -> dict[str, int]:
    """How much of everything a repository has."""
    pull_requests = repository.pull_requests.values()
    return {
        "pull_requests": len(pull_requests),
        "reviews": sum(len(each["reviews"]) for each in pull_requests),
        "issue_comments": sum(len(each["comments"]) for each in pull_requests),
        "review_comments": sum(len(review["comments"]) for each in pull_requests for review in each["reviews"]),
        "commits": sum(min(len(each["commits"]), ENDS["commits"]) for each in pull_requests),
        "files": sum(len(each["files"]) for each in pull_requests),
    }


class Repositories(dict[str, Repository]):
    """By node id; found by present or former name too."""

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        super().__init__(repositories)
        self._found: dict[str, tuple[Repository, int]] = {}

    def named(self, full_name: str, viewer: Viewer = EVERYBODY) -> Repository | None:
        """By present or former name, if the viewer sees it."""
        wanted = full_name.lower()
        for each in self.values():
            if viewer.sees(each) and each.full_name.lower() == wanted:
                return each
        return next((each for each in self.values() if viewer.sees(each) and wanted in each.former_names), None)

    def node(self, node_id: str, viewer: Viewer = EVERYBODY) -> Any:
        """A repository, a pull request, a review or a review thread, as a resolver's value. Either form of its id finds it."""
        ids = (node_id, other_form(node_id))
        found = next((self[each] for each in ids if each in self), None)
        if found is not None and viewer.sees(found):
            return RepositoryView(found, viewer)
        held = self._pull_request(node_id)
        if held is not None and viewer.sees(held[0]):
            return View(held[0].pull_requests[held[1]], held[0], viewer)
        for repository in () if found is not None else filter(viewer.sees, self.values()):
            for pull_request in repository.pull_requests.values():
                for each in (*pull_request["reviews"], *pull_request["reviewThreads"]):
                    if each["id"] in ids:
                        return View(each, repository, viewer)
        return not_found(f"Could not resolve to a node with the global id of '{node_id}'")

    def number_of(self, node_id: str) -> int | None:
        """The number of a pull request."""
        held = self._pull_request(node_id)
        return held[1] if held is not None else None

    def _pull_request(self, node_id: str) -> tuple[Repository, int] | None:
        """By a node id that may have changed since it was looked up last."""
        ids = (node_id, other_form(node_id))
        if any(each in self or each.startswith(("PRR_", "PRRT_")) for each in ids):
            return None
        for _ in range(2):
            for each in ids:
                held = self._found.get(each)
                if held is not None and not held[0].hidden:
                    pull_request = held[0].pull_requests.get(held[1])
                    if pull_request is not None and pull_request["id"] == each:
                        return held
            self._found = {
                each["id"]: (repository, number)
                for repository in list(self.values())
                for number, each in list(repository.pull_requests.items())
            }
        return None


def root(repositories: Repositories, owners: Owners, rate_limit: Node | None, viewer: Viewer) -> Node:
    """The fields of Query for one request."""

    def repository(info: Any, owner: str, name: str, followRenames: bool = True) -> Any:
        found = repositories.named(f"{owner}/{name}", viewer)
        if found is None:
            return not_found(f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        return RepositoryView(found, viewer)

    def owner(info: Any, login: str) -> Any:
        return owners.named(login, viewer)

    def node(info: Any, id: str) -> Any:
        found = None if id in repositories else owners.node(id, viewer)
        return found or repositories.node(id, viewer)

    def nodes(info: Any, ids: list[str]) -> Any:
        return [repositories.node(each, viewer) for each in ids]

    login = viewer.login
    person = {"__typename": "User", "id": f"U_{login}", "databaseId": 1, "login": login, "avatarUrl": "", "url": ""}
    return {
        "rateLimit": rate_limit,
        "repository": repository,
        "repositoryOwner": owner,
        "node": node,
        "nodes": nodes,
        "viewer": person,
    }


class View(dict[str, Any]):
    """A node whose lists are connections: each becomes a function of the page that is asked."""

    def __init__(self, node: Node, repository: Repository, viewer: Viewer = EVERYBODY) -> None:
        super().__init__(node)
        for name in CONNECTIONS & node.keys():
            self[name] = _connection(name, node[name], repository, viewer)


class RepositoryView(dict[str, Any]):
    """A repository: its pull requests by page and by number."""

    def __init__(self, repository: Repository, viewer: Viewer = EVERYBODY) -> None:
        super().__init__(repository.node)

        def pull_request(info: Any, number: int) -> Any:
            found = repository.pull_requests.get(number)
            if found is None:
                return not_found(f"Could not resolve to a PullRequest with the number of {number}.")
            return View(found, repository, viewer)

        def pull_requests(info: Any, orderBy: Node | None = None, states: Any = None, **page: Any) -> Node:
            order = orderBy or {"field": "CREATED_AT", "direction": "ASC"}
            key = "createdAt" if order["field"] == "CREATED_AT" else "updatedAt"
            keyed = sorted((each[key], each["number"]) for each in repository.pull_requests.values())
            if order["direction"] == "DESC":
                keyed.reverse()
            rows = page_by_key(keyed, page.get("first"), page.get("after"), order["direction"] == "DESC")
            chosen = [View(repository.pull_requests[number], repository, viewer) for _, number in rows[0]]
            return {"totalCount": len(keyed), "nodes": chosen, "pageInfo": rows[1]}

        is_refused = viewer.may_not_read_pull_requests(repository)
        self["pullRequest"] = _refused if is_refused else pull_request
        self["pullRequests"] = _refused if is_refused else pull_requests


def _refused(info: Any, **_: Any) -> None:
    raise GraphQLError("Resource not accessible by integration", extensions={"type": "FORBIDDEN"})


def _connection(name: str, held: list[Node], repository: Repository, viewer: Viewer) -> Any:
    def resolve(
        info: Any,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        itemTypes: list[str] | None = None,
    ) -> Node:
        # GitHub's count takes no notice of the types that are asked for.
        total = len(held) + (0 if itemTypes is None else timeline.OTHER_ITEMS)
        items = held if itemTypes is None else [each for each in held if timeline.item_type(each) in itemTypes]
        most = min(len(items), ENDS.get(name, len(items)))
        start = int(_decoded(after)[0]) if after else 0
        end = min(most, int(_decoded(before)[0])) if before else most
        if first is not None:
            end = min(end, start + first)
        elif last is not None:
            start = max(start, end - last)
        chosen = [_item(name, each, repository, viewer) for each in items[start:end]]
        return {
            "totalCount": total,
            "nodes": chosen,
            "pageInfo": {
                "hasNextPage": end < most,
                "hasPreviousPage": start > 0,
                "startCursor": _encoded(start, ""),
                "endCursor": _encoded(end, ""),
            },
        }

    return resolve


def _item(name: str, node: Node, repository: Repository, viewer: Viewer) -> Node:
    if name == "reviewRequests":
        return {"requestedReviewer": node}
    if name == "closingIssuesReferences":
        return {"id": f"I_{node['number']}", "number": node["number"], "repository": RepositoryView(repository, viewer)}
    return node if CONNECTIONS.isdisjoint(node) else View(node, repository, viewer)


def page_by_key(
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


@lru_cache(10_000)
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


def not_found(message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"type": "NOT_FOUND"})
