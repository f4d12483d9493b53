"""Where a GitHub App is installed, and which installation reads an owner's repositories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Installation:
    """An App on one user or organisation. GitHub counts its limits for each installation.

    ``former_account``: the login before a rename. ``lacks``: permissions that the product needs and the owner did not grant.
    """

    id: int
    account: str
    repository_selection: str = "all"
    suspended_at: datetime | None = None
    lacks: tuple[str, ...] = ()
    former_account: str | None = None

    @property
    def identity(self) -> str:
        """The key of its budget."""
        return f"installation:{self.id}"


@dataclass(frozen=True, slots=True)
class Installed:
    """The installations of an App, as GitHub listed them ``age_seconds`` ago."""

    installations: Sequence[Installation]
    age_seconds: float = 0.0

    def of(self, owner: str) -> Installation | None:
        """The installation on a user or an organisation, which may have another login since its repositories were stored."""
        wanted = owner.lower()
        former = (each for each in self.installations if (each.former_account or "").lower() == wanted)
        return next((each for each in self.installations if each.account.lower() == wanted), next(former, None))

    @property
    def first(self) -> Installation | None:
        """The oldest one that is not suspended. It reads what no installation covers."""
        return min(
            (each for each in self.installations if not each.suspended_at), key=lambda each: each.id, default=None
        )
