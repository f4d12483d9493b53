"""Puts the parts together once per container. Handlers ask here; use cases never touch the environment."""

from __future__ import annotations

from functools import cache
from typing import Any

from backfill.config import Settings
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.transport import Transport
from backfill.queues import Queues
from backfill.store.budget import ObservedBudget, PostgresBudget
from backfill.store.connection import Database


@cache
def settings() -> Settings:
    """The settings of this container."""
    return Settings.from_environment()


def database_url() -> str:
    """The URL for the migrator, which keeps no connection."""
    return settings().database_address()()


@cache
def database() -> Database:
    """The connection of this container, opened when first used."""
    address = settings().database_address()
    return Database(address, on_refused=address.forget)


@cache
def github() -> GitHub:
    """GitHub under the governor."""
    return _github(PostgresBudget(database()))


@cache
def github_of_dry_runs() -> GitHub:
    """GitHub under a governor that only reads the budget."""
    return _github(ObservedBudget(database()))


def _github(budget: PostgresBudget | ObservedBudget) -> GitHub:
    transport = Transport(settings().github_api_url)
    return GitHub(transport, Credentials(transport, settings().github_secret(), budget), Governor(budget))


@cache
def queues() -> Queues:
    """The three queues."""
    known = settings()
    return Queues(known.chunk_queue_url, known.plan_queue_url, known.dead_letter_queue_url)


def seconds_left(context: Any) -> float:
    """Seconds left of the function's time."""
    return float(context.get_remaining_time_in_millis()) / 1000
