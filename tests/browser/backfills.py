"""Backfills in every visible state, as rows, and hostile texts that a page must not execute."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from backfill.store import backfills, chunks, pull_requests, repositories
from backfill.store.connection import Database
from tests.integration.rows import OCTOCAT, REPOSITORY, listed

HOSTILE = [
    '<script>window.stolen = "script"</script>',
    "<img src=x onerror=\"window.stolen = 'img'\">",
    '"><svg onload="window.stolen = 1">',
    "</style><style>.pb{display:none}</style>",
    '</cwdb-action><cwdb-action action="html">gone</cwdb-action>',
    "{{ 7 * 7 }} {% raw %}",
    "'); DROP TABLE repositories; --",
    "\u202ereversed \u0000".replace("\u0000", ""),
]


def track(db: Database, number: int, name: str, *, total: int = 1000, done: int = 0, **columns: Any) -> dict[str, Any]:
    """A backfill of which ``done`` pull requests are stored; ``columns`` of its row are set as they are."""
    owner, _, short = name.partition("/")
    repository = repositories.upsert(
        db, {**REPOSITORY, "node_id": f"R_{number}", "github_id": number, "owner": owner, "name": short}
    )
    backfill = asdict(backfills.add(db, repository.id, total_prs=total, chunk_size=None, metadata={}).backfill)
    db.execute(
        "UPDATE progressive_backfill_state SET current_prs = :done, listed_prs = :total, listing_completed_at = now(),"
        " last_processed_at = now(), created_at = now() - interval '3 hours' WHERE id = CAST(:id AS uuid)",
        done=done,
        total=total,
        id=backfill["id"],
    )
    for column, value in columns.items():
        db.execute(
            f"UPDATE progressive_backfill_state SET {column} = {value} WHERE id = CAST(:id AS uuid)", id=backfill["id"]
        )
    return backfill


def read_lately(db: Database, backfill: dict[str, Any], count: int) -> None:
    """Pull requests whose detail came in the last hour, so that there is a rate and a finish."""
    rows = [{**listed(number), "node_id": f"{backfill['id']}{number}"} for number in range(1, count + 1)]
    pull_requests.store_listed(db, backfill["repository_id"], [OCTOCAT], rows)
    db.execute(
        "UPDATE pull_requests SET detail_updated_at = updated_at, detail_synced_at = now()"
        " WHERE repository_id = CAST(:id AS uuid)",
        id=backfill["repository_id"],
    )


def fail_some(db: Database, backfill: dict[str, Any], count: int) -> None:
    """Pull requests that could not be read."""
    read_lately(db, backfill, count)
    db.execute(
        "UPDATE pull_requests SET detail_failed_at = now(), detail_error = 'boom', detail_error_code = 'x',"
        " detail_updated_at = NULL, detail_synced_at = NULL WHERE repository_id = CAST(:id AS uuid)",
        id=backfill["repository_id"],
    )


def worked_lately(db: Database, backfill: dict[str, Any], hours: int) -> None:
    """So many hours of work before this one: 1,000 pull requests and 60 points in the first, more in each that follows."""
    db.execute(
        "INSERT INTO backfill_hours (backfill_state_id, hour, pull_requests, points)"
        " SELECT CAST(:id AS uuid), date_trunc('hour', now(), 'UTC') - make_interval(hours => CAST(:hours AS integer) - n),"
        " 1000 + 50 * n, 60 + 3 * n FROM generate_series(0, CAST(:hours AS integer) - 1) AS n"
        " ON CONFLICT (backfill_state_id, hour) DO UPDATE SET pull_requests = EXCLUDED.pull_requests",
        id=backfill["id"],
        hours=hours,
    )
    db.execute(
        "INSERT INTO github_hours (identity, hour, requests, server_seconds)"
        " SELECT 'U_1', date_trunc('hour', now(), 'UTC') - make_interval(hours => CAST(:hours AS integer) - n), 400, 1500 + 20 * n"
        " FROM generate_series(0, CAST(:hours AS integer) - 1) AS n",
        hours=hours,
    )


def with_a_history(db: Database) -> dict[str, Any]:
    """octo/history: work of 30 hours, failed and incomplete pull requests, and chunks in every state, some texts hostile."""
    backfill = track(db, 1, "octo/history", total=1000)
    read_lately(db, backfill, 500)
    worked_lately(db, backfill, 30)
    db.execute(
        "UPDATE pull_requests SET detail_failed_at = now(), detail_error = :error, detail_error_code = 'too_large',"
        " detail_updated_at = NULL, detail_synced_at = NULL, url = 'https://github.com/octo/history/pull/' || number WHERE number <= 22",
        error=HOSTILE[1],
    )
    db.execute(
        "UPDATE pull_requests SET url = 'https://github.com/octo/history/pull/' || number, incomplete ="
        """ '[{"place": "files", "code": "files_hidden", "reason": "GitHub shows 3,000 files"}]' WHERE number = 23"""
    )
    ended = (
        "status = 'completed', started_at = now() - interval '9 minutes', completed_at = now() - interval '8 minutes',"
        " attempts = 1",
        "status = 'failed', started_at = now() - interval '7 minutes', failed_at = now(), attempts = 5,"
        f" error_code = 'too_large', error = '{HOSTILE[0]}'",
        "status = 'processing', started_at = now() - interval '1 minute', claim_token = gen_random_uuid(), attempts = 1,"
        " lease_expires_at = now() + interval '5 minutes'",
        "started_at = now() - interval '10 minutes', available_at = now() + interval '10 minutes', error_code = 'deferred', error = 'server time'",
    )
    for number, columns in enumerate(ended):
        chunk = chunks.create(db, backfill["id"], [900 + number])
        db.execute(f"UPDATE backfill_chunks SET {columns} WHERE id = CAST(:id AS uuid)", id=chunk.id)
    db.execute(
        "UPDATE progressive_backfill_state SET last_error = :error, last_error_at = now() - interval '2 minutes',"
        " listing_completed_at = now() - interval '2 hours'",
        error=HOSTILE[2],
    )
    return backfill


def every_state(db: Database) -> dict[str, str]:
    """One backfill per state; repository by code of the state."""
    detailing = track(db, 1, "kubernetes/kubernetes", total=85_214, done=31_877)
    read_lately(db, detailing, 2000)
    worked_lately(db, detailing, 30)
    for number in range(4):
        chunk = chunks.create(db, detailing["id"], [number + 1])
        if number < 3:
            chunks.claim(db, chunk.dispatch, 120)
    db.execute("UPDATE progressive_backfill_state SET current_prs = 31877 WHERE total_prs = 85214")
    track(db, 2, "pytorch/pytorch", total=106_410, done=0, listing_completed_at="NULL", listed_prs=21_300)
    waiting = track(db, 3, "rust-lang/rust", total=98_000, done=97_100)
    chunks.create(db, waiting["id"], [1])
    db.execute(
        "UPDATE backfill_chunks SET available_at = now() + interval '17 minutes', error_code = 'deferred',"
        " error = 'points are at their floor' WHERE backfill_state_id = CAST(:id AS uuid)",
        id=waiting["id"],
    )
    track(
        db,
        4,
        "internal/payments-service-with-a-rather-long-name-that-wraps",
        total=4_120,
        done=512,
        status="'paused', pause_reason = 'bad_credentials', paused_until = now() + interval '40 minutes',"
        " last_error = 'GitHub answered 401, bad credentials', last_error_at = now() - interval '12 minutes'",
    )
    track(
        db,
        5,
        "python/cpython",
        total=60_212,
        done=8_000,
        status="'paused', pause_reason = 'consecutive_errors', paused_until = now() + interval '20 minutes',"
        " last_error = 'cannot reach GitHub: HTTPSConnectionPool(host=''api.github.com'', port=443): Max retries exceeded with"
        " url: /graphql (Caused by ConnectTimeoutError)', last_error_at = now() - interval '3 minutes'",
    )
    lost = track(db, 6, "apache/spark", total=49_000, done=20_000)
    chunk = chunks.create(db, lost["id"], [1])
    chunks.claim(db, chunk.dispatch, 1)
    db.execute(
        "UPDATE backfill_chunks SET lease_expires_at = now() - interval '3 minutes' WHERE id = CAST(:id AS uuid)",
        id=chunk.id,
    )
    track(db, 7, "django/django", total=19_400, done=19_100, progressed_at="now() - interval '5 hours'")
    track(db, 8, "nodejs/node", total=31_000, done=12_000, status="'paused'")
    track(db, 9, "curl/curl", total=9_800, done=9_800, status="'completed'")
    failed = track(db, 10, "golang/go", total=3_000, done=2_988, status="'completed'")
    fail_some(db, failed, 12)
    track(db, 11, "microsoft/vscode", total=58_100, done=100)
    db.execute(
        "INSERT INTO github_budget (identity, points_limit, remaining, reset_at) VALUES ('U_1', 5000, 3127, now() + interval '23 minutes')"
    )
    db.execute("INSERT INTO github_withheld (identity, part, reason) VALUES ('U_1', 'team', 'INSUFFICIENT_SCOPES')")
    return {
        "detailing": "kubernetes/kubernetes",
        "listing": "pytorch/pytorch",
        "waiting for GitHub": "rust-lang/rust",
        "bad credentials": "internal/payments-service-with-a-rather-long-name-that-wraps",
        "consecutive errors": "python/cpython",
        "worker lost": "apache/spark",
        "stalled": "django/django",
        "paused": "nodejs/node",
        "completed": "curl/curl",
        "completed with failures": "golang/go",
        "queued": "microsoft/vscode",
    }
