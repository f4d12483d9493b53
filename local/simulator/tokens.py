"""Who may ask: personal tokens, and a GitHub App whose installation tokens are issued for a signed JWT and expire."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

# The longest life of an app's JWT.
JWT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class App:
    """A GitHub App with one installation; its tokens live ``token_seconds`` of this machine's time."""

    app_id: str
    installation_id: str
    public_key: str
    token_seconds: float = 3600.0


class Tokens:
    """``personal`` None accepts any token that is not an app's. ``clock`` is GitHub's."""

    def __init__(self, personal: str | None, app: App | None, clock: Callable[[], float], counts: Counter[str]) -> None:
        self.personal, self.app = personal, app
        self._clock, self._counts = clock, counts
        self._expires: dict[str, float] = {}

    def accepts(self, token: str) -> bool:
        """Whether a request with this bearer token is answered."""
        if token in self._expires:
            if self._clock() < self._expires[token]:
                return True
            self._counts["expired_tokens"] += 1
            return False
        if not token or token.startswith("ghs_"):
            return False
        return self.app is None if self.personal is None else token == self.personal

    def revoke(self) -> None:
        """No installation token that was issued so far is good any more."""
        self._expires = dict.fromkeys(self._expires, 0.0)

    def issue(self, signed: str, installation_id: str) -> tuple[int, dict[str, Any]]:
        """Status and body of POST /app/installations/{id}/access_tokens."""
        refused = self._refusal(signed)
        if refused is not None:
            self._counts["refused_jwts"] += 1
            return 401, {"message": refused, "documentation_url": "https://docs.github.com/rest"}
        if self.app is None or installation_id != self.app.installation_id:
            return 404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}
        token = f"ghs_{secrets.token_hex(18)}"
        self._expires[token] = float(math.floor(self._clock() + self.app.token_seconds))
        self._counts["issued_tokens"] += 1
        expires = datetime.fromtimestamp(self._expires[token], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 201, {"token": token, "expires_at": expires, "permissions": {}, "repository_selection": "all"}

    def _refusal(self, signed: str) -> str | None:
        """GitHub's own words for a JWT that it does not take."""
        if self.app is None:
            return "Integration not found"
        try:
            claims = jwt.decode(
                signed,
                self.app.public_key,
                algorithms=["RS256"],
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.PyJWTError:
            return "A JSON web token could not be decoded"
        now, issued, expires = self._clock(), claims.get("iat"), claims.get("exp")
        if str(claims.get("iss")) != self.app.app_id:
            return "Integration not found"
        if not isinstance(issued, int) or issued > now:
            return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        if not isinstance(expires, int) or expires <= now:
            return "'Expiration time' claim ('exp') must be a numeric value representing a time in the future"
        if expires > now + JWT_SECONDS:
            return "'Expiration time' claim ('exp') is too far in the future"
        return None
