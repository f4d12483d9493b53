"""A GitHub App: where it is installed, and the tokens of its installations. Each installation has a budget of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Protocol, TypeVar

from backfill.github.errors import BadCredentials
from backfill.github.transport import Transport
from backfill.installations import Installation, Installed

# Renewed this long before it expires, or in its last tenth: no request starts with a token that is about to end.
RENEW_SECONDS = 300.0
# GitHub takes JWTs of ten minutes at most, begun in the past: both with a minute to spare.
JWT_AGE, JWT_LIFE = timedelta(seconds=60), timedelta(seconds=480)
# Clocks that differ by less make no difference to a JWT.
CLOCK_SECONDS = 30.0
# The list of installations is read again after this; sooner for an owner whom none covers, because the App may have been
# installed since.
LIST_SECONDS, MISSING_SECONDS = 600.0, 60.0
# GitHub gives so many installations a page at most.
PAGE = 100

T = TypeVar("T")


class InstallationStore(Protocol):
    """The list of installations that all containers share (backfill.store.installations)."""

    def installed(self, app_id: str) -> Installed | None:
        """The list as it was stored last; None without one."""

    def keep_installed(self, app_id: str, listed: Installed) -> None:
        """Replace the list."""


class App:
    """Signs with the App's key. ``secret`` is read for each signature, because it may have been rotated."""

    def __init__(
        self, transport: Transport, secret: Callable[[], Mapping[str, str]], store: InstallationStore | None
    ) -> None:
        self._transport, self._secret, self._store = transport, secret, store
        self._known: Installed | None = None
        self._listed_at: datetime | None = None
        self._must_list = False
        self._tokens: dict[str, tuple[str, datetime]] = {}

    def installed(self, longest_seconds: float = LIST_SECONDS) -> Installed:
        """The installations, in a list that is no older than this."""
        oldest = self._transport.now() - timedelta(seconds=longest_seconds)
        if self._known is None or self._listed_at is None or self._listed_at < oldest:
            stored = self._store.installed(self._id()) if self._store and not self._must_list else None
            if stored is None or stored.age_seconds > longest_seconds:
                stored = self._listed()
            self._known, self._must_list = stored, False
            self._listed_at = self._transport.now() - timedelta(seconds=stored.age_seconds)
        return self._known

    def installation_of(self, owner: str) -> Installation | None:
        """The installation that covers an owner, suspended or not; None if none does."""
        return self.installed().of(owner) or self.installed(MISSING_SECONDS).of(owner)

    def first(self) -> Installation:
        """The installation that reads what none covers. Raises BadCredentials for an App without a usable one."""
        found = self.installed().first or self.installed(MISSING_SECONDS).first
        if found is None:
            state = "every installation is suspended" if self.installed().installations else "it is installed nowhere"
            raise BadCredentials(
                f"the GitHub App {self._id()} can read nothing: {state}; install it on the owners of the repositories"
            )
        return found

    def token(self, installation_id: str) -> str:
        """A token of an installation that is valid for the length of a request at least."""
        held = self._tokens.get(installation_id)
        if held is None or self._transport.now() >= held[1]:
            token, expires = self._signed(lambda jwt: self._transport.installation_token(jwt, installation_id))
            life = (expires - self._transport.now()).total_seconds()
            held = token, expires - timedelta(seconds=min(RENEW_SECONDS, life / 10))
            self._tokens[installation_id] = held
        return held[0]

    def forget(self) -> None:
        """GitHub refused a token: the key may have been rotated, or an installation removed."""
        self._tokens.clear()
        self._known, self._must_list = None, True

    def _listed(self) -> Installed:
        found: dict[int, Installation] = {}
        for page in count(1):
            some = self._signed(partial(self._transport.installations, page=page, per_page=PAGE))
            found |= {each.id: each for each in some}
            if len(some) < PAGE:
                break
        listed = Installed(list(found.values()))
        if self._store is not None:
            self._store.keep_installed(self._id(), listed)
            listed = self._store.installed(self._id()) or listed
        return listed

    def _id(self) -> str:
        return needed(self._secret(), "app_id")

    def _signed(self, ask: Callable[[str], T]) -> T:
        """GitHub's answer to a request that carries the App's signature."""
        asked = self._transport.now()
        try:
            return ask(self._jwt())
        except BadCredentials:
            # The reply has told GitHub's time: a JWT by this machine's clock may have been begun in the future.
            if abs((self._transport.now() - asked).total_seconds()) < CLOCK_SECONDS:
                raise
            return ask(self._jwt())

    def _jwt(self) -> str:
        import jwt

        now = self._transport.now()
        claims = {
            "iat": int((now - JWT_AGE).timestamp()),
            "exp": int((now + JWT_LIFE).timestamp()),
            "iss": self._id(),
        }
        try:
            return jwt.encode(claims, needed(self._secret(), "private_key"), algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError):
            pass
        raise BadCredentials("the GitHub secret's private_key is no RSA key in PEM form, with its line ends")


def needed(secret: Mapping[str, object], field: str) -> str:
    """A field of the secret. Raises BadCredentials."""
    if not secret.get(field):
        raise BadCredentials(f"the GitHub secret lacks {field}: it holds either token, or app_id and private_key")
    return str(secret[field])
