"""Who asks: a user with a personal token, or a GitHub App's installation. Each has a budget of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from local.simulator.data import Node, Repository

READ = {"metadata": "read", "pull_requests": "read", "contents": "read", "issues": "read", "members": "read"}


@dataclass(slots=True, eq=False)
class Viewer:
    """A user, who sees what is not hidden."""

    login: str

    def sees(self, repository: Repository) -> bool:
        """Whether GitHub shows that the repository exists."""
        return not repository.hidden

    def may_not_read_pull_requests(self, repository: Repository) -> bool:
        """Whether GitHub refuses them."""
        return False


EVERYBODY = Viewer("viewer")


@dataclass(slots=True, eq=False)
class Installation(Viewer):
    """An App on the account ``login``. It reads what is public, and private repositories of the account: all, or ``selected``.

    What a test changes here is so from the next request on. ``limit`` is that of its points in a window.
    """

    id: int
    selected: Collection[str] | None = None
    permissions: dict[str, str] = field(default_factory=lambda: dict(READ))
    suspended_at: datetime | None = None
    limit: int = 5000

    def suspend(self) -> None:
        """The account's owner stops the App for a while."""
        self.suspended_at = datetime.now(UTC).replace(microsecond=0)

    def sees(self, repository: Repository) -> bool:
        """Metadata of a private repository is a permission too, which GitHub always grants."""
        if repository.hidden or not repository.node["isPrivate"]:
            return not repository.hidden
        is_its = str(repository.node["owner"]["login"]).lower() == self.login.lower()
        return is_its and (self.selected is None or repository.full_name in self.selected)

    def may_not_read_pull_requests(self, repository: Repository) -> bool:
        """Public data needs no permission. What GitHub does without the other permissions is not known."""
        return bool(repository.node["isPrivate"]) and "pull_requests" not in self.permissions

    def as_json(self, app_id: str) -> Node:
        """As GET /app/installations shows it, with the fields that a client could need."""
        account = {"login": self.login, "id": self.id * 10, "type": "Organization"}
        return {
            "id": self.id,
            "account": account,
            "app_id": int(app_id),
            "target_id": account["id"],
            "target_type": "Organization",
            "repository_selection": "all" if self.selected is None else "selected",
            "permissions": self.permissions,
            "events": [],
            "created_at": "2024-01-01T00:00:00Z",
            "updated_at": "2024-01-01T00:00:00Z",
            "suspended_by": None if self.suspended_at is None else {"login": "owner"},
            "suspended_at": self.suspended_at and self.suspended_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
