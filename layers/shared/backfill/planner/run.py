"""A planner run: the heartbeat with its round over all backfills, or one backfill by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from backfill import brake, dead_letters, outbox, tracking
from backfill.errors import ContractViolation
from backfill.messages import PlanEvent
from backfill.model import Backfill
from backfill.observability import event, note_levels
from backfill.planner import completed, names, organisations, turn
from backfill.planner.means import Margins, Means, Part
from backfill.planner.turn import Planned
from backfill.store import backfills, leases, levels, removals, rounds
from backfill.store.completed import read_again

# Backfills of one run. The next run takes the rest, and begins with the longest unplanned.
MOST_BACKFILLS = 200
# Stalled backfills that a run wakes, and for how long one that was planned is not stalled.
MOST_WOKEN = 10
REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did: pauses that ended, dead letters whose work was taken back, completed backfills with work again."""

    resumed: int
    dead_letters: int
    reopened: int
    backfills: Sequence[Planned]

    def as_json(self) -> dict[str, Any]:
        """The handler's answer."""
        return {
            "dry_run": False,
            "resumed": self.resumed,
            "dead_letters": self.dead_letters,
            "reopened": self.reopened,
            "backfills": [each.as_json() for each in self.backfills],
        }


@dataclass(frozen=True, slots=True)
class Planner(Means):
    """The use case of the planner function."""

    def plan(self, request: PlanEvent) -> Report:
        """One run."""
        means = replace(self, margins=Margins.of(self.seconds_left()))
        resumed = len(backfills.resume_due(means.db))
        taken = _begin_heartbeat(means) if request == PlanEvent() and not request.is_message else 0
        again = 0
        if request == PlanEvent():
            # Before anything can go wrong.
            again = read_again(means.db)
            note_levels(levels.read(means.db))
        if request.repository_id or request.repository:
            planned = [turn.plan(means, backfill, request) for backfill in _named(means, request)]
            _wake(means)
            return Report(resumed, taken, again, planned)
        began = rounds.go_on(means.db) if request.is_message else rounds.begin(means.db)
        named = names.resolve(means)
        followed = organisations.follow(means, began)
        reopened, checked = completed.check(means, began)
        planned, done = _round(means, request, began)
        _follow_up(means, (named, followed, checked, done))
        return Report(resumed, taken, again + len(reopened), planned)


def _begin_heartbeat(means: Means) -> int:
    """Take back the work of dead letters, so that it continues at the first heartbeat after an outage; how many."""
    if means.queues.dead_letters_waiting() == 0:
        return 0
    taken = dead_letters.take_back(means.db, means.queues, means.has_time_for_page)
    if taken.matched:
        outbox.send(means.db, means.queues)
    return taken.matched


def _named(means: Means, request: PlanEvent) -> list[Backfill]:
    """The backfill of a request; none if its repository was removed, because a message outlives its repository."""
    try:
        return [tracking.of_event(means.db, request)]
    except ContractViolation:
        name = request.repository
        if request.is_message and (request.repository_id or (name and removals.was_removed(means.db, name))):
            event("a plan request is of a repository that was removed", repository=name or request.repository_id)
            return []
        raise


def _round(means: Means, request: PlanEvent, began: datetime) -> tuple[list[Planned], Part]:
    """Plan the active backfills that this round has not planned, the longest unplanned first.

    A limit of GitHub is the same for all backfills of its identity: they wait, and the others are planned.
    """
    waiting = leases.due(means.db, MOST_BACKFILLS + 1, began)
    planned: list[Planned] = []
    limits: dict[str | None, float] = {}
    for owner, backfill in waiting[:MOST_BACKFILLS]:
        if not means.has_time_for_page():
            break
        if limits and means.identity(owner) in limits:
            continue
        planned.append(turn.plan(means, backfill, request))
        limit = planned[-1].limit
        if limit is not None:
            limits[means.identity(owner)] = limit.seconds
    is_done = len(planned) == len(waiting)
    return planned, Part(is_done, min(limits.values(), default=0.0), len(planned) - len(limits))


def _follow_up(means: Means, parts: Sequence[Part]) -> None:
    """Send the message that continues the round, unless it is done or such a message is on its way."""
    if all(part.is_done for part in parts):
        rounds.end(means.db)
        return
    run = rounds.count_run(means.db, has_progressed=any(part.moved for part in parts))
    if not run.is_sent:
        delay = follow_up_seconds(parts, run.idle_runs)
        means.queues.request_plan(None, delay)
        rounds.note_sent(means.db, delay)


def follow_up_seconds(parts: Sequence[Part], idle_runs: int) -> float:
    """The delay of the message that continues the round: the longest wait of its parts, or the brake's."""
    wait = max(part.wait_seconds for part in parts)
    return min(max(wait, brake.delay_seconds(idle_runs)), brake.LONGEST_SECONDS)


def _wake(means: Means) -> None:
    """Request planning for backfills that no message moves: resumed by SQL, or their plan request was lost."""
    for backfill in leases.stalled(means.db, MOST_WOKEN, REST_SECONDS):
        outbox.request_plan(means.db, means.queues, backfill, brake.SHORTEST_SECONDS)
