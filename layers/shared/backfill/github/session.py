"""Requests to GitHub as one identity: each under the governor, and counted by what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from backfill.errors import BackfillError
from backfill.github import cost, documents
from backfill.github.auth import Access
from backfill.github.errors import (
    BadCredentials,
    OutOfTime,
    RepositoryUnavailable,
    ScopeMissing,
    TooLarge,
    Unexplained,
    ValidationTimeout,
    is_charged,
)
from backfill.github.governor import LONGEST_SLEEP_SECONDS, Governor
from backfill.github.records import Node
from backfill.github.replies import Reply
from backfill.github.request_size import LARGEST, RequestSize
from backfill.github.transport import Transport
from backfill.model import Spent
from backfill.observability import count, problem

# The wait before a token is tried again that GitHub took for an anonymous request.
TRANSIENT_SECONDS = 2.0
# Tries of such a token.
TRIES = 3
# The withheld parts are looked up again after this.
WITHHELD_SECONDS = 600.0
# Pull requests or repositories that a light request names at most.
MOST_NAMED = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Price:
    """The foreseen cost of a request: points, and ``seconds`` of GitHub's server time."""

    points: int = 1
    seconds: float = cost.seconds()


ONE_POINT = Price()


class Session:
    """Raises Deferred (limits), Retryable or Permanent; see backfill.github.errors.

    ``spent`` grows for as long as the container lives. The cost of a piece of work is the difference between after and
    before, also where the work raised.
    """

    def __init__(self, transport: Transport, credentials: Access, governor: Governor) -> None:
        self._transport = transport
        self._credentials = credentials
        self._governor = governor
        self.spent = Spent()
        self._cost_differed = False
        # How many names a light request may hold.
        self._light_size = RequestSize(LARGEST)
        self._withheld: Mapping[str, str] = {}
        self._withheld_at: float | None = None

    def identity(self) -> str:
        """The owner of the budget."""
        return self._credentials.identity()

    def not_shown(self, what: str) -> RepositoryUnavailable:
        """GitHub shows this identity no such thing."""
        return RepositoryUnavailable(f"GitHub shows no {what} to {self._credentials.reader}")

    def query(
        self,
        document: str,
        variables: Mapping[str, Any],
        price: Price = ONE_POINT,
        *,
        patience: float = LONGEST_SLEEP_SECONDS,
        seconds_left: Callable[[], float] = lambda: 60.0,
    ) -> Reply:
        """One request under the governor, which may wait ``patience`` seconds. The request ends in ``seconds_left()``.

        After a refusal the token is read again once. A token that GitHub takes for an anonymous one may be good a moment
        later.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return self._governor.run(
                    self.identity(),
                    price.points,
                    lambda: self._send(document, variables, price.points, seconds_left()),
                    expected=price.seconds,
                    patience=patience,
                )
            except BadCredentials as refused:
                if tries >= (TRIES if refused.transient else 2):
                    raise
                if tries > 1:
                    self._governor.sleep(TRANSIENT_SECONDS)
                self._credentials.renew()

    def _send(self, document: str, variables: Mapping[str, Any], points: int, seconds: float) -> Reply:
        """One request and its cost: GitHub's figure, else the formula's. It ends within ``seconds``."""
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

    def withheld(self) -> Mapping[str, str]:
        """Parts of queries that this token may not ask for, and GitHub's words (documents.TEAM_FIELDS)."""
        if self._withheld_at is None or time.monotonic() - self._withheld_at > WITHHELD_SECONDS:
            self._withheld = self._governor.withheld(self.identity())
            self._withheld_at = time.monotonic()
        return self._withheld

    def withhold(self, missing: ScopeMissing) -> bool:
        """Leave out the fields whose scope is missing, from now on. False if there is nothing to leave out."""
        if missing.field not in documents.TEAM_FIELDS or "team" in self.withheld():
            return False
        problem("the token lacks a scope; its fields are left out", field=missing.field, scopes=missing.scopes)
        self._withhold("team", str(missing))
        return True

    def ask_fewer_fields(self, error: ValidationTimeout, asked: int) -> bool:
        """Name fewer fields in a document from now on, for a day. False if no number below ``asked`` is foreseen."""
        part = documents.part_of_fields(asked)
        if part is None:
            return False
        problem("a document was too large for GitHub's validation", error=str(error), fields=asked, part=part)
        self._withhold(part, str(error))
        return True

    def _withhold(self, part: str, reason: str) -> None:
        self._governor.withhold(self.identity(), part, reason)
        self._withheld = {**self.withheld(), part: reason}

    def fitting(self, waiting: Sequence[T], text_of: Callable[[Sequence[T]], str]) -> Sequence[T]:
        """The first names, as many as the next light document may hold."""
        some = waiting[: min(self._light_size.most, documents.most_fields(self.withheld()) or MOST_NAMED)]
        while len(some) > 1 and (size := len(text_of(some).encode())) >= documents.MOST_BYTES:
            some = some[: min(len(some) - 1, len(some) * documents.MOST_BYTES // size)]
        return some

    def ask_more(self, asked: int) -> None:
        """Learn that GitHub answered a light document of so many names."""
        self._light_size = self._light_size.grown(asked)

    def ask_less(self, asked: int, error: TooLarge) -> None:
        """Learn that a light document of so many names was too large. Raises the error of a single name."""
        if asked == 1:
            raise error
        if not (isinstance(error, ValidationTimeout) and self.ask_fewer_fields(error, asked)):
            self._light_size = self._light_size.halved(asked)
            problem("a request was too large", error=str(error), asked=asked, size=self._light_size.value)


def repository_node(session: Session, reply: Reply, node_id: str) -> Node:
    """The repository of a reply. Raises RepositoryUnavailable where GitHub does not have it."""
    node = reply.data.get("node")
    if not node:
        if ("node",) in reply.missing:
            raise session.not_shown(f"repository with the node id {node_id}")
        raise Unexplained("GitHub gave null for the repository without a reason")
    found: Node = node
    return found
