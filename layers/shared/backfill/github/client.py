"""GitHub as the backfill uses it: find, list, check for changes, and read details (backfill.github.reading)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from backfill.errors import BackfillError, Permanent, Retryable
from backfill.github import cost, documents, records
from backfill.github.auth import Credentials
from backfill.github.errors import (
    MALFORMED,
    BadCredentials,
    Forbidden,
    InvalidQuery,
    OutOfTime,
    RepositoryUnavailable,
    ScopeMissing,
    TooLarge,
    Unexplained,
    UnknownField,
    ValidationTimeout,
    is_charged,
    understood,
)
from backfill.github.governor import LISTING_SLEEP_SECONDS, LONGEST_SLEEP_SECONDS, Governor
from backfill.github.reading import ChunkDetails, ChunkReader, Flaw, Terms
from backfill.github.records import Row, Tables
from backfill.github.refusals import Refusal, below
from backfill.github.request_size import LARGEST, RequestSize
from backfill.github.transport import Reply, Transport
from backfill.model import Spent
from backfill.observability import count, problem

__all__ = ["ChunkDetails", "Flaw", "GitHub", "ListedNumbers", "ListingPage", "Spent", "TokenFacts"]

# Before a token is tried again that GitHub took for nobody's.
TRANSIENT_SECONDS = 2.0
# Such a token is tried so often.
TRIES = 3
# Numbers around a pull request that a listing page does not show, which may be its own.
CANDIDATES = 100
# What a token may not ask for is looked up again after this.
WITHHELD_SECONDS = 600.0
# Pull requests or repositories that a light request names at most.
MOST_NAMED = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing, as rows; ``latest_updated_at`` of the whole repository.

    ``refused``: numbers that GitHub has and does not show. ``unplaced``: why rows are null whose numbers are not known.
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


class ListedNumbers(NamedTuple):
    """Pull requests by number: rows, their contributors, numbers that GitHub lacks, points, numbers that it does not show."""

    pull_requests: list[Row]
    contributors: list[Row]
    missing: list[int]
    points: int
    refused: Mapping[int, Refusal]


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What GitHub says about the token: whose it is, its budget, and where it tells them scopes and end.

    ``scopes`` None: it is no classic token. https://docs.github.com/en/rest/overview/permissions-for-scopes
    """

    identity: str
    scopes: tuple[str, ...] | None
    expires_at: datetime | None
    limit: int | None
    remaining: int | None


class GitHub:
    """Raises Deferred (limits), Retryable or Permanent; see backfill.github.errors.

    ``spent`` runs for as long as the container lives: what a piece of work has cost, even one that raised, is the
    difference between after and before.
    """

    def __init__(self, transport: Transport, credentials: Credentials, governor: Governor) -> None:
        self._transport = transport
        self._credentials = credentials
        self._governor = governor
        self.spent = Spent()
        self._cost_differed = False
        # Pull requests of a light request by number.
        self._light_size = RequestSize(LARGEST)
        self._withheld: Mapping[str, str] = {}
        self._withheld_at: float | None = None
        self._checks_schema = not transport.is_newest
        # What the server's schema lacked when it was checked last: nothing can be read from such a server.
        self.unsupported: UnknownField | None = None

    def token_facts(self) -> TokenFacts:
        """Ask GitHub about the token, for one point."""
        reply = self.query(documents.TOKEN, {})
        told = {name.lower(): value for name, value in reply.headers.items()}
        scopes = told.get("x-oauth-scopes")
        return TokenFacts(
            self._credentials.identity(),
            None if scopes is None else tuple(sorted(each.strip() for each in scopes.split(",") if each.strip())),
            _expiry(told.get("github-authentication-token-expiration", "")),
            reply.limit,
            reply.remaining,
        )

    @understood()
    def repository(self, owner: str, name: str) -> tuple[Row, int]:
        """A repository by name (renames are followed), and how many pull requests GitHub counts."""
        reply = self.query(documents.FIND, {"owner": owner, "name": name})
        node = reply.data.get("repository")
        if node is None:
            raise RepositoryUnavailable(f"GitHub shows no repository {owner}/{name} to this token")
        return records.repository(node), int(node["pullRequests"]["totalCount"])

    @understood()
    def find(self, names: Sequence[tuple[str, str]]) -> dict[str, tuple[Row, int] | Permanent | Retryable]:
        """Up to 100 repositories by ``(owner, name)``, as ``repository`` gives one; an error where GitHub shows none.

        Until a server other than github.com has shown that it knows all that the queries name, the first request checks it.
        ``unsupported`` is what it lacks.
        """
        found: dict[str, tuple[Row, int] | Permanent | Retryable] = {}
        waiting, checks = list(names), self._checks_schema
        while waiting:
            text = documents.find_and_check if checks else documents.find
            some = self._fitting(waiting, text)
            try:
                reply = self.query(text(some), {})
            except (InvalidQuery, ScopeMissing) as error:
                if not checks:
                    raise
                # The names are asked for all the same: the answer says whose backfill waits for a newer server.
                self.unsupported, checks = error if isinstance(error, UnknownField) else None, False
                continue
            except TooLarge as error:
                if checks and len(some) == 1:
                    # Here the check is what is too much. The first listing tells what the server lacks.
                    checks = False
                else:
                    self._ask_less(len(some), error)
                continue
            if checks:
                self._checks_schema = checks = False
                self.unsupported = None
            self._light_size = self._light_size.grown(len(some))
            waiting = waiting[len(some) :]
            found.update(self._found(some, reply))
        return found

    @staticmethod
    def _found(names: Sequence[tuple[str, str]], reply: Reply) -> dict[str, tuple[Row, int] | Permanent | Retryable]:
        found: dict[str, tuple[Row, int] | Permanent | Retryable] = {}
        for index, (owner, name) in enumerate(names):
            node, full_name = reply.data[f"r{index}"], f"{owner}/{name}"
            if node:
                found[full_name] = records.repository(node), int(node["pullRequests"]["totalCount"])
            elif (f"r{index}",) in reply.missing:
                found[full_name] = RepositoryUnavailable(f"GitHub shows no repository {full_name} to this token")
            elif (f"r{index}",) in reply.refused:
                found[full_name] = Forbidden(reply.refused[f"r{index}",].reason)
            else:
                found[full_name] = Unexplained(f"GitHub gave null for {full_name} without a reason")
        return found

    @understood()
    def examine(self, node_ids: Sequence[str]) -> tuple[dict[str, Row | Unexplained | None], int]:
        """Up to 100 repositories at once: identity, ``total_prs`` and ``latest_updated_at``; None where it is missing,
        Unexplained where GitHub gave null without a reason.

        The second value is the points spent.
        """
        weight = cost.weight([cost.Connection(1)], parents=len(node_ids))
        expected = cost.seconds(listed=len(node_ids))
        reply = self.query(documents.EXAMINE, {"ids": list(node_ids)}, points=cost.points(weight), expected=expected)
        found: dict[str, Row | Unexplained | None] = dict.fromkeys(node_ids)
        for index, (node_id, node) in enumerate(zip(node_ids, reply.data["nodes"], strict=True)):
            if not node and ("nodes", index) not in reply.missing:
                found[node_id] = Unexplained(f"GitHub gave null for repository {node_id} without a reason")
            if node:
                newest = [each for each in node["pullRequests"]["nodes"] if each]
                found[node_id] = {
                    "repository": records.repository(node),
                    "total_prs": node["pullRequests"]["totalCount"],
                    "latest_updated_at": newest[0]["updatedAt"] if newest else None,
                }
        return found, reply.cost or 1

    @understood()
    def list_pull_requests(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        """The page after ``cursor``, oldest pull request first."""
        return self._listing(documents.LISTING, node_id, cursor, page_size)

    @understood()
    def list_updated(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        """The page after ``cursor``, last changed first."""
        return self._listing(documents.UPDATED, node_id, cursor, page_size)

    @understood()
    def list_numbers(self, node_id: str, numbers: Sequence[int]) -> ListedNumbers:
        """List-level rows by number. A request that is too much is halved."""
        tables: Tables = {}
        rows: list[Row] = []
        missing: list[int] = []
        refused: dict[int, Refusal] = {}
        points = 0
        waiting, alone = list(numbers), list[int]()
        while waiting or alone:
            some = self._fitting(waiting, documents.list_numbers) if waiting else alone[:1]
            waiting, alone = waiting[len(some) :], alone if waiting else alone[1:]
            try:
                reply = self.query(
                    documents.list_numbers(some),
                    {"repository": node_id},
                    expected=cost.seconds(listed=len(some)),
                    patience=LONGEST_SLEEP_SECONDS,
                )
            except TooLarge as error:
                self._ask_less(len(some), error)
                waiting = [*some, *waiting]
                continue
            self._light_size = self._light_size.grown(len(some))
            points += reply.cost or 1
            nodes = self.repository_node(reply, node_id)
            for number in some:
                node, path = nodes[f"p{number}"], ("node", f"p{number}")
                if node is not None:
                    row = _listed_row(tables, node)
                    if isinstance(row, Refusal):
                        refused[number] = row
                    else:
                        rows.append(row)
                elif path in reply.missing:
                    missing.append(number)
                elif path in reply.refused:
                    refused[number] = reply.refused[path]
                elif len(some) > 1:
                    # Without a reason: asked for once more, alone.
                    alone.append(number)
                else:
                    refused[number] = Refusal("null", f"GitHub gives null for pull request {number} without a reason")
        return ListedNumbers(rows, tables.get("contributors", []), missing, points, refused)

    def _fitting(self, waiting: Sequence[T], text_of: Callable[[Sequence[T]], str]) -> Sequence[T]:
        """As many as the next document may name."""
        some = waiting[: min(self._light_size.most, self.most_fields() or MOST_NAMED)]
        while len(some) > 1 and (size := len(text_of(some).encode())) >= documents.MOST_BYTES:
            some = some[: min(len(some) - 1, len(some) * documents.MOST_BYTES // size)]
        return some

    def _ask_less(self, asked: int, error: TooLarge) -> None:
        """Learn what a document that names pull requests or repositories may hold. Raises the error of a single one."""
        if asked == 1:
            raise error
        if not (isinstance(error, ValidationTimeout) and self.ask_fewer_fields(error, asked)):
            self._light_size = self._light_size.halved(asked)
            problem("a request was too large", error=str(error), asked=asked, size=self._light_size.value)

    @understood()
    def details(self, node_id: str, listed: Sequence[Mapping[str, Any]], terms: Terms | None = None) -> ChunkDetails:
        """Read pull requests whole, followed to the last page of everything (backfill.github.reading)."""
        return ChunkReader(self, node_id, listed, terms or Terms()).read()

    def withheld(self) -> Mapping[str, str]:
        """Fragments that this token may not ask for, and GitHub's words (documents.TEAM_FIELDS)."""
        if self._withheld_at is None or time.monotonic() - self._withheld_at > WITHHELD_SECONDS:
            self._withheld = self._governor.withheld(self._credentials.identity())
            self._withheld_at = time.monotonic()
        return self._withheld

    def withhold(self, missing: ScopeMissing) -> bool:
        """Ask without the fields that a scope is missing for, from now on; False if there is nothing to leave out."""
        if missing.field not in documents.TEAM_FIELDS or "team" in self.withheld():
            return False
        problem("the token lacks a scope; its fields are left out", field=missing.field, scopes=missing.scopes)
        self._withhold("team", str(missing))
        return True

    def most_fields(self) -> int | None:
        """How many pull requests and further pages a document may name; None: as many as fit into it."""
        return documents.most_fields(self.withheld())

    def ask_fewer_fields(self, error: ValidationTimeout, asked: int) -> bool:
        """Name fewer in a document from now on, for a day; False if ``asked`` is as few as is foreseen."""
        part = documents.part_of_fields(asked)
        if part is None:
            return False
        problem("a document was too large for GitHub's validation", error=str(error), fields=asked, part=part)
        self._withhold(part, str(error))
        return True

    def _withhold(self, part: str, reason: str) -> None:
        self._governor.withhold(self._credentials.identity(), part, reason)
        self._withheld = {**self.withheld(), part: reason}

    def _listing(self, document: str, node_id: str, cursor: str | None, page_size: int) -> ListingPage:
        variables = {"repository": node_id, "first": page_size, "after": cursor}
        reply = self.query(document, variables, expected=cost.seconds(listed=page_size), patience=LISTING_SLEEP_SECONDS)
        node = self.repository_node(reply, node_id)
        page = node["pullRequests"]
        info, newest = page["pageInfo"], [each for each in node["newest"]["nodes"] if each]
        if info["hasNextPage"] and info["endCursor"] in (None, "", cursor):
            raise Unexplained("GitHub says that its listing goes on, and gives no cursor that does")
        tables: Tables = {}
        rows: list[Row] = []
        refused: dict[int, Refusal] = {}
        unplaced: list[Refusal] = []
        for index, each in enumerate(page["nodes"]):
            row = _listed_row(tables, each) if each is not None else _why_null(reply, index)
            if not isinstance(row, Refusal):
                rows.append(row)
            elif each is not None and isinstance(each.get("number"), int):
                refused[each["number"]] = row
            else:
                candidates = _candidates(page["nodes"], index) if document is documents.LISTING else []
                unplaced += self._placed(node_id, candidates, row, (rows, tables, refused))
        return ListingPage(
            records.repository(records.clean(node)),
            page["totalCount"],
            rows,
            tables.get("contributors", []),
            info["endCursor"],
            info["hasNextPage"],
            newest[0]["updatedAt"] if newest else None,
            refused,
            unplaced,
        )

    def _placed(
        self,
        node_id: str,
        candidates: Sequence[int],
        why: Refusal,
        found: tuple[list[Row], Tables, dict[int, Refusal]],
    ) -> list[Refusal]:
        """A row of a page is null: ask for the numbers that may be its own, and add what they show to ``found``.

        Returns the reason if none of them is refused or shown.
        """
        rows, tables, refused = found
        listed = self.list_numbers(node_id, candidates) if candidates else ListedNumbers([], [], [], 0, {})
        rows += listed.pull_requests
        tables.setdefault("contributors", []).extend(listed.contributors)
        refused.update(dict.fromkeys(listed.refused, why))
        return [] if listed.pull_requests or listed.refused else [why]

    @staticmethod
    def repository_node(reply: Reply, node_id: str) -> dict[str, Any]:
        node = reply.data.get("node")
        if not node:
            if ("node",) in reply.missing:
                raise RepositoryUnavailable(f"GitHub has no repository with the node id {node_id}")
            raise Unexplained("GitHub gave null for the repository without a reason")
        found: dict[str, Any] = node
        return found

    def query(
        self,
        document: str,
        variables: Mapping[str, Any],
        *,
        points: int = 1,
        seconds_left: Callable[[], float] = lambda: 60.0,
        expected: float = cost.seconds(),
        patience: float = LONGEST_SLEEP_SECONDS,
    ) -> Reply:
        """One request under the governor, which may wait ``patience`` seconds; the request ends in ``seconds_left()``.

        A token that GitHub refuses is read again once. One that it takes for nobody's may be good a moment later.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return self._governor.run(
                    self._credentials.identity(),
                    points,
                    lambda: self._send(document, variables, points, seconds_left()),
                    expected=expected,
                    patience=patience,
                )
            except BadCredentials as refused:
                if tries >= (TRIES if refused.transient else 2):
                    raise
                if tries > 1:
                    self._governor.sleep(TRANSIENT_SECONDS)
                self._credentials.renew()

    def _send(self, document: str, variables: Mapping[str, Any], points: int, seconds: float) -> Reply:
        """One request and what it cost: by GitHub's word, else by the formula. ``seconds`` are left for it."""
        if seconds < 1:
            raise OutOfTime("the function's time ended while its request waited")
        spent = 0
        try:
            reply = self._transport.query(self._credentials.token(), document, variables, seconds)
            spent = points if reply.cost is None else reply.cost
        except BackfillError as error:
            spent = points if is_charged(error) else 0
            raise
        finally:
            self.spent = Spent(self.spent.points + spent, self.spent.requests + 1)
        if spent != points:
            count("CostsMispredicted")
            if not self._cost_differed:
                self._cost_differed = True
                problem("GitHub's price differs from the formula's", query=document[:60], formula=points, cost=spent)
        return reply


def _listed_row(tables: Tables, node: dict[str, Any]) -> Row | Refusal:
    """The list-level row of a pull request; or why it cannot be listed."""
    try:
        row = records.listed(tables, records.clean(node))
    except MALFORMED as error:
        return Refusal("unexplained", f"the pull request has an unknown form: {type(error).__name__}: {error}"[:300])
    # A value that cannot be stored is null here, and a flaw when the details are read.
    for each in (row, *tables.get("contributors", ())[-1:]):
        records.fit(each)
    if row["updated_at"] is None:
        return Refusal("impossible_value", "GitHub gives no time of the last change that is a time")
    return row


def _why_null(reply: Reply, index: int) -> Refusal:
    """Why a row of a listing page is null."""
    reasons = below(reply.refused, ("node", "pullRequests", "nodes", index))
    return next(iter(reasons.values()), Refusal("null", "GitHub gives null in place of a listed pull request"))


def _candidates(nodes: Sequence[Mapping[str, Any] | None], index: int) -> list[int]:
    """The numbers that a null row of the listing may have: between those of its neighbours."""
    before = [int(each["number"]) for each in nodes[:index] if each]
    after = [int(each["number"]) for each in nodes[index + 1 :] if each]
    if not before and not after:
        return []
    first = before[-1] + 1 if before else max(1, after[0] - CANDIDATES)
    last = after[0] - 1 if after else first + CANDIDATES - 1
    return list(range(first, last + 1))[:CANDIDATES]


def _expiry(text: str) -> datetime | None:
    """As GitHub writes it: 2026-12-31 23:59:59 UTC, or with an offset. None for nothing, and for another form."""
    try:
        return datetime.strptime(text.strip().replace("UTC", "+0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None
