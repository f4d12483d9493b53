"""Organisations: all their repositories are tracked, and new ones join. A user's repositories likewise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Self

from backfill.errors import MOST_TEXT, Deferred, LeaseLost, Permanent, Retryable
from backfill.github import organisations as github_lists
from backfill.github.client import GitHub
from backfill.github.errors import InvalidQuery, TooLarge, UnknownField
from backfill.github.organisations import OwnedRepository, OwnerPage
from backfill.observability import event
from backfill.store import organisations, repositories
from backfill.store.connection import Database
from backfill.store.organisations import Known, Moved, Organisation, Shown

# Names in one line of the log.
MOST_LOGGED = 20


class LeftOut(StrEnum):
    """Why the rule leaves a repository out."""

    FORK = "fork"
    ARCHIVED = "archived"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which repositories join. Globs are matched with the name without its owner, and without case, as GitHub's names are."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    forks: bool = True
    archived: bool = True

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """From the column ``rule``."""
        return cls(tuple(fields["include"]), tuple(fields["exclude"]), bool(fields["forks"]), bool(fields["archived"]))

    def as_json(self) -> Mapping[str, object]:
        """The column ``rule``."""
        return {
            "include": list(self.include),
            "exclude": list(self.exclude),
            "forks": self.forks,
            "archived": self.archived,
        }

    def left_out(self, name: str, *, is_fork: bool, is_archived: bool) -> LeftOut | None:
        """Why a repository does not join; None if it does."""
        if not _matches(name, self.include) or _matches(name, self.exclude):
            return LeftOut.NAME
        if is_fork and not self.forks:
            return LeftOut.FORK
        return LeftOut.ARCHIVED if is_archived and not self.archived else None


@dataclass(frozen=True, slots=True)
class Listed:
    """How far a run came: pages stored, and whether the listing has ended."""

    pages: int
    is_done: bool


def list_organisation(db: Database, github: GitHub, organisation: Organisation, has_time: Callable[[], bool]) -> Listed:
    """List it from where the last run stopped, while there is time.

    Each page is one transaction: the cursor, what the page shows, and the backfills of what joins. Raises what GitHub raises;
    the pages before that are stored.
    """
    pages, size = 0, github_lists.PAGE
    try:
        if organisation.listing_started_at is None:
            organisation = _begun(db, organisation)
        while organisation.listing_started_at is not None and has_time():
            try:
                page = _page(github, organisation, size)
            except TooLarge as error:
                size = _halved(size, error)
                continue
            except InvalidQuery as error:
                if organisation.listing_cursor is None or isinstance(error, UnknownField):
                    raise
                # An opaque cursor that GitHub refuses is worth nothing. What is stored stays.
                organisation = _begun(db, organisation)
                continue
            organisation = _stored(db, organisation, page)
            pages += 1
    except LeaseLost:
        # Another run lists it, or it is not followed any more.
        return Listed(pages, True)
    return Listed(pages, organisation.listing_started_at is None)


def pages(github: GitHub, login: str, node_id: str | None) -> Iterator[OwnerPage]:
    """The whole list, without storing it. A page that is too large is divided in two."""
    cursor, size, goes_on = None, github_lists.PAGE, True
    while goes_on:
        try:
            page = github.of(login).owned(login, node_id, cursor, size)
        except TooLarge as error:
            size = _halved(size, error)
            continue
        yield page
        cursor, goes_on = page.end_cursor, page.has_next_page


def shown(rule: Rule, repository: OwnedRepository, known: Known | None) -> Shown:
    """What the rule makes of a repository of the list. It joins once: what an operator removed stays away."""
    row = repository.row
    left_out = rule.left_out(row["name"], is_fork=row["is_fork"], is_archived=row["is_archived"])
    has_joined = known is not None and known.has_joined
    return Shown(
        repository.github_id,
        row["node_id"],
        repository.full_name,
        row["is_fork"],
        row["is_archived"],
        repository.total_prs,
        left_out,
        joins=left_out is None and not has_joined,
    )


def reason_of(error: Deferred | Permanent | Retryable) -> str:
    """For the status, as long as Postgres keeps it."""
    return str(error)[:MOST_TEXT]


def _halved(size: int, error: TooLarge) -> int:
    """The next page's size. Raises the error of a single repository."""
    if size == 1:
        raise error
    return size // 2


def _begun(db: Database, organisation: Organisation) -> Organisation:
    begun = organisations.begin_listing(db, organisation)
    if begun is None:
        raise LeaseLost
    return begun


def _page(github: GitHub, organisation: Organisation, size: int) -> OwnerPage:
    return github.of(organisation.login).owned(
        organisation.login, organisation.node_id, organisation.listing_cursor, size
    )


def _stored(db: Database, organisation: Organisation, page: OwnerPage) -> Organisation:
    """Store a page; the organisation's row as of then. Raises LeaseLost, and nothing is stored."""
    moved = Moved(organisation.listing_cursor, page.end_cursor, page.node_id, page.login, page.is_user, page.total)
    with db.transaction():
        held = organisations.move_cursor(db, organisation, moved)
        if held is None:
            raise LeaseLost
        known = organisations.known(db, held.id, [each.github_id for each in page.repositories])
        rule = Rule.from_json(held.rule)
        pairs = [(each, shown(rule, each, known.get(each.github_id))) for each in page.repositories]
        joining = [each.row for each, its in pairs if its.joins]
        if joining:
            repositories.upsert_all(db, joining)
        organisations.store(db, held, [its for _, its in pairs])
        ended = None if page.has_next_page else organisations.end_listing(db, held)
    newly_archived = [
        its.full_name
        for _, its in pairs
        if its.is_archived and (before := known.get(its.github_id)) and before.has_joined and not before.is_archived
    ]
    _log("repositories of an organisation joined", held, [its.full_name for _, its in pairs if its.joins])
    _log("repositories of an organisation were archived", held, newly_archived)
    if ended is None:
        return held
    _log("an organisation does not show repositories any more", held, ended.gone)
    return ended.organisation


def _log(what: str, organisation: Organisation, names: list[str]) -> None:
    if names:
        event(what, organisation=organisation.login, count=len(names), repositories=names[:MOST_LOGGED])


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), glob.lower()) for glob in globs)
