"""Organisations and users that own the repositories: found by login or node id, with their repositories page by page."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLError

from local.simulator.data import Node, Repository
from local.simulator.node_ids import other_form
from local.simulator.resolvers import Repositories, RepositoryView, page_by_key
from local.simulator.viewers import Viewer


class Owners:
    """The owners of all repositories, and owners that have none. A hidden owner is one that the token does not see."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._nodes: dict[str, Node] = {}
        self.hidden: set[str] = set()

    def add(self, login: str, *, is_user: bool = False) -> None:
        """An owner without repositories, or the type of one that has some."""
        node_id = next((key for key, each in self._known().items() if each["login"].lower() == login.lower()), None)
        kind = "User" if is_user else "Organization"
        node = {"__typename": kind, "id": node_id or f"O_{login}", "login": login}
        self._nodes[node["id"]] = node
        self._replace(node)

    def rename(self, login: str, to: str) -> None:
        """The login changes, and the node id stays. GitHub does not lead from the old login to the new one."""
        (node,) = [each for each in self._known().values() if each["login"] == login]
        self._nodes[node["id"]] = {**node, "login": to}
        for each in list(self._repositories.values()):
            if each.node["owner"]["id"] == node["id"]:
                each.rename(f"{to}/{each.node['name']}")

    def named(self, login: str, viewer: Viewer) -> Node | None:
        """By login, without case; GitHub gives null without an error for an owner that it does not show."""
        found = [each for each in self._known().values() if each["login"].lower() == login.lower()]
        return self._view(found[0], viewer) if found and found[0]["id"] not in self.hidden else None

    def node(self, node_id: str, viewer: Viewer) -> Node | None:
        """By either form of the node id."""
        known = self._known()
        found = next((known[each] for each in (node_id, other_form(node_id)) if each in known), None)
        return self._view(found, viewer) if found is not None and found["id"] not in self.hidden else None

    def hide(self, login: str) -> None:
        """The token sees nothing of this owner any more."""
        self.hidden |= {key for key, each in self._known().items() if each["login"] == login}

    def _known(self) -> dict[str, Node]:
        of_repositories = {each.node["owner"]["id"]: each.node["owner"] for each in list(self._repositories.values())}
        return {**of_repositories, **self._nodes}

    def _replace(self, node: Node) -> None:
        for each in list(self._repositories.values()):
            if each.node["owner"]["id"] == node["id"]:
                each.set(owner=node)

    def _view(self, node: Node, viewer: Viewer) -> Node:
        def repositories(info: Any, orderBy: Node | None = None, ownerAffiliations: Any = None, **page: Any) -> Node:
            if orderBy != {"field": "CREATED_AT", "direction": "ASC"} or ownerAffiliations != ["OWNER"]:
                raise GraphQLError("the simulator lists an owner's own repositories, the oldest first")
            owned = {
                each.node["databaseId"]: each
                for each in list(self._repositories.values())
                if each.node["owner"]["id"] == node["id"] and viewer.sees(each)
            }
            keyed = sorted((each.node["createdAt"], number) for number, each in owned.items())
            chosen, info_of_page = page_by_key(keyed, page.get("first"), page.get("after"), descending=False)
            return {
                "totalCount": len(keyed),
                "nodes": [_shown(owned[number], viewer) for _, number in chosen],
                "pageInfo": info_of_page,
            }

        return {"avatarUrl": "", "url": f"https://github.com/{node['login']}", **node, "repositories": repositories}


def _shown(repository: Repository, viewer: Viewer) -> Any:
    """A repository of a list, or the refusal in its place."""
    if not repository.withheld:
        return RepositoryView(repository, viewer)
    return GraphQLError(
        "Resource protected by organization SAML enforcement. You must grant your OAuth token access to this organization.",
        extensions={"type": "FORBIDDEN", "saml_failure": True},
    )
