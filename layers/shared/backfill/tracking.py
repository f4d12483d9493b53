"""From a name or an id to the backfill of a tracked repository."""

from __future__ import annotations

from backfill.errors import ContractViolation
from backfill.messages import PlanEvent
from backfill.model import Backfill
from backfill.store import backfills, repositories
from backfill.store.connection import Database


def find(db: Database, full_name: str) -> Backfill | None:
    """By ``owner/name``, a present or an earlier one."""
    owner, name = full_name.split("/", 1)
    repository = repositories.find(db, owner, name)
    return backfills.of_repository(db, repository.id) if repository else None


def named(db: Database, full_name: str) -> Backfill:
    """By ``owner/name``. Raises ContractViolation if it is not tracked."""
    found = find(db, full_name)
    if found is None:
        raise ContractViolation("repository", f"{full_name} is not tracked; run: backfill add {full_name}")
    return found


def of_event(db: Database, request: PlanEvent) -> Backfill:
    """The backfill that the event names. Raises ContractViolation if there is none."""
    if not request.repository_id:
        return named(db, request.repository or "/")
    found = backfills.of_repository(db, request.repository_id)
    if found is None:
        raise ContractViolation("repository_id", f"{request.repository_id} has no backfill; see: backfill status")
    return found
