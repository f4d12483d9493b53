"""Storing pull requests: exact progress, never backwards, children replaced, gaps reported."""

from __future__ import annotations

from backfill.model import Backfill
from backfill.store import pull_requests
from backfill.store.connection import Database
from tests.integration.rows import OCTOCAT, backfill_of, comment, details, listed


def progress(db: Database) -> tuple[int, int]:
    row = db.one("SELECT processed_prs, listed_prs FROM progressive_backfill_state")
    assert row is not None
    return row["processed_prs"], row["listed_prs"]


def test_progress_counts_current_details_and_nothing_else(db: Database) -> None:
    repository_id = backfill_of(db, 1, 2, 3)["repository_id"]
    assert progress(db) == (0, 3)
    assert pull_requests.store_details(db, repository_id, details(1, 2)) == [1, 2]
    assert progress(db) == (2, 3)
    pull_requests.store_details(db, repository_id, details(1, 2))
    assert progress(db) == (2, 3)
    pull_requests.store_listed(db, repository_id, [OCTOCAT], [listed(1, "2024-06-01T00:00:00Z")])
    assert progress(db) == (1, 3)
    pull_requests.mark_gone(db, repository_id, [2])
    assert progress(db) == (0, 2)


def test_processed_never_exceeds_githubs_total(db: Database) -> None:
    repository_id = backfill_of(db, 1, 2)["repository_id"]
    pull_requests.store_details(db, repository_id, details(1, 2))
    db.execute("UPDATE progressive_backfill_state SET total_prs = 1")
    assert progress(db) == (1, 2)
    db.execute("UPDATE progressive_backfill_state SET processed_prs = 99")
    assert progress(db) == (1, 2)


def test_older_data_does_not_replace_newer(db: Database) -> None:
    repository_id = backfill_of(db, 1)["repository_id"]
    pull_requests.store_details(db, repository_id, details(1, updated_at="2024-06-01T00:00:00Z"))
    assert pull_requests.store_details(db, repository_id, details(1, updated_at="2024-03-01T00:00:00Z")) == []
    pull_requests.store_listed(db, repository_id, [OCTOCAT], [listed(1, "2024-02-01T00:00:00Z", title="Old")])
    row = db.one("SELECT title, detail_updated_at = updated_at AS current FROM pull_requests")
    assert row == {"title": "Change 1", "current": True}


def test_a_stored_date_in_the_future_does_not_outrank_github_s_present_answer(db: Database) -> None:
    repository_id = backfill_of(db, 1, 2)["repository_id"]
    pull_requests.store_listed(db, repository_id, [OCTOCAT], [listed(n, "2999-01-01T00:00:00Z") for n in (1, 2)])
    assert pull_requests.store_details(db, repository_id, details(1, updated_at="2999-01-01T00:00:00Z")) == [1]
    assert progress(db) == (1, 2)
    now = (db.one("SELECT to_char(now() + interval '1 minute', 'YYYY-MM-DD\"T\"HH24:MI:SSOF:00') AS now") or {})["now"]
    pull_requests.store_listed(db, repository_id, [OCTOCAT], [listed(1, now, title="Right")])
    assert db.rows("SELECT number, title, detail_updated_at FROM pull_requests WHERE number = 1") == [
        {"number": 1, "title": "Right", "detail_updated_at": None}
    ]
    assert progress(db) == (0, 2), "its detail is read again"
    assert pull_requests.store_details(db, repository_id, details(2, updated_at=now)) == [2]
    assert progress(db) == (1, 2)


def test_children_that_github_no_longer_has_are_removed_and_only_those(db: Database) -> None:
    repository_id = backfill_of(db, 1, 2)["repository_id"]
    pull_requests.store_details(db, repository_id, details(1, 2))
    again = details(1)
    again["comments"] = [comment(1, "IC_new")]
    again["files"] = []
    pull_requests.store_details(db, repository_id, again)
    assert [row["node_id"] for row in db.rows("SELECT node_id FROM comments ORDER BY node_id")] == ["IC_2", "IC_new"]
    assert [row["pull_request_number"] for row in db.rows("SELECT pull_request_number FROM files")] == [2]


def test_storing_the_same_again_writes_no_child_row(db: Database) -> None:
    repository_id = backfill_of(db, 1)["repository_id"]
    pull_requests.store_details(db, repository_id, details(1))
    before = db.rows("SELECT xmin::text AS version FROM comments UNION ALL SELECT xmin::text FROM commits")
    pull_requests.store_details(db, repository_id, details(1))
    assert db.rows("SELECT xmin::text AS version FROM comments UNION ALL SELECT xmin::text FROM commits") == before


def test_gaps_tell_what_is_missing_and_why(db: Database) -> None:
    repository_id = backfill_of(db, 1, 2, 4)["repository_id"]
    pull_requests.store_details(db, repository_id, details(1, 2))
    pull_requests.record_failed(db, repository_id, {4: ("too_large", "GitHub times out")})
    db.execute("DELETE FROM pull_requests WHERE number = 1")
    gaps = db.rows("SELECT number, reason, error FROM pull_request_gaps ORDER BY number")
    assert gaps == [
        {"number": 1, "reason": "row missing", "error": None},
        {"number": 4, "reason": "failed", "error": "GitHub times out"},
    ]
    assert progress(db) == (1, 2)


def test_failed_ones_wait_for_their_retry(db: Database) -> None:
    backfill = backfill_of(db, 1, 2)
    pull_requests.record_failed(db, backfill["repository_id"], {1: ("too_large", "x")})
    left = pull_requests.to_detail(db, Backfill.from_row(backfill), 10, oldest_first=False)
    assert [row["number"] for row in left] == [2]
    assert pull_requests.retry_failed(db, backfill["repository_id"]) == 1
    left = pull_requests.to_detail(db, Backfill.from_row(backfill), 10, oldest_first=True)
    assert [row["number"] for row in left] == [1, 2]
