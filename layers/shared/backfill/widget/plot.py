"""Bars of what was done in each hour or day: geometry for an SVG, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from backfill.store.activity import Worked

Unit = Literal["hour", "day"]
# How many bars there are at the most, and at the least.
MOST_BARS: dict[Unit, int] = {"hour": 48, "day": 30}
LEAST_BARS: dict[Unit, int] = {"hour": 12, "day": 7}
LENGTH: dict[Unit, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
# The drawing, in the units of its viewBox.
WIDTH, HEIGHT = 480.0, 80.0
# Of a bar's place, what stays empty.
GAP = 0.2


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour or day; ``words`` is what a pointer that rests on it shows."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Plot:
    """``alternative`` says in a sentence what the bars show."""

    title: str
    bars: tuple[Bar, ...]
    most: str
    alternative: str


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots that share their time, from ``begin`` to ``end``; ``rows`` are the numbers of times with work, newest first."""

    unit: Unit
    plots: tuple[Plot, ...]
    begin: str
    end: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Measure:
    """What a plot shows: its value of a time, and how a value reads. ``scale``: the top is never below this value."""

    title: str
    value: Callable[[Worked], float]
    reads: Callable[[float], str]
    scale: float = 0.0


def begin_of(unit: Unit, now: datetime) -> datetime:
    """When the first bar begins, if there was work all the time."""
    return _floor(unit, now) - (MOST_BARS[unit] - 1) * LENGTH[unit]


def plots(worked: Sequence[Worked], unit: Unit, now: datetime) -> Plots:
    """Plots of what was ``worked`` by this ``unit``: of all backfills with GitHub's time, of one with its chunks."""
    by_time = {each.at: each for each in worked}
    last = _floor(unit, now)
    first = min([each.at for each in worked], default=last)
    bars = min(MOST_BARS[unit], max(LEAST_BARS[unit], (last - first) // LENGTH[unit] + 1))
    times = [last - back * LENGTH[unit] for back in range(bars - 1, -1, -1)]
    measures = _measures(unit, of_all=all(each.server_seconds is not None for each in worked))
    return Plots(
        unit=unit,
        plots=tuple(_plot(measure, times, by_time, unit) for measure in measures),
        begin=_label(times[0], unit),
        end=f"now, {now.astimezone(UTC):%H:%M} UTC",
        headings=(f"{unit.capitalize()} that begins at (UTC)", *(each.title for each in measures)),
        rows=tuple(
            (_label(at, unit), *(each.reads(each.value(by_time[at])) for each in measures))
            for at in reversed(times)
            if at in by_time
        ),
    )


def _measures(unit: Unit, *, of_all: bool) -> tuple[_Measure, ...]:
    both = (
        _Measure(f"Pull requests per {unit}", lambda each: each.pull_requests, lambda value: f"{value:,.0f}"),
        _Measure(f"Points per {unit}", lambda each: each.points, lambda value: f"{value:,.0f}"),
    )
    if not of_all:
        return (*both, _Measure(f"Chunks per {unit}", lambda each: each.chunks, lambda value: f"{value:,.0f}"))
    # GitHub gives an identity 60 seconds of server time a minute: the whole hour, or the whole day.
    if unit == "hour":
        server = _Measure("Server minutes per hour", _server_seconds, lambda value: f"{value / 60:.1f}", 3600)
    else:
        server = _Measure("Server hours per day", _server_seconds, lambda value: f"{value / 3600:.1f}", 86400)
    return (*both, server)


def _server_seconds(each: Worked) -> float:
    return each.server_seconds or 0.0


def _plot(measure: _Measure, times: Sequence[datetime], by_time: dict[datetime, Worked], unit: Unit) -> Plot:
    values = [measure.value(by_time[at]) if at in by_time else 0.0 for at in times]
    most = max(values)
    top = max(most, measure.scale)
    place = WIDTH / len(times)
    bars = tuple(
        Bar(
            x=round(index * place, 2),
            y=round(HEIGHT - HEIGHT * value / top, 2),
            width=round(place * (1 - GAP), 2),
            height=round(HEIGHT * value / top, 2),
            words=f"{_label(at, unit)}: {measure.reads(value)}",
        )
        for index, (at, value) in enumerate(zip(times, values, strict=True))
        if value > 0
    )
    alternative = (
        f"{measure.title} since {_label(times[0], unit)} UTC: {measure.reads(sum(values))} in all, "
        f"{measure.reads(most)} at the most. The numbers are in the table below."
    )
    return Plot(measure.title, bars, measure.reads(top), alternative)


def _floor(unit: Unit, moment: datetime) -> datetime:
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if unit == "hour" else hour.replace(hour=0)


def _label(at: datetime, unit: Unit) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if unit == "hour" else f"{at.astimezone(UTC):%Y-%m-%d}"
