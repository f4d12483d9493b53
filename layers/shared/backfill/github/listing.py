"""List-level rows of pull requests: a page of a listing, or pull requests by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backfill.error_codes import ErrorCode
from backfill.github import cost, documents, records
from backfill.github.detail_query import list_numbers
from backfill.github.errors import MALFORMED, TooLarge, Unexplained
from backfill.github.governor import LISTING_SLEEP_SECONDS
from backfill.github.records import Node, Row, Tables
from backfill.github.refusals import Refusal, below
from backfill.github.replies import Reply
from backfill.github.session import Price, Session, repository_node

# Numbers beside a pull request that a listing page does not show. One of them may be its own.
CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing, as rows. ``latest_updated_at`` is of the whole repository.

    ``refused``: numbers that GitHub has and does not show. ``unplaced``: reasons of null rows whose numbers are unknown.
    """

    repository: Row
    total_prs: int
    pull_requests: list[Row]
    contributors: list[Row]
    end_cursor: str | None
    has_next_page: bool
    latest_updated_at: str | None
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    unplaced: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True)
class ListedNumbers:
    """Pull requests by number: their rows, the contributors, the points spent.

    ``missing``: numbers that GitHub does not have. ``refused``: numbers that it does not show.
    """

    pull_requests: list[Row]
    contributors: list[Row]
    missing: list[int]
    points: int
    refused: Mapping[int, Refusal]


class _Found:
    """Collects what the nodes of some replies show."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.missing: list[int] = []
        self.refused: dict[int, Refusal] = {}
        self._tables: Tables = {}

    @property
    def contributors(self) -> list[Row]:
        return self._tables.get("contributors", [])

    def add(self, node: Node) -> Refusal | None:
        """Add the row of a pull request; or why it cannot be listed."""
        try:
            row = records.listed(self._tables, records.clean(node))
        except MALFORMED as error:
            text = f"the pull request has an unknown form: {type(error).__name__}: {error}"
            return Refusal(ErrorCode.UNEXPLAINED, text[:300])
        # A value that cannot be stored is null here, and a flaw when the details are read.
        for each in (row, *self.contributors[-1:]):
            records.fit(each)
        if row["updated_at"] is None:
            return Refusal(ErrorCode.IMPOSSIBLE_VALUE, "GitHub gives no time of the last change that is a time")
        self.rows.append(row)
        return None

    def add_listed(self, listed: ListedNumbers) -> None:
        """Add what a request by number found."""
        self.rows += listed.pull_requests
        self._tables.setdefault("contributors", []).extend(listed.contributors)


def page(session: Session, document: str, node_id: str, cursor: str | None, size: int) -> ListingPage:
    """The page of ``document`` after ``cursor``. A null row of a listing is looked for by number."""
    variables = {"repository": node_id, "first": size, "after": cursor}
    price = Price(seconds=cost.seconds(listed=size))
    reply = session.query(document, variables, price, patience=LISTING_SLEEP_SECONDS)
    node = repository_node(session, reply, node_id)
    listed = node["pullRequests"]
    info, newest = listed["pageInfo"], [each for each in node["newest"]["nodes"] if each]
    if info["hasNextPage"] and info["endCursor"] in (None, "", cursor):
        raise Unexplained("GitHub says that its listing goes on, and gives no cursor that does")
    found, unplaced = _Found(), list[Refusal]()
    for index, each in enumerate(listed["nodes"]):
        why = _why_null(reply, index) if each is None else found.add(each)
        if why is None:
            continue
        if each is not None and isinstance(each.get("number"), int):
            found.refused[each["number"]] = why
            continue
        candidates = _candidates(listed["nodes"], index) if document is documents.LISTING else []
        if not _place(session, node_id, candidates, why, found):
            unplaced.append(why)
    return ListingPage(
        records.repository(records.clean(node)),
        listed["totalCount"],
        found.rows,
        found.contributors,
        info["endCursor"],
        info["hasNextPage"],
        newest[0]["updatedAt"] if newest else None,
        found.refused,
        unplaced,
    )


def by_numbers(session: Session, node_id: str, numbers: Sequence[int]) -> ListedNumbers:
    """The rows of these numbers. A request that is too large is divided in two."""
    found, points = _Found(), 0
    waiting, alone = list(numbers), list[int]()
    while waiting or alone:
        some = session.fitting(waiting, list_numbers) if waiting else alone[:1]
        waiting, alone = waiting[len(some) :], alone if waiting else alone[1:]
        price = Price(seconds=cost.seconds(listed=len(some)))
        try:
            reply = session.query(list_numbers(some), {"repository": node_id}, price)
        except TooLarge as error:
            session.ask_less(len(some), error)
            waiting = [*some, *waiting]
            continue
        session.ask_more(len(some))
        points += reply.cost or 1
        alone += _take(found, some, reply, repository_node(session, reply, node_id))
    return ListedNumbers(found.rows, found.contributors, found.missing, points, found.refused)


def _take(found: _Found, numbers: Sequence[int], reply: Reply, nodes: Node) -> list[int]:
    """Add what a reply shows of these numbers; those that are null without a reason, to be asked for again, alone."""
    again = []
    for number in numbers:
        node, path = nodes[f"p{number}"], ("node", f"p{number}")
        if node is not None:
            refusal = found.add(node)
            if refusal is not None:
                found.refused[number] = refusal
        elif path in reply.missing:
            found.missing.append(number)
        elif path in reply.refused:
            found.refused[number] = reply.refused[path]
        elif len(numbers) > 1:
            again.append(number)
        else:
            text = f"GitHub gives null for pull request {number} without a reason"
            found.refused[number] = Refusal(ErrorCode.NULL, text)
    return again


def _place(session: Session, node_id: str, candidates: Sequence[int], why: Refusal, found: _Found) -> bool:
    """Ask for the numbers that a null row of a page may have, and add what they show. False if they show nothing."""
    if not candidates:
        return False
    listed = by_numbers(session, node_id, candidates)
    found.add_listed(listed)
    found.refused.update(dict.fromkeys(listed.refused, why))
    return bool(listed.pull_requests or listed.refused)


def _why_null(reply: Reply, index: int) -> Refusal:
    """The reason of a null row of a listing page."""
    reasons = below(reply.refused, ("node", "pullRequests", "nodes", index))
    unknown = Refusal(ErrorCode.NULL, "GitHub gives null in place of a listed pull request")
    return next(iter(reasons.values()), unknown)


def _candidates(nodes: Sequence[Node | None], index: int) -> list[int]:
    """The numbers that a null row of the listing may have: between those of its neighbours."""
    before = [int(each["number"]) for each in nodes[:index] if each]
    after = [int(each["number"]) for each in nodes[index + 1 :] if each]
    if not before and not after:
        return []
    first = before[-1] + 1 if before else max(1, after[0] - CANDIDATES)
    last = after[0] - 1 if after else first + CANDIDATES - 1
    return list(range(first, last + 1))[:CANDIDATES]
