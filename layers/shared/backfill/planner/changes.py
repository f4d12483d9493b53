"""What GitHub's times and counts say about changes. Decisions on plain values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from backfill.model import Backfill

# Paging by UPDATED_AT loses a pull request that changes during the refresh: read this much further back than the watermark.
OVERLAP = timedelta(minutes=10)
# GitHub counts pull requests that it does not show, of blocked accounts. While their number grows, the whole listing is
# repeated no more often than this.
HIDDEN_LISTING_EVERY = timedelta(days=1)
# GitHub's times are whole seconds: in the last minute another change may still get a time that is known already.
SETTLING = timedelta(seconds=60)
# How long after a check the next one is due, while GitHub has had nothing new for less than so long; after that RESTING. Three
# times a day: no check is later than a day after the change, with room for a share of points that does not suffice.
CHECKS = ((timedelta(days=7), timedelta()), (timedelta(days=28), timedelta(hours=4)))
RESTING = timedelta(hours=8)


def has_moved(latest: datetime | None, watermark: datetime | None) -> bool:
    """Whether GitHub's newest change is not known yet."""
    return latest is not None and (watermark is None or latest > watermark)


def is_far_enough(seen: Iterable[datetime | None], watermark: datetime | None) -> bool:
    """Whether a page reaches further back than the watermark, by the overlap."""
    oldest = min((each for each in seen if each is not None), default=None)
    return watermark is not None and oldest is not None and oldest < watermark - OVERLAP


def counts_differ(counted: int, listed: int, unlisted: int) -> bool:
    """Whether GitHub's count differs from the listing by more than the pull requests that it is known to hide."""
    return counted - listed not in (0, unlisted)


def is_more_hidden(backfill: Backfill, now: datetime) -> bool:
    """Whether GitHub only counts more pull requests that it hides, and a recent whole listing has confirmed that it hides some.

    New and changed pull requests show in the refresh. A vanished one makes the count smaller.
    """
    difference = backfill.total_prs - backfill.listed_prs
    begun = backfill.listing_started_at
    return difference > backfill.unlisted_prs > 0 and begun is not None and now - begun < HIDDEN_LISTING_EVERY


def next_check(latest: datetime | None, now: datetime) -> timedelta:
    """How long after a check of a repository the next one is due, by GitHub's newest change; zero: at the next heartbeat."""
    rested = timedelta.max if latest is None else now - latest
    return next((every for limit, every in CHECKS if rested < limit), RESTING)


def known_until(latest: datetime | None, now: datetime) -> datetime | None:
    """The time until which every change is known, if GitHub's newest change is ``latest``.

    A date in the future is of a clock that was set wrong: changes from now on are older than it.
    """
    if latest is None or latest <= now - SETTLING:
        return latest
    return min(latest, now.replace(microsecond=0)) - timedelta(seconds=1)


def moment(text: str | None) -> datetime | None:
    """A time of GitHub's."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
