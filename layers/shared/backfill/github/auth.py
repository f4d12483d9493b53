"""Who asks GitHub: a personal token, or an installation of a GitHub App. The identity, not the token, owns the budget."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol, TypeVar

from backfill.errors import Deferred, Misconfigured
from backfill.github import documents
from backfill.github.app import App, InstallationStore, needed
from backfill.github.errors import BadCredentials, RateLimited
from backfill.github.transport import Transport
from backfill.installations import Installation, Installed

# A rate limit without a word on how long, before it is known whose it is: doubled each time, an hour at most.
LIMITED_SECONDS, LONGEST_LIMITED_SECONDS = 60.0, 3600.0
# When everything is asked again, as the identities that the secret names now.
OTHER_IDENTITIES_SECONDS = 1.0

T = TypeVar("T")


class Identities(InstallationStore, Protocol):
    """Remembers whose a token is, by its SHA-256, so that a new container need not ask (backfill.store.budget)."""

    def identity_of(self, token_hash: str) -> str | None: ...
    def remember_identity(self, token_hash: str, identity: str) -> None: ...


class Access(Protocol):
    """The credentials of one identity. ``reader`` names it in errors."""

    @property
    def reader(self) -> str: ...
    def token(self) -> str: ...
    def renew(self) -> None: ...
    def identity(self) -> str: ...
    def of(self, owner: str) -> Access: ...
    def installed(self) -> Installed | None: ...


class Credentials:
    """Gives the current token; reads the secret again when told that GitHub refused it.

    ``read_secret`` returns ``{"token"}``, ``{"app_id", "private_key"}`` or ``{"app_id", "private_key", "installation_id"}``.
    Without an installation_id, `of` finds the installation of each owner. Then these credentials are the default identity, for
    owners whom no installation covers: the token of the same secret, else the App's oldest installation.

    Raises BadCredentials for a secret of another form, and what the transport raises.
    """

    def __init__(
        self,
        transport: Transport,
        read_secret: Callable[[bool], Mapping[str, str]],
        identities: Identities | None = None,
    ) -> None:
        self._transport = transport
        self._read_secret = read_secret
        self._identities = identities
        self._secret: Mapping[str, str] | None = None
        self._identity: str | None = None
        self._limits_in_a_row = 0
        self._app = App(transport, self._current_secret, identities)

    @property
    def reader(self) -> str:
        """Who reads."""
        if not self.finds_installations():
            return "this token"
        return f"{self.identity()}, which reads what no installation of the GitHub App covers; install the App on the owner"

    def token(self) -> str:
        """A token that is valid for the length of a request at least."""
        secret = self._current_secret()
        return secret["token"].strip() if secret.get("token") else self._app.token(self._installation_id())

    def renew(self) -> None:
        """GitHub refused the token: the secret may have been rotated, even to another identity's.

        Raises Deferred if it is an App's now: the request was made for one identity, and each owner has another.
        """
        had_one = self._secret is not None and not self.finds_installations()
        self._secret = self._read(True)
        self._identity = None
        self._app.forget()
        if had_one and self.finds_installations():
            raise self.put_off()

    def put_off(self) -> Deferred:
        """The secret names other identities than those that are asking: everything is asked again as them."""
        until = self._transport.now() + timedelta(seconds=OTHER_IDENTITIES_SECONDS)
        return Deferred(until, OTHER_IDENTITIES_SECONDS, "the GitHub secret names other identities now")

    def identity(self) -> str:
        """The owner of the budget: ``installation:ID``, or ``user:LOGIN``; GitHub is asked for the login of a new token.

        Raises Deferred if GitHub limits even that.
        """
        return self._renewed(self._whose)

    def of(self, owner: str) -> Access:
        """The credentials that read an owner's repositories."""
        found = self._renewed(lambda: self._app.installation_of(owner) if self.finds_installations() else None)
        return self if found is None else InstallationCredentials(self, self._app, found)

    def installed(self) -> Installed | None:
        """The App's installations, as GitHub lists them now; None if the secret names one identity."""
        self._app.forget()
        return self._renewed(lambda: self._app.installed() if self.finds_installations() else None)

    def finds_installations(self) -> bool:
        """Whether the secret is an App's whose installations are found by their owners."""
        secret = self._current_secret()
        return bool(secret.get("app_id")) and not secret.get("installation_id")

    def _whose(self) -> str:
        if not self._current_secret().get("token"):
            return f"installation:{self._installation_id()}"
        if self._identity is None:
            self._identity = self._owner(self.token())
        return self._identity

    def _installation_id(self) -> str:
        secret = self._current_secret()
        needed(secret, "app_id")
        return str(secret.get("installation_id") or self._app.first().id)

    def _owner(self, token: str) -> str:
        token_hash = hashlib.sha256(token.encode()).hexdigest()
        known = self._identities.identity_of(token_hash) if self._identities else None
        if known is not None:
            return known
        reply = self._transport.query(token, documents.VIEWER, {}, 30)
        identity = f"user:{reply.data['viewer']['login']}"
        if self._identities:
            self._identities.remember_identity(token_hash, identity)
        return identity

    def _renewed(self, ask: Callable[[], T]) -> T:
        """GitHub's answer; once more with the secret as it is now, because the token or the App's key may have been rotated.

        The same token is not tried again, and who asks waits a moment for a refusal that is transient.
        """
        before = self._current_secret()
        try:
            return self._unlimited(ask)
        except BadCredentials as refused:
            if refused.transient:
                raise
            self.renew()
            if before.get("token") and self._secret == before:
                raise
        return self._unlimited(ask)

    def _unlimited(self, ask: Callable[[], T]) -> T:
        """GitHub's answer to a request without a budget. Raises Deferred for a limit."""
        try:
            answer = ask()
        except RateLimited as limit:
            seconds = limit.wait_seconds or min(LONGEST_LIMITED_SECONDS, LIMITED_SECONDS * 2**self._limits_in_a_row)
            self._limits_in_a_row = min(10, self._limits_in_a_row + 1)
            raise Deferred(self._transport.now() + timedelta(seconds=seconds), seconds, str(limit)) from limit
        self._limits_in_a_row = 0
        return answer

    def _current_secret(self) -> Mapping[str, str]:
        if self._secret is None:
            self._secret = self._read(False)
        return self._secret

    def _read(self, again: bool) -> Mapping[str, str]:
        """A secret that cannot be used pauses the backfill with its reason, as a token does that GitHub refuses."""
        try:
            return self._read_secret(again)
        except Misconfigured as error:
            raise BadCredentials(str(error)) from None


class InstallationCredentials:
    """The credentials of one of an App's installations. ``default`` holds the secret."""

    def __init__(self, default: Credentials, app: App, installation: Installation) -> None:
        self._default, self._app, self._installation = default, app, installation

    @property
    def reader(self) -> str:
        """Who reads."""
        return f"the GitHub App's installation on {self._installation.account}; add the repository to the installation"

    def token(self) -> str:
        """A token that is valid for the length of a request at least. Raises Forbidden if the installation is suspended."""
        return self._app.token(str(self._installation.id))

    def renew(self) -> None:
        """GitHub refused the token: the App's key may have been rotated, or the installation removed.

        Raises Deferred if the secret names one identity now.
        """
        self._default.renew()
        if not self._default.finds_installations():
            raise self._default.put_off()

    def identity(self) -> str:
        """The owner of the budget."""
        return self._installation.identity

    def of(self, owner: str) -> Access:
        """These: they read nobody else's."""
        return self

    def installed(self) -> Installed | None:
        """As the default identity knows them."""
        return self._default.installed()
