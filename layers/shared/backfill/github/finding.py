"""Repositories: by name, many names at once, and what has changed in those that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from backfill.errors import Permanent, Retryable
from backfill.github import cost, documents, records
from backfill.github.errors import (
    Forbidden,
    InvalidQuery,
    ScopeMissing,
    TooLarge,
    Unexplained,
    UnknownField,
)
from backfill.github.records import Node, Row
from backfill.github.refusals import below
from backfill.github.replies import Reply
from backfill.github.session import Price, Session

Names = Sequence[tuple[str, str]]


class Found(NamedTuple):
    """A repository's row, and how many pull requests GitHub counts."""

    row: Row
    total_prs: int


def one(session: Session, owner: str, name: str) -> Found:
    """A repository by name. Renames are followed."""
    node = session.query(documents.FIND, {"owner": owner, "name": name}).data.get("repository")
    if node is None:
        raise session.not_shown(f"repository {owner}/{name}")
    return _found(node)


class Finder:
    """Finds up to 100 repositories at once. The first request checks that the server knows everything the queries name.

    github.com needs no check: the queries are written for its schema.
    """

    def __init__(self, session: Session, *, checks_schema: bool) -> None:
        self._session = session
        self._checks_schema = checks_schema
        # What the server's schema lacked at the last check. Nothing can be read from such a server.
        self.unsupported: UnknownField | None = None

    def find(self, names: Names) -> dict[str, Found | Permanent | Retryable]:
        """Repositories by ``owner/name``; an error where GitHub shows none."""
        found: dict[str, Found | Permanent | Retryable] = {}
        waiting, checks = names, self._checks_schema
        while waiting:
            text = documents.find_and_check if checks else documents.find
            some = self._session.fitting(waiting, text)
            try:
                reply = self._session.query(text(some), {})
            except (InvalidQuery, ScopeMissing) as error:
                if not checks:
                    raise
                # The names are asked for all the same: the answer says whose backfill waits for a newer server.
                self.unsupported, checks = error if isinstance(error, UnknownField) else None, False
                continue
            except TooLarge as error:
                if checks and len(some) == 1:
                    # The check is too large for this server. The first listing tells what the server lacks.
                    checks = False
                else:
                    self._session.ask_less(len(some), error)
                continue
            if checks:
                self._checks_schema = checks = False
                self.unsupported = None
            self._session.ask_more(len(some))
            waiting = waiting[len(some) :]
            found.update(_answers(self._session, some, reply))
        return found


def _answers(session: Session, names: Names, reply: Reply) -> dict[str, Found | Permanent | Retryable]:
    found: dict[str, Found | Permanent | Retryable] = {}
    for index, (owner, name) in enumerate(names):
        node, full_name = reply.data[f"r{index}"], f"{owner}/{name}"
        if node:
            found[full_name] = _found(node)
        elif (f"r{index}",) in reply.missing:
            found[full_name] = session.not_shown(f"repository {full_name}")
        else:
            # Where a part of it is refused that GitHub's schema requires, all of it is null.
            refusal = next(iter(below(reply.refused, (f"r{index}",)).values()), None)
            if refusal is not None and refusal.is_definite:
                found[full_name] = Forbidden(refusal.reason)
            else:
                reason = refusal.reason if refusal else "GitHub gave null without a reason"
                found[full_name] = Unexplained(f"{full_name}: {reason}")
    return found


def _found(node: Node) -> Found:
    return Found(records.repository(node), int(node["pullRequests"]["totalCount"]))


class RepositoryState(NamedTuple):
    """A repository's row, its count of pull requests, and its newest ``updatedAt``."""

    repository: Row
    total_prs: int
    latest_updated_at: str | None


# By node id. None: GitHub has no such repository. Unexplained: a null without a reason.
States = Mapping[str, RepositoryState | Unexplained | None]


def check_for_changes(session: Session, node_ids: Sequence[str]) -> States:
    """Ask for the totals and the newest change of up to 100 repositories at once."""
    weight = cost.weight([cost.Connection(1)], parents=len(node_ids))
    price = Price(cost.points(weight), cost.seconds(listed=len(node_ids)))
    reply = session.query(documents.EXAMINE, {"ids": list(node_ids)}, price)
    found: dict[str, RepositoryState | Unexplained | None] = dict.fromkeys(node_ids)
    for index, (node_id, node) in enumerate(zip(node_ids, reply.data["nodes"], strict=True)):
        if node:
            newest = [each for each in node["pullRequests"]["nodes"] if each]
            found[node_id] = RepositoryState(
                records.repository(node),
                node["pullRequests"]["totalCount"],
                newest[0]["updatedAt"] if newest else None,
            )
        elif ("nodes", index) not in reply.missing:
            found[node_id] = Unexplained(f"GitHub gave null for repository {node_id} without a reason")
    return found
