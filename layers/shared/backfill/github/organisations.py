"""The repositories of an organisation or a user, a hundred in a request. A page costs one point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backfill.github import cost, documents, records
from backfill.github.errors import Forbidden, Unexplained
from backfill.github.governor import LISTING_SLEEP_SECONDS
from backfill.github.records import Node
from backfill.github.session import Price, Session

PAGE = 100

# One connection weighs 1: totalCount is free of points. A user's own repositories are OWNER; without it GitHub adds those that
# the user works on. The oldest first: a repository that is created during the listing comes at its end.
_OWNED = f"""{{ __typename id login
    repositories(first: $first, after: $after, ownerAffiliations: [OWNER], orderBy: {{field: CREATED_AT, direction: ASC}}) {{
      totalCount pageInfo {{ hasNextPage endCursor }}
      nodes {{ {documents.REPOSITORY} pullRequests {{ totalCount }} }}
    }} }}"""
BY_LOGIN = f"""query ListRepositoriesOfLogin($login: String!, $first: Int!, $after: String) {{
  repositoryOwner(login: $login) {_OWNED}
  {documents.RATE_LIMIT}
}}"""
BY_ID = f"""query ListRepositoriesOfOwner($owner: ID!, $first: Int!, $after: String) {{
  node(id: $owner) {{ ... on RepositoryOwner {_OWNED} }}
  {documents.RATE_LIMIT}
}}"""


@dataclass(frozen=True, slots=True, eq=False)
class OwnedRepository:
    """A repository of a list: its row of ``repositories``, and GitHub's count of its pull requests."""

    row: Mapping[str, Any]
    total_prs: int

    @property
    def github_id(self) -> int:
        """GitHub's number, which does not change with the form of the node id."""
        return int(self.row["github_id"])

    @property
    def full_name(self) -> str:
        """OWNER/NAME."""
        return f"{self.row['owner']}/{self.row['name']}"


@dataclass(frozen=True, slots=True)
class OwnerPage:
    """One page. GitHub counts ``total`` repositories; where the token may not see one, the page has less than it should."""

    node_id: str
    login: str
    is_user: bool
    total: int
    repositories: tuple[OwnedRepository, ...]
    end_cursor: str | None
    has_next_page: bool


def owned(session: Session, login: str, node_id: str | None, cursor: str | None, page_size: int) -> OwnerPage:
    """The page after ``cursor``, by ``node_id`` if it is known: an owner that was renamed keeps it, and loses the login."""
    page = {"first": page_size, "after": cursor}
    document, owner = (BY_LOGIN, {"login": login}) if node_id is None else (BY_ID, {"owner": node_id})
    price = Price(seconds=cost.seconds(listed=page_size))
    reply = session.query(document, {**owner, **page}, price, patience=LISTING_SLEEP_SECONDS)
    root = "repositoryOwner" if node_id is None else "node"
    if (root,) in reply.refused:
        raise Forbidden(reply.refused[root,].reason)
    found = reply.data.get(root)
    if not found:
        raise session.not_shown(f"organisation or user {login}")
    its = found["repositories"]
    info = its["pageInfo"]
    if info["hasNextPage"] and info["endCursor"] in (None, "", cursor):
        raise Unexplained("GitHub says that its listing goes on, and gives no cursor that does")
    return OwnerPage(
        found["id"],
        found["login"],
        found["__typename"] == "User",
        int(its["totalCount"]),
        tuple(_owned(each) for each in its["nodes"] if each),
        info["endCursor"],
        bool(info["hasNextPage"]),
    )


def _owned(node: Node) -> OwnedRepository:
    """Raises TypeError for a repository without a number, which makes the reply Unexplained."""
    row = records.repository(records.clean(node))
    return OwnedRepository({**row, "github_id": int(row["github_id"])}, int(node["pullRequests"]["totalCount"]))
