"""Who may ask: personal tokens, and a GitHub App whose installation tokens are issued for a signed JWT and expire."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt

from local.simulator.viewers import EVERYBODY, Installation, Viewer

# The longest life of an app's JWT.
JWT_SECONDS = 600
REST = "https://docs.github.com/rest"

# Status, headers and JSON of a reply.
Reply = tuple[int, dict[str, str], Any]


@dataclass(slots=True)
class App:
    """A GitHub App and its installations; their tokens live ``token_seconds`` of this machine's time."""

    app_id: str
    public_key: str
    installations: list[Installation] = field(default_factory=list)
    token_seconds: float = 3600.0


class Tokens:
    """``personal`` None accepts any token that is not an app's. ``clock`` is GitHub's."""

    def __init__(self, personal: str | None, app: App | None, clock: Callable[[], float], counts: Counter[str]) -> None:
        self.personal, self.app = personal, app
        self._clock, self._counts = clock, counts
        self._expires: dict[str, float] = {}
        self._issued_for: dict[str, Installation] = {}

    def viewer(self, token: str) -> Viewer | None:
        """Whose this bearer token is; None if its requests are not answered."""
        if token in self._expires:
            if self._clock() < self._expires[token] and self._issued_for[token] in self._installations():
                return self._issued_for[token]
            self._counts["expired_tokens"] += 1
            return None
        if not token or token.startswith("ghs_"):
            return None
        is_good = self.app is None if self.personal is None else token == self.personal
        return EVERYBODY if is_good else None

    def revoke(self) -> None:
        """No installation token that was issued so far is good any more."""
        self._expires = dict.fromkeys(self._expires, 0.0)

    def issue(self, signed: str, installation_id: str) -> Reply:
        """POST /app/installations/{id}/access_tokens."""
        refused = self._refused(signed)
        if refused is not None or self.app is None:
            return refused or _message(404, "Not Found")
        found = next((each for each in self._installations() if str(each.id) == installation_id), None)
        if found is None:
            return _message(404, "Not Found")
        if found.suspended_at is not None:
            return _message(403, "This installation has been suspended")
        token = f"ghs_{secrets.token_hex(18)}"
        self._expires[token] = float(math.floor(self._clock() + self.app.token_seconds))
        self._issued_for[token] = found
        self._counts["issued_tokens"] += 1
        expires = datetime.fromtimestamp(self._expires[token], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        selection = found.as_json(self.app.app_id)["repository_selection"]
        granted = {"permissions": found.permissions, "repository_selection": selection}
        return 201, {}, {"token": token, "expires_at": expires, **granted}

    def installed(self, signed: str, query: Mapping[str, str], url: str) -> Reply:
        """GET /app/installations: pages of 30, or of ``per_page`` up to 100."""
        refused = self._refused(signed)
        if refused is not None or self.app is None:
            return refused or _message(404, "Not Found")
        self._counts["installation_lists"] += 1
        size, page = max(1, min(100, int(query.get("per_page", 30)))), int(query.get("page", 1))
        rows = [each.as_json(self.app.app_id) for each in self.app.installations]
        is_last = page * size >= len(rows)
        link = {} if is_last else {"link": f'<{url}?per_page={size}&page={page + 1}>; rel="next"'}
        return 200, link, rows[(page - 1) * size : page * size]

    def _installations(self) -> list[Installation]:
        return self.app.installations if self.app else []

    def _refused(self, signed: str) -> Reply | None:
        refusal = self._refusal(signed)
        if refusal is None:
            return None
        self._counts["refused_jwts"] += 1
        return _message(401, refusal)

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


def _message(status: int, text: str) -> Reply:
    return status, {}, {"message": text, "documentation_url": REST}
