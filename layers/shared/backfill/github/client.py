"""GitHub as the backfill uses it: find, list, check for changes, and read details."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from backfill.errors import Permanent, Retryable
from backfill.github import documents, finding, listing, organisations
from backfill.github.auth import Access
from backfill.github.errors import UnknownField, understood
from backfill.github.finding import Found, States
from backfill.github.governor import Governor
from backfill.github.listing import ListedNumbers, ListingPage
from backfill.github.organisations import OwnerPage
from backfill.github.reading import ChunkDetails, ChunkReader, Terms
from backfill.github.records import Listed
from backfill.github.session import Session
from backfill.github.transport import Transport
from backfill.installations import Installed
from backfill.model import Spent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What GitHub says about the token: its owner and its budget, and in some replies its scopes and its end.

    ``scopes`` None: it is not a classic token. https://docs.github.com/en/rest/overview/permissions-for-scopes
    """

    identity: str
    scopes: tuple[str, ...] | None
    expires_at: datetime | None
    limit: int | None
    remaining: int | None


class GitHub:
    """GitHub as one identity. `of` gives GitHub as the identity that reads an owner's repositories.

    Raises Deferred (limits), Retryable or Permanent; see backfill.github.errors.
    """

    def __init__(self, transport: Transport, credentials: Access, governor: Governor) -> None:
        self._transport, self._credentials, self._governor = transport, credentials, governor
        self._session = Session(transport, credentials, governor)
        self._finder = finding.Finder(self._session, checks_schema=not transport.is_newest)
        self._others: dict[str, GitHub] = {}

    def of(self, owner: str) -> GitHub:
        """GitHub as the identity that reads this owner's repositories: this one, unless an App is installed on the owner."""
        access = self._credentials.of(owner)
        if access is self._credentials:
            return self
        identity = access.identity()
        if identity not in self._others:
            self._others[identity] = GitHub(self._transport, access, self._governor)
        return self._others[identity]

    def by_identity(self, items: Iterable[T], owner_of: Callable[[T], str]) -> dict[GitHub, list[T]]:
        """What each identity reads, because one request is of one identity."""
        groups: dict[GitHub, list[T]] = {}
        for each in items:
            groups.setdefault(self.of(owner_of(each)), []).append(each)
        return groups

    def installed(self) -> Installed | None:
        """The App's installations as GitHub lists them now; None if the secret names one identity."""
        return self._credentials.installed()

    def identity(self) -> str:
        """The key of the budget."""
        return self._session.identity()

    @property
    def spent(self) -> Spent:
        """Everything that this container has spent (Session)."""
        return sum((each.spent for each in self._others.values()), self._session.spent)

    @property
    def unsupported(self) -> UnknownField | None:
        """What the queries need and the server's schema lacked at the last check."""
        lacking = (each.unsupported for each in self._others.values())
        return self._finder.unsupported or next(filter(None, lacking), None)

    def token_facts(self) -> TokenFacts:
        """Ask GitHub about the token, for one point."""
        reply = self._session.query(documents.TOKEN, {})
        told = {name.lower(): value for name, value in reply.headers.items()}
        scopes = told.get("x-oauth-scopes")
        return TokenFacts(
            self._session.identity(),
            None if scopes is None else tuple(sorted(each.strip() for each in scopes.split(",") if each.strip())),
            _expiry(told.get("github-authentication-token-expiration", "")),
            reply.limit,
            reply.remaining,
        )

    @understood()
    def repository(self, owner: str, name: str) -> Found:
        """A repository by name. Renames are followed."""
        return finding.one(self._session, owner, name)

    @understood()
    def owned(self, login: str, node_id: str | None, cursor: str | None, page_size: int) -> OwnerPage:
        """A page of the repositories that an organisation or a user owns, by its node id where that is known."""
        return organisations.owned(self._session, login, node_id, cursor, page_size)

    @understood()
    def find(self, names: finding.Names) -> dict[str, Found | Permanent | Retryable]:
        """Up to 100 repositories of this identity by ``owner/name``; an error where GitHub shows none."""
        return self._finder.find(names)

    @understood()
    def check_for_changes(self, node_ids: Sequence[str]) -> States:
        """Ask for the totals and the newest change of up to 100 repositories at once."""
        return finding.check_for_changes(self._session, node_ids)

    @understood()
    def list_pull_requests(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        """The page after ``cursor``, oldest pull request first."""
        return listing.page(self._session, documents.LISTING, node_id, cursor, page_size)

    @understood()
    def list_updated(self, node_id: str, cursor: str | None, *, page_size: int = 100) -> ListingPage:
        """The page after ``cursor``, last changed first."""
        return listing.page(self._session, documents.UPDATED, node_id, cursor, page_size)

    @understood()
    def list_numbers(self, node_id: str, numbers: Sequence[int]) -> ListedNumbers:
        """List-level rows by number."""
        return listing.by_numbers(self._session, node_id, numbers)

    @understood()
    def details(self, node_id: str, listed: Sequence[Listed], terms: Terms | None = None) -> ChunkDetails:
        """Read pull requests whole, to the last page of everything. ``listed``: their rows with the connection sizes."""
        return ChunkReader(self._session, node_id, listed, terms or Terms()).read()


def _expiry(text: str) -> datetime | None:
    """As GitHub writes it: 2026-12-31 23:59:59 UTC, or with an offset. None for nothing, and for another form."""
    try:
        return datetime.strptime(text.strip().replace("UTC", "+0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None
