"""What an operator does with organisations: follow one, look at it before and after, follow it no more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backfill import following
from backfill.errors import ContractViolation, Deferred, Permanent, Retryable
from backfill.following import LeftOut, Rule
from backfill.github import cost, packing
from backfill.github.client import GitHub
from backfill.github.organisations import OwnedRepository
from backfill.queues import Queues
from backfill.store import backfills, organisations, repositories
from backfill.store.connection import Database
from backfill.store.organisations import Known, Organisation, Settings

# The console function has 30 seconds: it lists for so long, and the planner goes on.
LISTING_SECONDS = 12.0
# Before the planner goes on with what GitHub could not answer.
AGAIN_SECONDS = 60.0
# What an add does with a repository, besides leaving it out.
JOINS, TRACKED, REMOVED = "joins", "tracked", "removed"
FATES = (JOINS, TRACKED, REMOVED, *map(str, LeftOut))


@dataclass(frozen=True, slots=True)
class Preview:
    """What an add would do: how many repositories have which fate, and what reading the new ones takes.

    ``looked_at`` is less than ``total_repositories`` where the time ended before the list; then nobody knows what is hidden.
    """

    organisation: str
    is_user: bool
    total_repositories: int
    looked_at: int
    hidden_repositories: int | None
    fates: Mapping[str, int]
    pull_requests: int
    points: int

    def as_json(self) -> dict[str, Any]:
        """The answer of the console function."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "fates": {fate: self.fates[fate] for fate in FATES}
        }


def add(db: Database, github: GitHub, queues: Queues, login: str, settings: Settings) -> dict[str, Any]:
    """Follow an organisation, or change what is named of it; list it for some seconds.

    Raises Permanent for one that GitHub does not show; then it is not followed. Where GitHub cannot answer now, it is accepted,
    ``waits`` says why, and the planner asks again.
    """
    before = organisations.find(db, login)
    held = _kept(db, login, settings, before)
    began = backfills.now(db)
    deadline, wait, waits = time.monotonic() + LISTING_SECONDS, 0.0, None
    try:
        following.list_organisation(db, github, held, lambda: time.monotonic() < deadline)
    except Deferred as limit:
        wait, waits = limit.seconds, following.reason_of(limit)
    except Retryable as error:
        wait, waits = AGAIN_SECONDS, following.reason_of(error)
    except Permanent as error:
        if before is None and held.node_id is None:
            organisations.forget_unknown(db, held.id)
        else:
            organisations.note_error(db, held.id, following.reason_of(error), is_final=True)
        raise
    if waits is not None:
        organisations.note_error(db, held.id, waits, is_final=False)
    # The planner lists the rest, and plans what joined.
    queues.request_plan(None, wait)
    now = organisations.get(db, held.id) or held
    answer = {**described(db, now), "created": before is None, "joined": organisations.joined_since(db, held.id, began)}
    return answer | ({"waits": waits} if waits is not None else {})


def preview(db: Database, github: GitHub, login: str, settings: Settings) -> Preview:
    """What ``add`` would do. Nothing is written; the GitHub client's governor must only look at the budget."""
    deadline = time.monotonic() + LISTING_SECONDS
    with db.reading():
        before = organisations.find(db, login)
        held = Rule() if before is None else Rule.from_json(before.rule)
        rule = Rule.from_json({**held.as_json(), **settings.rule})
        pages = []
        for page in following.pages(github, login, None if before is None else before.node_id):
            pages.append(page)
            if time.monotonic() > deadline:
                break
        found = [each for page in pages for each in page.repositories]
        its_ids = [each.github_id for each in found]
        tracked = repositories.tracked(db, its_ids)
        known = organisations.known(db, before.id, its_ids) if before is not None else {}
    fates = {each: _fate(rule, each, known.get(each.github_id), each.github_id in tracked) for each in found}
    joining = [each for each, fate in fates.items() if fate == JOINS]
    last = pages[-1]
    return Preview(
        last.login,
        last.is_user,
        last.total,
        len(found),
        None if last.has_next_page else max(0, last.total - len(found)),
        Counter(fates.values()),
        sum(each.total_prs for each in joining),
        round(sum(points(each.total_prs) for each in joining)),
    )


def points(total_prs: int) -> float:
    """Points that a repository takes until it is completed, at the average."""
    return max(1, -(-total_prs // packing.PAGE)) + cost.AVERAGE_POINTS * total_prs


def remove(db: Database, login: str) -> None:
    """Follow it no more. What is tracked stays tracked. Raises ContractViolation if it is not followed."""
    organisations.forget(db, _followed(db, login).id)


def status(db: Database, login: str) -> dict[str, Any]:
    """An organisation summed up. Raises ContractViolation if it is not followed."""
    return described(db, _followed(db, login))


def all_of_them(db: Database) -> list[dict[str, Any]]:
    """Each followed organisation in short, for the status of everything."""
    return [_in_short(each) for each in organisations.followed(db)]


def described(db: Database, organisation: Organisation) -> dict[str, Any]:
    """The organisation, and the sums over its repositories."""
    its = organisations.summary(db, organisation.id)
    return {
        **_in_short(organisation),
        "rule": dict(organisation.rule),
        **{name: getattr(its, name) for name in its.__slots__},
    }


def _in_short(organisation: Organisation) -> dict[str, Any]:
    return {
        "organisation": organisation.login,
        "is_user": organisation.is_user,
        "is_listed": organisation.listed_at is not None and organisation.listing_started_at is None,
        "is_refused": organisation.is_refused,
        "listed_at": organisation.listed_at,
        "reason": organisation.reason,
        "total_repositories": organisation.total_repositories,
        "hidden_repositories": organisation.hidden_repositories,
    }


def _fate(rule: Rule, repository: OwnedRepository, known: Known | None, is_tracked: bool) -> str:
    if is_tracked:
        return TRACKED
    its = following.shown(rule, repository, known)
    return its.left_out or (JOINS if its.joins else REMOVED)


def _kept(db: Database, login: str, settings: Settings, before: Organisation | None) -> Organisation:
    """The row with what is named. Raises Retryable if another command changes it in the same moment."""
    if before is None:
        found = organisations.accept(db, login, settings, Rule().as_json())
    else:
        found = organisations.change(db, before.id, settings)
    if found is None:
        raise Retryable(f"another command changed {login} in the same moment; add it again")
    return found


def _followed(db: Database, login: str) -> Organisation:
    found = organisations.find(db, login)
    if found is None:
        raise ContractViolation("organisation", f"{login} is not followed; run: backfill add --org {login}")
    return found
