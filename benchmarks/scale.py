"""A million pull requests with twelve million related rows and 10,000 backfills, beside ten thousand and 100.

Every step of a chunk's life, the planner's run with nothing to do, and the views, on both; the times are those of the
database alone. ``large_scans`` asks Postgres for the plan of every statement that was run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import psutil

from backfill import outbox
from backfill.messages import PlanEvent
from backfill.model import Backfill, Chunk, ChunkStatus, Dispatch, Spent
from backfill.outcomes import Completed
from backfill.overview import overview
from backfill.planner.run import Planner
from backfill.store import (
    backfills,
    chunks,
    conclusions,
    dispatches,
    leases,
    levels,
    progress,
    pull_requests,
    recoveries,
)
from backfill.store.connection import Database, Row
from benchmarks import setting
from benchmarks.figures import Figure
from local.memory_queue import MemoryQueues
from local.simulator import Repository, Simulator, generate

SMALL, LARGE = (10_000, 100), (1_000_000, 10_000)
# Times of steps that must not depend on the size. Both contain the noise of a busy machine.
FLAT = 2.0
PLANNER_SECONDS = 1.0
PLANNER_RUN = "planner run with nothing to do"
# The processor time of Postgres, without the waiting that a busy machine adds.
PLANNER_PROCESSOR = "planner run with nothing to do, processor of Postgres"
# It shows up to 1,000 backfills, all of them at the smaller size.
PAGE = "widget and status, all shown"
REPETITIONS = 12
# A table of fewer rows than this is read whole faster than by an index.
SMALL_TABLE_ROWS = 1000

# One repository holds half of all, the others the same number each, as many in both sizes.
_REPOSITORIES = """
    INSERT INTO repositories (node_id, github_id, owner, name, url, is_private, is_fork, is_archived, default_branch,
                              github_created_at)
    SELECT 'R_scale_' || i, i, 'scale', 'r' || i, 'https://github.com/scale/r' || i, false, false, false, 'main', '2020-01-01Z'
    FROM generate_series(1, CAST(:backfills AS integer)) AS i
"""
_CONTRIBUTORS = """
    INSERT INTO contributors (node_id, type, login)
    SELECT 'U_scale_' || i, 'User', 'user' || i FROM generate_series(1, CAST(:pull_requests AS integer) / 100) AS i
"""
_PULL_REQUESTS = """
    INSERT INTO pull_requests (
        repository_id, number, node_id, github_id, url, title, body, state, is_draft, locked, merged, created_at, updated_at,
        additions, deletions, changed_files, author_id, base_ref_name, head_ref_name, is_cross_repository, comments_count,
        reviews_count, commits_count, files_count, detail_synced_at, detail_updated_at)
    SELECT r.id, n, 'PR_scale_' || r.name || '_' || n, n, 'https://github.com/scale/' || r.name || '/pull/' || n,
           'Change ' || n, repeat('why ', 25), 'MERGED', false, false, true, now() - interval '5 years' + n * interval '1 minute',
           now() - interval '1 year', 1, 1, 3, 'U_scale_' || (1 + n % (CAST(:pull_requests AS integer) / 100)), 'main', 'topic',
           false, 4, 2, 3, 3, now() - interval '100 days', now() - interval '1 year'
    FROM repositories AS r
    CROSS JOIN LATERAL generate_series(1, CASE WHEN r.name = 'r1' THEN CAST(:pull_requests AS integer) / 2
        ELSE CAST(:pull_requests AS integer) / 2 / (CAST(:backfills AS integer) - 1) END) AS n
"""
_NUMBERS = "INSERT INTO pull_request_numbers (repository_id, number) SELECT repository_id, number FROM pull_requests"
_CHILDREN = {
    "reviews": """
        INSERT INTO reviews (node_id, repository_id, pull_request_number, state, author_id, url, created_at, updated_at)
        SELECT 'PRR_' || substr(node_id, 10) || '_' || k, repository_id, number, 'APPROVED', author_id, url, created_at, updated_at
        FROM pull_requests CROSS JOIN generate_series(1, 2) AS k
    """,
    "comments": """
        INSERT INTO comments (node_id, kind, repository_id, pull_request_number, body, author_id, url, created_at, updated_at)
        SELECT 'IC_' || substr(node_id, 10) || '_' || k, 'issue_comment', repository_id, number, 'Looks good to me', author_id,
               url, created_at, updated_at
        FROM pull_requests CROSS JOIN generate_series(1, 4) AS k
    """,
    "commits": """
        INSERT INTO commits (repository_id, pull_request_number, oid, position, message_headline, author_id)
        SELECT repository_id, number, md5(node_id || k) || '00000000', k, 'Step', author_id
        FROM pull_requests CROSS JOIN generate_series(1, 3) AS k
    """,
    "files": """
        INSERT INTO files (repository_id, pull_request_number, position, path, change_type, additions, deletions)
        SELECT repository_id, number, k - 1, 'src/dir/file' || k || '.c', 'MODIFIED', 1, 1
        FROM pull_requests CROSS JOIN generate_series(1, 3) AS k
    """,
}
_BACKFILLS = """
    INSERT INTO progressive_backfill_state (
        repository_id, total_prs, listed_prs, current_prs, processed_prs, status, listing_started_at, listing_completed_at,
        updates_watermark, examined_at, created_at, next_chunk_number, last_processed_at)
    SELECT repository_id, count(*), count(*), count(*), count(*), 'completed', now() - interval '99 days', now() - interval '99 days',
           now(), now(), now() - interval '100 days', 1 + count(*) / 10, now() - interval '98 days'
    FROM pull_requests GROUP BY repository_id
"""
# The chunks of a week, which recovery has not cleaned up yet.
_CHUNKS = """
    INSERT INTO backfill_chunks (backfill_state_id, repository_id, chunk_number, pr_numbers, status, sent_at, started_at,
                                 completed_at, attempts, available_at, created_at)
    SELECT s.id, s.repository_id, k, ARRAY[k], 'completed', now() - interval '6 days', now() - interval '6 days',
           now() - interval '6 days', 1, now() - interval '6 days', now() - interval '6 days'
    FROM progressive_backfill_state AS s CROSS JOIN LATERAL generate_series(1, s.next_chunk_number - 1) AS k
"""


class RecordingDatabase(Database):
    """A Database that adds up the seconds of waiting for it, and remembers the statements with one set of parameters each.

    The time that this process takes to parse rows is Python's, not the database's.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        super().__init__(url)
        self.seconds = 0.0
        self.statements: dict[str, Mapping[str, Any]] = {}

    def pipeline(self, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[Row]]:
        """As Database does."""
        self.statements.update(statements)
        with self._timed():
            return super().pipeline(statements)

    def execute(self, sql: str, **parameters: Any) -> int:
        """As Database does."""
        self.statements[sql] = parameters
        with self._timed():
            return super().execute(sql, **parameters)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter() - time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - time.thread_time() - begin


def measure() -> list[Figure]:
    """Seconds of the database at both sizes, their ratios, and sequential scans of large tables at the large one."""
    with setting.postgres() as server:
        for parameter in ("max_wal_size = '8GB'", "maintenance_work_mem = '512MB'", "autovacuum = off"):
            server.run(f"ALTER SYSTEM SET {parameter}")
        server.run("SELECT pg_reload_conf()")
        spent: list[dict[str, float]] = []
        scans: dict[str, list[str]] = {}
        figures = []
        for name, (count, of_backfills) in {"small": SMALL, "large": LARGE}.items():
            server.run(f"CREATE DATABASE {name} TEMPLATE migrated")
            begin = time.perf_counter()
            load(server.url(name), count, of_backfills)
            figures.append(Figure("scale", f"loading {count:,} pull requests", time.perf_counter() - begin, "s"))
            with closing(RecordingDatabase(partial(server.url, name))) as db:
                spent.append(operate(db, setting.pull_requests_at_hand()[0]))
                scans = large_scans(db)
    small, large = spent
    figures.append(Figure("scale", "sequential scans of large tables", len(scans), "statements", 0))
    for name in large:
        figures.append(Figure("scale", f"{name}, 10,000 pull requests", small[name] * 1000, "ms"))
        target = PLANNER_SECONDS * 1000 if name == PLANNER_PROCESSOR else None
        figures.append(Figure("scale", f"{name}, 1,000,000 pull requests", large[name] * 1000, "ms", target))
        # A planner's run checks every completed backfill, which are all due, and the page shows more: they have more to do.
        if name not in (PLANNER_RUN, PLANNER_PROCESSOR, PAGE):
            figures.append(Figure("scale", f"{name}, 1,000,000 / 10,000", large[name] / small[name], "×", FLAT))
    return figures


def load(url: str, count: int, of_backfills: int) -> None:
    """Fill a migrated database with triggers and foreign keys off, and write the values that they would keep."""

    def run(*statements: str) -> None:
        with closing(Database(lambda: url)) as db:
            db.execute("SET session_replication_role = replica")
            for statement in statements:
                wanted = {"pull_requests": count, "backfills": of_backfills}
                db.execute(statement, **{name: value for name, value in wanted.items() if f":{name}" in statement})

    run(_REPOSITORIES, _CONTRIBUTORS, _PULL_REQUESTS)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda statements: run(*statements),
                [(_CHILDREN["reviews"], _CHILDREN["comments"]), (_CHILDREN["commits"], _CHILDREN["files"], _NUMBERS)],
            )
        )
    run(_BACKFILLS, _CHUNKS, "ANALYZE")


def operate(db: RecordingDatabase, real: Repository, *, repetitions: int = REPETITIONS) -> dict[str, float]:
    """Seconds of the database per step of a chunk's life, per planner run and per look at the progress (medians).

    The chunks are those of ``real``, a repository that is not there yet.
    """
    with Simulator([real, *_at_rest(db)], speed=setting.SPEED) as simulator:
        github = setting.client(simulator, db)
        planner = Planner(db, github, MemoryQueues(), lambda: 600.0)
        backend = psutil.Process((db.one("SELECT pg_backend_pid() AS pid") or {})["pid"])
        before = sum(backend.cpu_times()[:2])
        spent = {PLANNER_RUN: _seconds(db, lambda: _nothing_to_do(planner))}
        spent[PLANNER_PROCESSOR] = sum(backend.cpu_times()[:2]) - before
        repository_id = setting.listed(db, github, real)
        details = setting.details(db, github, real, repository_id, size=25, chunks=repetitions)
    steps: dict[str, list[float]] = {}
    backfill, large = backfills.of_repository(db, repository_id), _undetailed(db, 1000)
    if backfill is None:
        raise LookupError("the backfill of the real pull requests is not there")
    # The page of all backfills reads each of them, to sort and to count: 10,000 rows, and none of a larger table whole.
    # An index in its order would change with every chunk. large_scans is not asked about it.
    with closing(RecordingDatabase(db._url)) as page:
        shown = len(overview(page, MemoryQueues()).backfills)
        spent[PAGE] = statistics.median(_seconds(page, lambda: overview(page, MemoryQueues())) for _ in range(3))
        spent["widget and status, per backfill shown"] = spent[PAGE] / shown
        scanned = {table for tables in large_scans(page).values() for table in tables}
        if scanned - {"progressive_backfill_state"}:
            raise AssertionError(f"the page reads more than the backfills from end to end: {scanned}")
    for tables in details:
        for name, step in _chunk_life(db, backfill, large, tables):
            steps.setdefault(name, []).append(_seconds(db, step))
    steps["heartbeat's levels"] = [_seconds(db, lambda: levels.read(db)) for _ in range(3)]
    steps["recovery with nothing to do"] = [_seconds(db, lambda: _recover(db)) for _ in range(3)]
    # As the next heartbeat finds them: large_scans must see the check of every backfill.
    _aside(
        db, "UPDATE progressive_backfill_state SET next_check_at = now() - interval '1 hour' WHERE status = 'completed'"
    )
    _aside(db, "ANALYZE")
    return spent | {name: statistics.median(seconds) for name, seconds in steps.items()}


def large_scans(db: RecordingDatabase) -> dict[str, list[str]]:
    """The statements that were run and whose plan reads a whole large table, with those tables."""
    sizes = {
        row["relname"]: row["reltuples"]
        for row in db.rows(
            "SELECT relname, reltuples FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
    }
    found: dict[str, list[str]] = {}
    for sql, parameters in list(db.statements.items()):
        if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            plan = db.rows(f"EXPLAIN (FORMAT JSON) {sql}", **parameters)[0]["QUERY PLAN"]
            scanned = [each for each in _scanned(plan[0]["Plan"]) if sizes.get(each, 0) > SMALL_TABLE_ROWS]
            if scanned:
                found[sql] = scanned
    return found


def _scanned(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from _scanned(below)


def _seconds(db: RecordingDatabase, step: Callable[[], object]) -> float:
    before = db.seconds
    step()
    return db.seconds - before


def _aside(db: Database, sql: str, **parameters: Any) -> list[Row]:
    """Run a statement that belongs to the measurement, not to the product."""
    with closing(Database(db._url)) as other:
        return other.rows(sql, **parameters)


def _at_rest(db: Database) -> list[Repository]:
    """The loaded repositories as GitHub has them, unchanged since: one and the same pull request, as often as it takes."""
    (sample,) = generate(2, {"scale/sample": 1})
    ((first, pull_request),) = sample.pull_requests.items()
    rows = _aside(
        db,
        "SELECT r.node_id, r.github_id, r.name, s.total_prs FROM repositories AS r"
        " JOIN progressive_backfill_state AS s ON s.repository_id = r.id",
    )
    return [
        Repository(
            {
                **sample.node,
                "id": row["node_id"],
                "databaseId": row["github_id"],
                "nameWithOwner": f"scale/{row['name']}",
                "name": row["name"],
                "url": f"https://github.com/scale/{row['name']}",
                "createdAt": "2020-01-01T00:00:00Z",
            },
            dict.fromkeys(range(first, first + row["total_prs"]), pull_request),
        )
        for row in rows
    ]


def _undetailed(db: Database, count: int) -> Backfill:
    """Make the newest of the largest repository new again; its backfill, active."""
    _aside(
        db,
        "UPDATE pull_requests SET detail_synced_at = NULL, detail_updated_at = NULL"
        " WHERE repository_id = (SELECT id FROM repositories WHERE node_id = 'R_scale_1')"
        " AND number > (SELECT s.total_prs - CAST(:count AS integer) FROM progressive_backfill_state AS s"
        " JOIN repositories AS r ON r.id = s.repository_id WHERE r.node_id = 'R_scale_1')",
        count=count,
    )
    (backfill,) = _aside(
        db,
        "UPDATE progressive_backfill_state SET status = 'active'"
        " WHERE repository_id = (SELECT id FROM repositories WHERE node_id = 'R_scale_1') RETURNING *",
    )
    return Backfill.from_row(backfill)


def _nothing_to_do(planner: Planner) -> None:
    report = planner.plan(PlanEvent())
    if report.backfills or report.reopened:
        raise AssertionError(f"the planner found something to do: {str(report)[:500]}")


def _chunk_life(
    db: Database, backfill: Backfill, large: Backfill, tables: Mapping[str, Sequence[Row]]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The steps of one chunk in their order; each is made when the one before it has been run."""
    numbers = [row["number"] for row in tables["pull_requests"]]
    yield "planner: what is left to detail", lambda: pull_requests.to_detail(db, large, 275, oldest_first=False)
    yield "planner: cutting one chunk", lambda: chunks.create(db, backfill.id, numbers)
    yield "outbox", lambda: outbox.send(db, MemoryQueues(), backfill_id=backfill.id)
    row = _aside(
        db,
        "SELECT id, dispatch_id FROM backfill_chunks WHERE backfill_state_id = CAST(:id AS uuid) AND status = 'pending'",
        id=backfill.id,
    )[0]
    yield "claim", lambda: chunks.claim(db, Dispatch(row["id"], row["dispatch_id"]), 150.0)
    claimed = chunks.get(db, row["id"])
    if claimed is None or claimed.status is not ChunkStatus.PROCESSING:
        raise AssertionError("the chunk was not claimed")
    yield "completion", lambda: _complete(db, claimed, tables)
    yield "progress of one backfill", lambda: progress.rows(db, large.repository_id, 1)


def _complete(db: Database, chunk: Chunk, tables: Mapping[str, Sequence[Row]]) -> None:
    with db.transaction():
        chunks.fence(db, chunk)
        stored = pull_requests.store_details(db, chunk.repository_id, tables)
        conclusions.conclude(db, chunk, Completed(), Spent(2, 1))
    if len(stored) != len(tables["pull_requests"]):
        raise AssertionError("not everything was stored")


def _recover(db: Database) -> None:
    recoveries.requeue_expired(db, 30, 1000)
    recoveries.requeue_lost(db, 30, 1000, queue_is_empty=False)
    dispatches.to_send(db, limit=1000)
    recoveries.clean_up(db, 7, 1000)
    leases.due(db, 200, backfills.now(db))
    backfills.resume_due(db)
