"""Check completed backfills for changes: a hundred repositories cost one request and one point. Who changed lately is checked
at each heartbeat, the others less often (changes.next_check), within a share of GitHub's points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from backfill import pauses, priority
from backfill.errors import MOST_TEXT, Deferred, Permanent, Retryable
from backfill.github.client import GitHub
from backfill.github.errors import Forbidden, TooLarge, Unexplained
from backfill.github.finding import RepositoryState, States
from backfill.observability import event, problem
from backfill.outcomes import CREDENTIALS_PAUSE_MINUTES, UNAVAILABLE_PAUSE_MINUTES
from backfill.planner import lease, timeline
from backfill.planner.changes import counts_differ, has_moved, moment, next_check
from backfill.planner.lease import Held
from backfill.planner.means import Means, Part
from backfill.planner.refresh import refresh
from backfill.store import backfills, completed, leases, repositories, timelines
from backfill.store.completed import Resting

# Repositories of one request (GitHub takes 100 ids).
CHECKED_AT_ONCE = 100
# Completed backfills that are read from the database at once.
READ_AT_ONCE = 10_000
# After this many failed requests in a row the trouble is GitHub's as a whole. One bad repository among a hundred is found
# after seven.
MOST_REFUSALS = 10


@dataclass(slots=True)
class _Checked:
    """What a run has checked so far. A limit, an error or the end of its share stops its identity, and no more is read from the
    database."""

    reopened: list[str] = field(default_factory=list)
    checked: int = 0
    limits: list[float] = field(default_factory=list)
    is_stopped: bool = False

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Note the limit or the error that ends the block."""
        try:
            yield
        except Deferred as limit:
            self.limits.append(limit.seconds)
            self.is_stopped = True
        except (Retryable, Permanent) as error:
            # GitHub, or the token: the next heartbeat asks again.
            problem("completed backfills could not be checked for changes", error=str(error))
            self.is_stopped = True


def check(means: Means, began: datetime) -> tuple[list[str], Part]:
    """Check every completed backfill that was due when the round began; the ids of those that became active.

    The oldest due come first. Where an identity's share of points does not suffice, the others wait for the next hour.
    """
    done = _Checked()
    while not done.is_stopped and (resting := completed.to_check(means.db, READ_AT_ONCE, began)):
        if not means.has_time_for_check():
            return done.reopened, Part(False, moved=done.checked)
        with done.stopping():
            for reader, its in means.github.by_identity(resting, lambda each: each.owner).items():
                with done.stopping():
                    _check(means, reader, its, done)
    is_done = not done.limits or not completed.to_check(means.db, 1, began)
    return done.reopened, Part(is_done, min(done.limits, default=0.0), done.checked)


def _check(means: Means, reader: GitHub, resting: Sequence[Resting], done: _Checked) -> None:
    """Check what one identity reads."""
    for some, answers in _answers(means, reader, resting):
        again, limit = _bring_up_to_date(means, some, answers)
        done.reopened += again
        if limit is not None:
            raise limit
        done.checked += len(some)
    if not _has_points(means, reader):
        event("checks for changes have used their share of this hour's points", share=means.check_share)
        done.is_stopped = True


def is_current(resting: Resting, now: RepositoryState) -> bool:
    """Whether GitHub has nothing new of a completed repository."""
    if has_moved(moment(now.latest_updated_at), resting.updates_watermark):
        return False
    # GitHub used to count pull requests that it hides, and hides none any more.
    is_explained = resting.unlisted_prs != 0 and now.total_prs == resting.listed_prs
    has_other_total = now.total_prs != resting.total_prs
    return not (
        is_explained or has_other_total or counts_differ(now.total_prs, resting.listed_prs, resting.unlisted_prs)
    )


def _answers(means: Means, reader: GitHub, resting: Sequence[Resting]) -> Iterator[tuple[Sequence[Resting], States]]:
    """GitHub's answer about each, while there is time. A repository that spoils the answer for others is found by dividing
    them, and gets the error."""
    waiting = [resting[start : start + CHECKED_AT_ONCE] for start in range(0, len(resting), CHECKED_AT_ONCE)]
    refusals = 0
    while waiting and means.has_time_for_check() and _has_points(means, reader):
        some = waiting.pop(0)
        try:
            answers = _ask(means, reader, some)
        except (Forbidden, TooLarge, Unexplained) as error:
            refusals += 1
            half = len(some) // 2
            if half:
                waiting = [some[:half], some[half:], *waiting]
            else:
                _note_unchecked(means, some[0], error)
            if refusals == MOST_REFUSALS:
                raise
            continue
        refusals = 0
        yield some, answers


def _has_points(means: Means, reader: GitHub) -> bool:
    """Whether this hour has points left for another request of this identity."""
    return completed.points_left(means.db, reader.identity(), means.check_share) >= 1


def _ask(means: Means, reader: GitHub, some: Sequence[Resting]) -> States:
    """One request, which takes its points from the share."""
    before = reader.spent
    try:
        return reader.check_for_changes([each.node_id for each in some])
    finally:
        completed.note_points(means.db, reader.identity(), (reader.spent - before).points)


def _bring_up_to_date(means: Means, resting: Sequence[Resting], answers: States) -> tuple[list[str], Deferred | None]:
    """Bring completed backfills up to date with GitHub's answers; the ids of those with work again, and the limit that
    interrupted this.

    A few statements for all of them: in most, nothing has changed. A backfill that the time or a limit leaves out is not
    noted as checked, and this round asks again.
    """
    present, checked = _sorted(means, resting, answers)
    asked_at = backfills.now(means.db)
    repositories.refresh(means.db, [now.repository for _, now in present])
    limit: Deferred | None = None
    differing = timelines.differing(means.db, [each.id for each, _ in present], means.timeline)
    for each, _ in present:
        if each.id in differing:
            _turn_timeline(means, each)
    for each, now in present:
        try:
            if is_current(each, now):
                # A repository without pull requests is as old as itself.
                latest = moment(now.latest_updated_at or now.repository["github_created_at"])
                checked[each.id] = next_check(latest, asked_at).total_seconds()
            elif limit is None and _refresh(means, each):
                # It changed lately, or another run had the lease and may have ended without a refresh.
                checked[each.id] = 0.0
        except Deferred as met:
            limit = met
    completed.note_checked(means.db, checked)
    return completed.reopen(means.db, [each.id for each, _ in present]), limit


def _sorted(
    means: Means, resting: Sequence[Resting], answers: States
) -> tuple[list[tuple[Resting, RepositoryState]], dict[str, float]]:
    """The backfills whose repositories GitHub shows, with its answers; and the ids of those that it does not have, which the
    next heartbeat checks again."""
    missing = [each for each in resting if answers[each.node_id] is None]
    if missing:
        again = repositories.note_unavailable(means.db, [each.repository_id for each in missing])
        for each in missing:
            if each.repository_id in again:
                backfills.pause(means.db, each.id, "repository_unavailable", minutes=UNAVAILABLE_PAUSE_MINUTES)
    present = []
    for each in resting:
        now = answers[each.node_id]
        if isinstance(now, Unexplained):
            _note_unchecked(means, each, now)
        elif now is not None:
            present.append((each, now))
    return present, dict.fromkeys((each.id for each in missing), 0.0)


def _take(means: Means, resting: Resting) -> Held | None:
    """A completed backfill under its lease; None if another run has it, or the repository was removed."""
    repository = repositories.get(means.db, resting.repository_id)
    taken = lease.take(means, resting.id)
    if taken is None or repository is None:
        return None
    return Held(means, taken, repository, priority.marks(taken.backfill))


def _turn_timeline(means: Means, resting: Resting) -> None:
    """Turn the reading of timelines on or off. What the time leaves unmarked is left to the planning of the reopened backfill."""
    held = _take(means, resting)
    if held is None:
        return
    try:
        timeline.bring_up_to_date(held)
    finally:
        leases.end(means.db, held.lease, has_progressed=True)


def _refresh(means: Means, resting: Resting) -> bool:
    """List new and changed pull requests of a completed backfill, under its lease; False if that failed or time is short."""
    if not means.has_time_for_check():
        return False
    held = _take(means, resting)
    if held is None:
        return True
    try:
        refresh(held)
    except Deferred:
        raise
    except (Retryable, Permanent) as error:
        _note_unchecked(means, resting, error)
        return False
    finally:
        leases.end(means.db, held.lease, has_progressed=held.pages > 0)
    return True


def _note_unchecked(means: Means, resting: Resting, error: Exception) -> None:
    """One completed repository could not be checked. It keeps the error, and the next round asks again."""
    problem("a completed repository could not be checked for changes", backfill=resting.id, error=str(error))
    text = str(error)[:MOST_TEXT]
    completed.note_unchecked(means.db, resting.id, text)
    if isinstance(error, Forbidden):
        backfills.pause(means.db, resting.id, error.code, minutes=CREDENTIALS_PAUSE_MINUTES, error=text)
        pauses.note_pause(means.db)
