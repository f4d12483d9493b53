"""Who asks GitHub: a personal token, or a GitHub App's installation. The identity, not the token, owns the budget."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from backfill.errors import Deferred, Misconfigured
from backfill.github import documents
from backfill.github.errors import BadCredentials, RateLimited
from backfill.github.transport import Transport

# Renewed this long before it expires, or in its last tenth: no request starts with a token that is about to end.
RENEW_SECONDS = 300.0
# GitHub takes JWTs of ten minutes at most, begun in the past: both with a minute to spare.
JWT_AGE, JWT_LIFE = timedelta(seconds=60), timedelta(seconds=480)
# A rate limit without a word on how long, before it is known whose it is: doubled each time, an hour at most.
LIMITED_SECONDS, LONGEST_LIMITED_SECONDS = 60.0, 3600.0
# Clocks that differ by less make no difference to a JWT.
CLOCK_SECONDS = 30.0


class Identities(Protocol):
    """Remembers whose a token is, by its SHA-256, so that a new container need not ask (backfill.store.budget)."""

    def identity_of(self, token_hash: str) -> str | None: ...
    def remember_identity(self, token_hash: str, identity: str) -> None: ...


class Credentials:
    """Gives the current token; reads the secret again when told that GitHub refused it.

    ``read_secret`` returns ``{"token"}`` or ``{"app_id", "installation_id", "private_key"}``. Raises BadCredentials
    for a secret of another form, and what the transport raises.
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
        self._token: str | None = None
        self._renew_at: datetime | None = None
        self._identity: str | None = None
        self._limits_in_a_row = 0

    def token(self) -> str:
        """A token that is valid for the length of a request at least."""
        if self._token is None or (self._renew_at is not None and self._transport.now() >= self._renew_at):
            self._token, self._renew_at = self._fresh()
        return self._token

    def renew(self) -> None:
        """GitHub refused the token: the secret may have been rotated, even to another identity's."""
        self._secret = self._read(True)
        self._token = self._identity = None

    def identity(self) -> str:
        """The owner of the budget: ``installation:ID``, or ``user:LOGIN``; GitHub is asked for the login of a new token.

        Raises Deferred if GitHub limits even that.
        """
        if self._identity is None:
            secret = self._current_secret()
            if secret.get("token"):
                self._identity = self._owner(self.token())
            else:
                self._identity = f"installation:{_needed(secret, 'installation_id')}"
        return self._identity

    def _owner(self, token: str) -> str:
        token_hash = hashlib.sha256(token.encode()).hexdigest()
        known = self._identities.identity_of(token_hash) if self._identities else None
        if known is not None:
            return known
        try:
            reply = self._transport.query(token, documents.VIEWER, {}, 30)
        except RateLimited as limit:
            seconds = limit.wait_seconds or min(LONGEST_LIMITED_SECONDS, LIMITED_SECONDS * 2**self._limits_in_a_row)
            self._limits_in_a_row = min(10, self._limits_in_a_row + 1)
            raise Deferred(self._transport.now() + timedelta(seconds=seconds), seconds, str(limit)) from limit
        self._limits_in_a_row = 0
        identity = f"user:{reply.data['viewer']['login']}"
        if self._identities:
            self._identities.remember_identity(token_hash, identity)
        return identity

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

    def _fresh(self) -> tuple[str, datetime | None]:
        """A token, and when to fetch the next; a personal one is good until GitHub refuses it."""
        secret = self._current_secret()
        if secret.get("token"):
            return secret["token"].strip(), None
        asked = self._transport.now()
        try:
            token, expires = self._installation_token(secret)
        except BadCredentials:
            # The reply has told GitHub's time: a JWT by this machine's clock may have been begun in the future.
            if abs((self._transport.now() - asked).total_seconds()) < CLOCK_SECONDS:
                raise
            token, expires = self._installation_token(secret)
        life = (expires - self._transport.now()).total_seconds()
        return token, expires - timedelta(seconds=min(RENEW_SECONDS, life / 10))

    def _installation_token(self, secret: Mapping[str, str]) -> tuple[str, datetime]:
        import jwt

        now = self._transport.now()
        claims = {
            "iat": int((now - JWT_AGE).timestamp()),
            "exp": int((now + JWT_LIFE).timestamp()),
            "iss": str(_needed(secret, "app_id")),
        }
        try:
            signed = jwt.encode(claims, _needed(secret, "private_key"), algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError):
            signed = ""
        if not signed:
            raise BadCredentials("the GitHub secret's private_key is no RSA key in PEM form, with its line ends")
        return self._transport.installation_token(signed, str(_needed(secret, "installation_id")))


def _needed(secret: Mapping[str, str], field: str) -> str:
    if not secret.get(field):
        raise BadCredentials(
            f"the GitHub secret lacks {field}: it holds either token, or app_id, installation_id and private_key"
        )
    return secret[field]
