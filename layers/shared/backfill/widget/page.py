"""The widget's HTML. The templates escape everything by themselves (Jinja's autoescape); nothing here makes markup."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backfill.overview import of_repository, overview
from backfill.queues import Queues
from backfill.store import activity, backfills, chunk_history, gaps, repositories
from backfill.store.connection import Database
from backfill.widget import actions
from backfill.widget.asking import question
from backfill.widget.contract import STATES, View, sibling
from backfill.widget.letters import Letters
from backfill.widget.plot import begin_of, plots
from backfill.widget.repository import MOST_CHUNKS, MOST_GAPS, Found, repository
from backfill.widget.table import not_yet, only_first, points_left, table
from backfill.widget.words import clock

# Narrower than this, a backfill is a card instead of a row.
NARROW_WIDTH = 860


def show(db: Database, queues: Queues, view: View, function_arn: str, notice: str = "") -> str:
    """The page that the viewer wants to see: one repository, or the table. ``notice`` tells what an action did. Reads only."""
    if not view.show:
        return _show_table(db, queues, view, function_arn, notice)
    owner, _, name = view.show.partition("/")
    tracked = repositories.find(db, owner, name)
    row = of_repository(db, tracked.id) if tracked else None
    if row is None:
        return _show_table(db, queues, view, function_arn, notice or f"{view.show} is not tracked.")
    repository_id, backfill_id = row.progress.repository_id, row.progress.backfill_id
    now = backfills.now(db)
    counts = gaps.counts(db, repository_id)
    found = Found(
        row=row,
        gaps=gaps.of_repository(db, repository_id, after=0, limit=MOST_GAPS, unread=False),
        gaps_in_all=counts["failed"] + counts["incomplete"] + counts["refused"],
        chunks=chunk_history.newest(db, backfill_id, MOST_CHUNKS, None),
    )
    worked = activity.worked(db, view.plot, begin_of(view.plot, now), backfill_id)
    return _render(
        "repository.html",
        view,
        function_arn,
        now,
        notice=notice,
        page=repository(found, view, now),
        plots=plots(worked, view.plot, now) if worked else None,
        question=question(view),
    )


def show_letters(letters: Letters, view: View, function_arn: str, notice: str) -> str:
    """Dead letters as they were received."""
    return _render(
        "letters.html",
        view,
        function_arn,
        letters.at,
        notice=notice,
        letters=letters.shown,
        hidden=letters.hidden,
        actions=tuple(actions.of_letters([each.message_id for each in letters.shown])),
        list_letters=actions.DEAD_LETTERS,
    )


def _show_table(db: Database, queues: Queues, view: View, function_arn: str, notice: str) -> str:
    seen = overview(db, queues)
    now = backfills.now(db)
    worked = activity.worked(db, view.plot, begin_of(view.plot, now))
    return _render(
        "table.html",
        view,
        function_arn,
        now,
        notice=notice or not_yet(seen.requested),
        table=table(seen.backfills, view, now),
        states=STATES,
        points=points_left(seen.budgets),
        checks=seen.checks,
        dead_letters=seen.dead_letters,
        advice=seen.advice,
        only_first=only_first(len(seen.backfills), sum(seen.counts.values())),
        plots=plots(worked, view.plot, now) if worked else None,
        question=question(view),
        plan_all=actions.PLAN_ALL,
        list_letters=actions.DEAD_LETTERS,
    )


def _render(template: str, view: View, function_arn: str, now: datetime, **shown: Any) -> str:
    return (
        _environment()
        .get_template(template)
        .render(
            view=view,
            narrow=view.width < NARROW_WIDTH,
            widget_arn=sibling(function_arn, "widget"),
            console_arn=sibling(function_arn, "console"),
            updated=clock(now),
            **shown,
        )
    )


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
