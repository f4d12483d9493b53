"""The table of all backfills: its figures, its rows, and the group of the completed ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backfill.overview import Kind, Shown
from backfill.store.budget import Budgets
from backfill.store.names import Requested
from backfill.widget import actions
from backfill.widget.actions import Action
from backfill.widget.contract import STATES, View
from backfill.widget.words import clock, counted, listed, percent, span

# Fewer backfills than this need no filter.
FILTER_FROM = 8
LONGEST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Line:
    """One backfill, in the words of the page."""

    id: str
    repository: str
    kind: str
    state: str
    why: str
    done: int
    total: int
    failed: int
    incomplete: int
    percent: float
    failed_percent: float
    rate: int
    active: bool
    finish: str
    finish_at: str
    error: str
    error_age: str
    actions: tuple[Action, ...]
    priority: str
    priorities: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """When the last backfill is done: in words, and what that leaves out."""

    words: str
    but: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What of the backfills is shown: ``lines`` of one page, and ``completed`` ones apart. The figures are of all backfills."""

    total: int
    done: int
    stored: int
    rate: int
    finish: Finish
    kinds: Mapping[str, int]
    matching: int
    page: int
    pages: int
    first: int
    lines: tuple[Line, ...]
    completed: tuple[Line, ...]
    completed_count: int
    is_filtered: bool

    @property
    def percent(self) -> float:
        """Stored of all."""
        return percent(self.done, self.stored)


def table(rows: Sequence[Shown], view: View, now: datetime) -> Table:
    """The table of these rows of an ``overview``. Completed backfills collapse into one group, unless they are asked for."""
    ordered = sorted(
        rows,
        key=lambda row: (
            STATES.index(row.condition.kind),
            actions.PRIORITIES.index(row.progress.priority or "normal"),
            row.progress.repository,
        ),
    )
    wanted = [row for row in ordered if _is_wanted(row, view)]
    collapsed = [row for row in wanted if row.condition.kind == Kind.DONE and view.state != Kind.DONE]
    shown = [row for row in wanted if row not in collapsed]
    pages = max(1, math.ceil(len(shown) / view.rows))
    page = min(view.page, pages)
    begin = (page - 1) * view.rows
    return Table(
        total=len(rows),
        done=sum(row.progress.processed_prs for row in rows),
        stored=sum(row.progress.total_prs for row in rows),
        rate=round(sum(row.progress.prs_per_hour or 0 for row in rows if row.progress.status == "active")),
        finish=finish(rows, now),
        kinds=Counter(row.condition.kind for row in rows),
        matching=len(shown),
        page=page,
        pages=pages,
        first=begin + 1,
        lines=tuple(line(row, view, now) for row in shown[begin : begin + view.rows]),
        completed=tuple(line(row, view, now) for row in collapsed[: view.rows]),
        completed_count=len(collapsed),
        is_filtered=len(rows) >= FILTER_FROM or bool(view.filter or view.state),
    )


def finish(rows: Sequence[Shown], now: datetime) -> Finish:
    """The latest finish of the active backfills. Paused ones and those without a rate are named apart."""
    active = [row for row in rows if row.progress.status == "active"]
    known = [row.progress.estimated_finish for row in active if row.progress.estimated_finish]
    paused = sum(row.progress.status == "paused" for row in rows)
    apart = [f"{paused:,} paused"] if paused else []
    if known:
        unknown = len(active) - len(known)
        apart = [*([f"{unknown:,} not known yet"] if unknown else []), *apart]
        latest = max(known)
        left_out = f"; without {' and '.join(apart)}" if apart else ""
        return Finish(f"in {span((latest - now).total_seconds())}", f"{clock(latest)}{left_out}")
    if active:
        return Finish("not known yet", "; ".join(apart))
    if paused:
        return Finish("nothing active", "; ".join(apart))
    return Finish("all completed" if rows else "nothing tracked")


def line(row: Shown, view: View, now: datetime) -> Line:
    """One row of an ``overview``."""
    condition = row.condition
    finish_at = row.progress.estimated_finish
    name, priority = row.progress.repository, row.progress.priority or "normal"
    return Line(
        id=row.progress.backfill_id,
        repository=name,
        kind=condition.kind,
        state=condition.words,
        why=condition.why[:LONGEST_ERROR],
        done=row.progress.processed_prs,
        total=row.progress.total_prs,
        failed=row.progress.failed_prs,
        incomplete=row.progress.incomplete_prs,
        percent=percent(row.progress.processed_prs, row.progress.total_prs),
        failed_percent=percent(row.progress.failed_prs, row.progress.total_prs),
        rate=round(row.progress.prs_per_hour or 0),
        active=row.progress.status == "active",
        finish=span((finish_at - now).total_seconds()) if finish_at else "",
        finish_at=clock(finish_at) if finish_at else "",
        error=(row.progress.last_error or "")[:LONGEST_ERROR],
        error_age=span((now - row.progress.last_error_at).total_seconds()) if row.progress.last_error_at else "",
        actions=tuple(actions.of_backfill(name, row.progress.status, row.progress.failed_prs)) if view.actions else (),
        priority=priority,
        priorities=tuple(actions.priorities(name, priority))
        if view.actions and row.progress.status != "completed"
        else (),
    )


@dataclass(frozen=True, slots=True)
class Points:
    """What is left of GitHub's points, of all identities together. ``but``: when it is full again, or who waits."""

    left: int
    limit: int
    but: str


def points_left(budgets: Budgets) -> Points | None:
    """None before GitHub has told any."""
    told = [
        (each, each.limit, each.remaining)
        for each in budgets.known
        if each.limit is not None and each.remaining is not None
    ]
    if not told:
        return None
    resets = [each.reset_at for each, _, _ in told if each.reset_at]
    waiting = [each.account or each.identity for each, _, _ in told if each.waits_until]
    but = f"; full again at {clock(max(resets))}" if resets else ""
    if len(told) > 1:
        but = f" of {len(told)} identities"
        but += f"; {listed(waiting)} {'waits' if len(waiting) == 1 else 'wait'}" if waiting else ""
    return Points(sum(left for _, _, left in told), sum(limit for _, limit, _ in told), but)


def not_yet(names: Sequence[Requested]) -> str:
    """Names that are accepted and not a backfill yet: the oldest one's reason, and how many more there are."""
    if not names:
        return ""
    more = f" ({len(names) - 1:,} more: backfill status)" if len(names) > 1 else ""
    reason = (names[0].reason or "GitHub has not answered yet")[:LONGEST_ERROR]
    return f"{names[0].repository} is not a backfill yet: {reason}{more}"


def only_first(total: int, tracked: int) -> str:
    """A view holds so many backfills at the most; empty if these are all."""
    if tracked <= total:
        return ""
    shown = counted(total, "backfill")
    return f"The figures are of the first {shown} of {tracked:,}: active ones, then paused ones"


def _is_wanted(row: Shown, view: View) -> bool:
    condition = row.condition
    return view.filter.lower() in row.progress.repository.lower() and view.state in ("", condition.kind)
