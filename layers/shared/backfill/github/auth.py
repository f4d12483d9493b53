"""Who asks GitHub: a personal token, or a GitHub App's installation. The identity, not the token, owns the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from backfill.errors import Misconfigured
from backfill.github.errors import BadCredentials
from backfill.github.transport import Transport

# Renewed this long before it expires, so that no request starts with a token about to end.
RENEW_SECONDS = 300
# GitHub takes JWTs of ten minutes at most; one minute back allows for clocks that are ahead.
JWT_SECONDS = 540


class Credentials:
    """Gives the current token; reads the secret again when told that GitHub refused it.

    ``read_secret`` returns ``{"token"}`` or ``{"app_id", "installation_id", "private_key"}``.
    """

    def __init__(self, transport: Transport, read_secret: Callable[[bool], Mapping[str, str]]) -> None:
        self._transport = transport
        self._read_secret = read_secret
        self._secret: Mapping[str, str] | None = None
        self._token: str | None = None
        self._expires_at: datetime | None = None
        self._identity: str | None = None

    def token(self) -> str:
        """A token that is valid for at least some minutes."""
        if self._token is None or (
            self._expires_at is not None and (self._expires_at - datetime.now(UTC)).total_seconds() < RENEW_SECONDS
        ):
            self._token, self._expires_at = self._fresh()
        return self._token

    def renew(self) -> None:
        """GitHub refused the token: the secret may have been rotated."""
        self._secret = self._read(True)
        self._token = None

    def identity(self) -> str:
        """The owner of the budget: ``installation:ID``, or ``user:LOGIN``; GitHub is asked once for the login."""
        if self._identity is None:
            secret = self._current_secret()
            if "installation_id" in secret:
                self._identity = f"installation:{secret['installation_id']}"
            else:
                from backfill.github import documents

                reply = self._transport.query(self.token(), documents.VIEWER, {}, 10)
                self._identity = f"user:{reply.data['viewer']['login']}"
        return self._identity

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
        secret = self._current_secret()
        if secret.get("token"):
            return secret["token"], None
        for field in ("app_id", "installation_id", "private_key"):
            if not secret.get(field):
                raise BadCredentials(
                    f"the GitHub secret lacks {field}: give either token, or app_id, installation_id and private_key"
                )
        import jwt

        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + JWT_SECONDS, "iss": str(secret["app_id"])}
        signed = jwt.encode(claims, secret["private_key"], algorithm="RS256")
        return self._transport.installation_token(signed, secret["installation_id"])
