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


class Installed:
    """The installations of an App, as GitHub listed them ``age_seconds`` ago."""

    def __init__(self, installations: Sequence[Installation], age_seconds: float = 0.0) -> None:
        self.installations, self.age_seconds = installations, age_seconds
        # A repository that is stored may still have the login that its owner had before a rename.
        former = {each.former_account.lower(): each for each in installations if each.former_account}
        self._by_owner = former | {each.account.lower(): each for each in installations}

    def of(self, owner: str) -> Installation | None:
        """The installation on a user or an organisation, suspended or not."""
        return self._by_owner.get(owner.lower())

    @property
    def first(self) -> Installation | None:
        """The oldest one that is not suspended. It reads what no installation covers."""
        return min(
            (each for each in self.installations if not each.suspended_at), key=lambda each: each.id, default=None
        )
