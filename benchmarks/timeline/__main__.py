"""One chunk of 25 pull requests at GitHub's own speed, with Postgres 1 ms away: its spans, as an SVG."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from backfill import outbox
from backfill.chunk_worker.worker import Worker
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.replies import Reply
from backfill.github.transport import Transport
from backfill.messages import chunk_message
from backfill.observability import logger
from backfill.store import backfills, chunks
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database, Row
from benchmarks import setting
from local.memory_queue import MemoryQueues
from local.simulator import Simulator
from local.wire import Wire

ROUND_TRIP_SECONDS = 0.001
WIDTH, LEFT, BAR, GAP = 900, 90, 18, 8
COLOURS = {"GitHub": "#8250df", "Postgres": "#1a7f37"}


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds since the message arrived."""

    lane: str
    begin: float
    end: float


class _Spans:
    def __init__(self) -> None:
        self.zero = time.perf_counter()
        self.found: list[Span] = []

    @contextmanager
    def of(self, lane: str) -> Iterator[None]:
        begin = time.perf_counter() - self.zero
        try:
            yield
        finally:
            self.found.append(Span(lane, begin, time.perf_counter() - self.zero))


class _Database(Database):
    spans: _Spans | None = None

    def pipeline(self, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[Row]]:
        if self.spans is None:
            return super().pipeline(statements)
        with self.spans.of("Postgres"):
            return super().pipeline(statements)

    def execute(self, sql: str, **parameters: Any) -> int:
        if self.spans is None:
            return super().execute(sql, **parameters)
        with self.spans.of("Postgres"):
            return super().execute(sql, **parameters)


class _Transport(Transport):
    spans: _Spans | None = None

    def query(self, token: str, document: str, variables: Mapping[str, Any], seconds: float) -> Reply:
        if self.spans is None:
            return super().query(token, document, variables, seconds)
        with self.spans.of("GitHub"):
            return super().query(token, document, variables, seconds)


def main() -> int:
    """Write the picture and print the sums."""
    if len(sys.argv) != 2:
        print("usage: python -m benchmarks.timeline FILE.svg", file=sys.stderr)
        return 2
    logger.setLevel("ERROR")
    repository = setting.pull_requests_at_hand()[0]
    with setting.postgres() as server, Simulator([repository], speed=1) as simulator:
        server.run("CREATE DATABASE timeline TEMPLATE migrated")
        with (
            Wire(server.url("timeline"), ROUND_TRIP_SECONDS) as wire,
            closing(_Database(lambda: wire.url)) as db,
        ):
            transport, queues = _Transport(simulator.url), MemoryQueues()
            credentials = Credentials(transport, lambda _: {"token": "ghp_benchmark"})
            github = GitHub(transport, credentials, Governor(PostgresBudget(db)))
            backfill = backfills.of_repository(db, setting.listed(db, github, repository))
            if backfill is None:
                raise LookupError("nothing was listed")
            worker = Worker(db, github, queues, lambda: 600.0)
            newest = sorted(repository.pull_requests, reverse=True)
            # The first chunk opens connections and fills the caches of a warm container.
            for start in (0, 25):
                chunks.create(db, backfill.id, newest[start : start + 25])
                outbox.send(db, queues)
                time.sleep(3)
                spans = _Spans()
                db.spans = transport.spans = spans
                body = queues.chunks.pop()
                outcome = worker.handle(chunk_message(body), body)
                end = time.perf_counter() - spans.zero
                db.spans = transport.spans = None
                if outcome != "completed":
                    raise AssertionError(f"the chunk was {outcome}")
    Path(sys.argv[1]).write_text(_drawn(spans.found, end), encoding="utf-8")
    sums = {lane: sum(each.end - each.begin for each in spans.found if each.lane == lane) for lane in COLOURS}
    count = {lane: sum(each.lane == lane for each in spans.found) for lane in COLOURS}
    print(", ".join(f"{lane}: {sums[lane] * 1000:.0f} ms in {count[lane]} spans" for lane in COLOURS), end="; ")
    print(f"Python and the rest: {(end - sum(sums.values())) * 1000:.0f} ms; in all {end * 1000:.0f} ms")
    return 0


def _drawn(spans: Sequence[Span], end: float) -> str:
    """The whole chunk, and its last part (after GitHub's last reply) enlarged."""
    stored_from = max(each.end for each in spans if each.lane == "GitHub")
    height = 2 * (30 + len(COLOURS) * (BAR + GAP)) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_panel(spans, 0.0, end, 20, f"one chunk of 25 pull requests: {end * 1000:.0f} ms"),
        *_panel(
            spans,
            stored_from,
            end,
            height // 2 + 10,
            f"storing, enlarged: the last {(end - stored_from) * 1000:.0f} ms",
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(spans: Sequence[Span], begin: float, end: float, top: int, title: str) -> Iterator[str]:
    scale = (WIDTH - LEFT - 20) / (end - begin)
    yield f'<text x="{LEFT}" y="{top}" font-weight="bold">{escape(title)}</text>'
    for row, (lane, colour) in enumerate(COLOURS.items()):
        y = top + 10 + row * (BAR + GAP)
        yield f'<text x="10" y="{y + BAR - 5}">{lane}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 20}" height="{BAR}" fill="#f6f8fa"/>'
        for each in spans:
            if each.lane == lane and each.end > begin:
                x = LEFT + (max(each.begin, begin) - begin) * scale
                width = max(1.0, (each.end - max(each.begin, begin)) * scale)
                yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
    y = top + 12 + len(COLOURS) * (BAR + GAP) + 8
    for step in range(5):
        moment = begin + (end - begin) * step / 4
        yield f'<text x="{LEFT + (moment - begin) * scale:.0f}" y="{y}" fill="#57606a" text-anchor="middle">{moment * 1000:.0f} ms</text>'


if __name__ == "__main__":
    sys.exit(main())
