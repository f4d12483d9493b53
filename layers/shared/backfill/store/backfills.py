"""Backfills: progressive_backfill_state, one row per repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backfill.store.connection import Database, Row

# Three errors in a row, whatever chunk they come from, pause the backfill (design section 5).
MAX_CONSECUTIVE_ERRORS = 3
# What several workers meet within this time is one outage. Chunks come back after 30, 60 and 120 s: an outage that lasts pauses the
# backfill before it spends the attempts of a chunk.
OUTAGE_SECONDS = 60.0
# An active backfill without progress for this long stands still: no budget window of GitHub's is longer than an hour.
STALLED_HOURS = 2
# A completed one whose last check for changes is older than this: six heartbeats of the default schedule did not reach it.
UNCHECKED_HOURS = 3
# A plan request that nobody answered in this time is taken for lost.
PLAN_REQUEST_LOST_SECONDS = 300
# How long others wait for somebody who is about to send a plan request, and may die before.
PLAN_REQUEST_SENDING_SECONDS = 3

# A second add changes only what it names: the backfill goes on where it is.
_ADD = """
    WITH before AS (
        SELECT chunk_size, metadata FROM progressive_backfill_state WHERE repository_id = CAST(:repository_id AS uuid))
    INSERT INTO progressive_backfill_state (repository_id, total_prs, chunk_size, metadata)
    VALUES (CAST(:repository_id AS uuid), :total_prs, COALESCE(CAST(:chunk_size AS integer), 25),
            CAST('{"priority": "normal"}' AS jsonb) || CAST(:metadata AS jsonb))
    ON CONFLICT (repository_id) DO UPDATE SET
        chunk_size = COALESCE(CAST(:chunk_size AS integer), progressive_backfill_state.chunk_size),
        metadata = progressive_backfill_state.metadata || CAST(:metadata AS jsonb)
    RETURNING *, (xmax = 0) AS created,
              (SELECT chunk_size FROM before) AS chunk_size_before, (SELECT metadata FROM before) AS metadata_before
"""

# The longest unplanned first: priority gives shares, and nobody has to wait for others to be done.
_DUE = """
    SELECT id, repository_id, planned_at FROM progressive_backfill_state
    WHERE status = 'active' AND (planner_lease_expires_at IS NULL OR planner_lease_expires_at < now())
    ORDER BY planned_at NULLS FIRST
    LIMIT :limit
"""

# Active, and nothing on its way that would bring a planner: resumed by SQL, or its plan request was lost. One that was
# planned a moment ago has no use for another run.
_STALLED = """
    SELECT s.id, s.repository_id FROM progressive_backfill_state AS s
    WHERE s.status = 'active' AND (s.planner_lease_expires_at IS NULL OR s.planner_lease_expires_at < now())
      AND (s.plan_requested_at IS NULL OR s.plan_requested_at < now() - make_interval(secs => :lost_seconds))
      AND (s.planned_at IS NULL OR s.planned_at < now() - make_interval(secs => :rest_seconds))
      AND NOT EXISTS (SELECT FROM backfill_chunks AS c
                      WHERE c.backfill_state_id = s.id AND c.status IN ('pending', 'processing') AND c.sent_at IS NOT NULL)
    ORDER BY s.planned_at NULLS FIRST
    LIMIT :limit
"""

# Pauses that the system made have an end: from then on the backfill is active again, by whoever looks first.
_RESUME_DUE = """
    UPDATE progressive_backfill_state SET status = 'active'
    WHERE status = 'paused' AND paused_until <= now()
    RETURNING id, repository_id
"""

# One planner per backfill: the second finds the lease taken. A planner that died loses it by time.
_LEASE = """
    UPDATE progressive_backfill_state SET planner_token = gen_random_uuid(),
           planner_lease_expires_at = now() + make_interval(secs => :seconds), plan_requested_at = NULL,
           deferred_until = NULL
    WHERE id = CAST(:id AS uuid) AND (planner_lease_expires_at IS NULL OR planner_lease_expires_at < now())
      AND status <> 'paused'
    RETURNING *
"""
# What was requested during the lease found it taken and came to nothing: whoever ends the lease answers it.
_END_LEASE = """
    WITH ending AS (
        SELECT id, plan_requested_at FROM progressive_backfill_state
        WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid) FOR UPDATE)
    UPDATE progressive_backfill_state AS s SET planner_token = NULL, planner_lease_expires_at = NULL,
           plan_requested_at = NULL, last_processed_at = now(), planned_at = now(),
           idle_runs = CASE WHEN :has_progressed THEN 0 ELSE idle_runs + 1 END
    FROM ending WHERE s.id = ending.id
    RETURNING ending.plan_requested_at IS NOT NULL AS is_requested, s.idle_runs
"""

_START_LISTING = """
    UPDATE progressive_backfill_state SET listing_started_at = now(), listing_completed_at = NULL,
           last_processed_cursor = NULL, unlisted_prs = :unlisted_prs
    WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid)
    RETURNING *
"""

# Compare and set: the cursor moves only from where this planner read it, and only under its own lease. The first page
# of the first listing brings the watermark: what changes from then on is newer. The page's size grows with each that
# GitHub could answer, as that of detail requests does. A listing that ends with another difference to GitHub's count than
# it began with has explained it: the next one, though it be as large, is another.
_MOVE_CURSOR = """
    UPDATE progressive_backfill_state SET last_processed_cursor = COALESCE(:cursor, last_processed_cursor),
           total_prs = :total_prs, last_processed_at = now(),
           listing_completed_at = CASE WHEN :ended THEN now() END,
           unlisted_prs = CASE WHEN :ended AND :total_prs - listed_prs <> unlisted_prs THEN 0 ELSE unlisted_prs END,
           listing_page_size = LEAST(100, ceil(listing_page_size * 1.1)),
           updates_watermark = COALESCE(updates_watermark, CAST(:watermark AS timestamptz)),
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid)
      AND last_processed_cursor IS NOT DISTINCT FROM CAST(:from_cursor AS text)
    RETURNING *
"""

_DEFER = """
    UPDATE progressive_backfill_state SET deferred_until = CAST(:until AS timestamptz)
    WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid)
"""

# GitHub could not answer for a page of so many.
_HALVE_PAGE = """
    UPDATE progressive_backfill_state SET listing_page_size = GREATEST(1, listing_page_size / 2),
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid)
    RETURNING *
"""

# GitHub was asked for its newest change: a scan begins at the front, or there is nothing to scan.
_BEGIN_SCAN = """
    UPDATE progressive_backfill_state SET total_prs = :total_prs, scan_cursor = NULL,
           scan_until = CAST(:until AS timestamptz),
           unlisted_prs = CASE WHEN :total_prs = listed_prs THEN 0 ELSE unlisted_prs END,
           examined_at = CASE WHEN CAST(:until AS timestamptz) IS NULL THEN now() ELSE examined_at END,
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid)
    RETURNING *
"""

# A page of a scan is stored: the next one begins after it, whoever reads it. What changes meanwhile moves to the front,
# which this scan does not see again and the next one does: the watermark is of the time at which this one began.
_MOVE_SCAN = """
    UPDATE progressive_backfill_state SET total_prs = :total_prs, last_processed_at = now(),
           scan_cursor = CASE WHEN NOT :ended THEN :cursor END, scan_until = CASE WHEN NOT :ended THEN scan_until END,
           updates_watermark = CASE WHEN :ended THEN scan_until ELSE updates_watermark END,
           examined_at = CASE WHEN :ended THEN now() ELSE examined_at END,
           listing_page_size = LEAST(100, ceil(listing_page_size * 1.1)),
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid)
      AND scan_cursor IS NOT DISTINCT FROM CAST(:from_cursor AS text)
    RETURNING *
"""

# Points of attempts that failed or were deferred are spent too.
_BOOK = """
    UPDATE progressive_backfill_state SET points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = CAST(:id AS uuid) AND (:points, :requests) <> (0, 0)
"""

_NOTE_ERROR = """
    UPDATE progressive_backfill_state SET last_error = :error, last_error_at = now() WHERE id = CAST(:id AS uuid)
"""

_RECORD_SUCCESS = """
    UPDATE progressive_backfill_state SET consecutive_errors = 0, last_processed_at = now(), idle_runs = 0,
           points_spent = points_spent + :points, requests_made = requests_made + :requests
    WHERE id = CAST(:id AS uuid)
"""

# Counts the error, then pauses at the limit, in one transaction: the second of two workers that fail at once waits for the
# first one's count, and cannot miss it. Whoever names the status of a paused backfill pauses it by hand (see _PAUSE), so
# the count alone does not name it.
_COUNT_ERROR = """
    UPDATE progressive_backfill_state SET last_error = :error, last_error_at = now(),
           consecutive_errors = consecutive_errors + CASE WHEN :is_outage AND outage_counted_at > now() - make_interval(secs => :outage_seconds)
                                                          THEN 0 ELSE 1 END,
           error_count = error_count + CASE WHEN :is_outage AND outage_counted_at > now() - make_interval(secs => :outage_seconds)
                                            THEN 0 ELSE 1 END,
           outage_counted_at = CASE WHEN NOT :is_outage OR outage_counted_at > now() - make_interval(secs => :outage_seconds)
                                    THEN outage_counted_at ELSE now() END
    WHERE id = CAST(:id AS uuid)
"""
_PAUSE_AT_LIMIT = """
    UPDATE progressive_backfill_state SET status = 'paused', pause_reason = 'consecutive_errors',
           paused_until = now() + make_interval(mins => :pause_minutes)
    WHERE id = CAST(:id AS uuid) AND status = 'active' AND consecutive_errors >= :max_errors
    RETURNING id
"""

# A person's pause has no end, and takes the place of one that has; the system's own never does. In plain SQL the trigger
# persons_pause_wins does the same.
_PAUSE = """
    UPDATE progressive_backfill_state SET status = 'paused', pause_reason = :reason,
           paused_until = now() + make_interval(mins => CAST(:minutes AS integer)),
           last_error = COALESCE(CAST(:error AS text), last_error),
           last_error_at = CASE WHEN CAST(:error AS text) IS NULL THEN last_error_at ELSE now() END
    WHERE id = CAST(:id AS uuid)
      AND (status <> 'paused' OR (CAST(:minutes AS integer) IS NULL AND paused_until IS NOT NULL))
"""

_RESUME = """
    UPDATE progressive_backfill_state SET status = 'active', consecutive_errors = 0
    WHERE id = CAST(:id AS uuid) AND status = 'paused'
"""

# Completed only if nothing is left at this instant: the listing and any scan have ended, no listed pull request lacks its
# detail (failed ones wait for their retry), and no chunk is unfinished.
_SETTLE = """
    UPDATE progressive_backfill_state AS s SET status = 'completed'
    WHERE s.id = CAST(:id AS uuid) AND s.status = 'active' AND s.listing_completed_at IS NOT NULL
      AND s.scan_until IS NULL
      AND NOT EXISTS (SELECT FROM backfill_chunks AS c
                      WHERE c.backfill_state_id = s.id AND c.status IN ('pending', 'processing'))
      AND NOT EXISTS (SELECT FROM pull_requests AS p
                      WHERE p.repository_id = s.repository_id AND p.gone_at IS NULL
                        AND (p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at)
                        AND (p.detail_failed_at IS NULL OR p.detail_failed_at < now() - make_interval(hours => :retry_hours)))
    RETURNING s.*
"""

# Whoever made the check had its lease, which is no planning: the round that reopens it plans it.
_REOPEN = """
    UPDATE progressive_backfill_state AS s SET status = 'active', planned_at = NULL
    WHERE s.id = ANY(CAST(:ids AS uuid[])) AND s.status = 'completed'
      AND (s.listing_completed_at IS NULL OR s.scan_until IS NOT NULL OR EXISTS (
            SELECT FROM pull_request_numbers AS n WHERE n.repository_id = s.repository_id AND n.ask_again_at <= now())
        OR EXISTS (
            SELECT FROM pull_requests AS p
            WHERE p.repository_id = s.repository_id AND p.gone_at IS NULL
              AND (p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at)
              AND (p.detail_failed_at IS NULL OR p.detail_failed_at < now() - make_interval(hours => :retry_hours))))
    RETURNING s.id
"""

# At most one plan request on its way per backfill, noted with the time at which it will arrive; one that was lost is asked
# for again after a while. Of two that ask at once, one gets the row and sends; should it die before that, its reservation
# is taken for lost within seconds.
_RESERVE_PLAN = """
    UPDATE progressive_backfill_state
    SET plan_requested_at = now() - make_interval(secs => :lost_seconds) + make_interval(secs => :sending_seconds)
    WHERE id = CAST(:id AS uuid) AND status = 'active'
      AND (plan_requested_at IS NULL OR plan_requested_at < now() - make_interval(secs => :late_seconds))
    RETURNING plan_requested_at AS reserved_at,
              CASE WHEN planner_lease_expires_at < now() OR planner_lease_expires_at IS NULL THEN 0
                   ELSE CAST(ceil(EXTRACT(epoch FROM planner_lease_expires_at - now())) AS integer) + 1 END AS lease_seconds
"""

# Only over its own reservation: the planner that the request has started meanwhile took it away, and nothing is on its way.
_NOTE_PLAN_SENT = """
    UPDATE progressive_backfill_state SET plan_requested_at = now() + make_interval(secs => :delay_seconds)
    WHERE id = CAST(:id AS uuid) AND plan_requested_at = CAST(:reserved_at AS timestamptz)
"""

# Repositories at rest that this round has not asked about yet, the longest unasked first.
# Each repository by its key: what a run reads grows with what it examines, and with nothing else.
_TO_EXAMINE = """
    SELECT s.id, s.repository_id, s.total_prs, s.listed_prs, s.unlisted_prs, s.updates_watermark, s.examined_at, r.node_id
    FROM (SELECT * FROM progressive_backfill_state
          WHERE status = 'completed' AND (asked_at IS NULL OR asked_at < CAST(:before AS timestamptz))
            AND (examined_at IS NULL OR examined_at < CAST(:before AS timestamptz))
          ORDER BY asked_at NULLS FIRST LIMIT :limit) AS s
    CROSS JOIN LATERAL (SELECT node_id FROM repositories WHERE id = s.repository_id OFFSET 0) AS r
    ORDER BY s.asked_at NULLS FIRST
"""

_NOTE_EXAMINED = """
    UPDATE progressive_backfill_state SET examined_at = now(), asked_at = now() WHERE id = ANY(CAST(:ids AS uuid[]))
"""

# Asked, and no answer that says anything: the next round asks again, and examined_at still tells when GitHub last answered.
_NOTE_UNCHECKED = """
    UPDATE progressive_backfill_state SET asked_at = now(), last_error = :error, last_error_at = now(),
           error_count = error_count + 1
    WHERE id = CAST(:id AS uuid)
"""

# Chosen first: what the view counts is counted for these alone.
_PROGRESS = """
    WITH chosen AS MATERIALIZED (
        SELECT id, repository_id, chunk_size, requests_made, listing_completed_at, scan_until, created_at, last_error_at, progressed_at,
               status = 'active' AND progressed_at < now() - make_interval(hours => :stalled_hours) AS stalled,
               COALESCE(examined_at, listing_completed_at, created_at) AS checked_at,
               status = 'completed' AND COALESCE(examined_at, listing_completed_at, created_at)
                                        < now() - make_interval(hours => :unchecked_hours) AS unchecked,
               row_number() OVER (ORDER BY CASE WHEN CAST(:after_id AS uuid) IS NOT NULL THEN 0
                                                WHEN status = 'active' THEN 0 WHEN status = 'paused' THEN 1 ELSE 2 END,
                                           CASE WHEN CAST(:after_id AS uuid) IS NULL THEN last_processed_at END
                                               DESC NULLS LAST, id) AS place
        FROM progressive_backfill_state
        WHERE (CAST(:repository_id AS uuid) IS NULL OR repository_id = CAST(:repository_id AS uuid))
          AND (CAST(:after_id AS uuid) IS NULL OR id > CAST(:after_id AS uuid))
        ORDER BY place LIMIT :limit)
    SELECT p.*, (SELECT url FROM repositories WHERE id = s.repository_id) AS url, s.id AS backfill_id, s.chunk_size, s.requests_made, s.listing_completed_at, s.scan_until, s.created_at,
           s.last_error_at, s.progressed_at, s.stalled, s.checked_at, s.unchecked,
           c.pending, c.processing, c.failed, c.expired_leases, c.due, c.next_at, c.next_code, c.next_error
    FROM chosen AS s
    JOIN backfill_progress AS p ON p.repository_id = s.repository_id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
               count(*) FILTER (WHERE status = 'processing') AS processing,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(*) FILTER (WHERE status = 'processing' AND lease_expires_at < now()) AS expired_leases,
               count(*) FILTER (WHERE status = 'pending' AND available_at <= now()) AS due,
               min(available_at) FILTER (WHERE status = 'pending') AS next_at,
               (array_agg(error_code ORDER BY available_at) FILTER (WHERE status = 'pending'))[1] AS next_code,
               (array_agg(error ORDER BY available_at) FILTER (WHERE status = 'pending'))[1] AS next_error
        FROM backfill_chunks WHERE backfill_state_id = s.id AND status <> 'completed') AS c
    ORDER BY s.place
"""

_STORED = """
    SELECT (SELECT count(*) FROM reviews WHERE repository_id = CAST(:repository_id AS uuid)) AS reviews,
           (SELECT count(*) FROM comments WHERE repository_id = CAST(:repository_id AS uuid) AND kind = 'issue_comment')
               AS issue_comments,
           (SELECT count(*) FROM comments WHERE repository_id = CAST(:repository_id AS uuid) AND kind = 'review_comment')
               AS review_comments,
           (SELECT count(*) FROM commits WHERE repository_id = CAST(:repository_id AS uuid)) AS commits,
           (SELECT count(*) FROM files WHERE repository_id = CAST(:repository_id AS uuid)) AS files
"""


def add(db: Database, repository_id: str, *, total_prs: int, chunk_size: int | None, metadata: dict[str, str]) -> Row:
    """Create a backfill, or change what is named of an existing one; ``created`` says which, ``…_before`` what it was."""
    row = db.one(
        _ADD,
        repository_id=repository_id,
        total_prs=total_prs,
        chunk_size=chunk_size,
        metadata=json.dumps(metadata),
    )
    if row is None:
        raise LookupError(f"no backfill was created for repository {repository_id}")
    return row


def get(db: Database, backfill_id: str) -> Row | None:
    """By uuid."""
    return db.one("SELECT * FROM progressive_backfill_state WHERE id = CAST(:id AS uuid)", id=backfill_id)


def of_repository(db: Database, repository_id: str) -> Row | None:
    """The backfill of a repository."""
    return db.one("SELECT * FROM progressive_backfill_state WHERE repository_id = CAST(:id AS uuid)", id=repository_id)


def due(db: Database, limit: int) -> list[Row]:
    """Active backfills that nobody plans at the moment, the longest waiting first: ``id``, ``repository_id``, ``planned_at``."""
    return db.rows(_DUE, limit=limit)


def stalled(db: Database, limit: int, rest_seconds: float) -> list[Row]:
    """Active backfills that nothing moves, and that were not planned within ``rest_seconds``: ``id``, ``repository_id``."""
    return db.rows(_STALLED, limit=limit, rest_seconds=rest_seconds, lost_seconds=PLAN_REQUEST_LOST_SECONDS)


def resume_due(db: Database) -> list[Row]:
    """Activate backfills whose pause has ended."""
    return db.rows(_RESUME_DUE)


def lease(db: Database, backfill_id: str, seconds: float) -> Row | None:
    """Become the only planner of a backfill for a time; None if there is one already, or if it is paused."""
    return db.one(_LEASE, id=backfill_id, seconds=seconds)


@dataclass(frozen=True, slots=True)
class LeaseEnd:
    """Whether a plan was requested meanwhile, which nobody else could answer; and runs in a row without progress."""

    is_requested: bool = False
    idle_runs: int = 1


def end_lease(db: Database, backfill: Row, *, has_progressed: bool) -> LeaseEnd:
    """Let the next planner in, and count this run if it moved nothing."""
    token = {"id": backfill["id"], "planner_token": backfill["planner_token"]}
    ended = db.one(_END_LEASE, **token, has_progressed=has_progressed)
    return LeaseEnd(**ended) if ended is not None else LeaseEnd()


def start_listing(db: Database, backfill: Row, unlisted_prs: int = 0) -> Row | None:
    """Begin the listing (again) at its first page; None if the lease was lost.

    ``unlisted_prs`` is the difference between GitHub's count and its listing that makes us list again: if the whole
    listing ends with the same, GitHub counts what it does not show, and that is that.
    """
    return db.one(_START_LISTING, id=backfill["id"], planner_token=backfill["planner_token"], unlisted_prs=unlisted_prs)


def note_unlisted(db: Database, backfill: Row, unlisted_prs: int) -> Row | None:
    """GitHub counts so many more than it shows; None if the lease was lost."""
    return db.one(
        "UPDATE progressive_backfill_state SET unlisted_prs = :unlisted_prs"
        " WHERE id = CAST(:id AS uuid) AND planner_token = CAST(:planner_token AS uuid) RETURNING *",
        id=backfill["id"],
        planner_token=backfill["planner_token"],
        unlisted_prs=unlisted_prs,
    )


def defer(db: Database, backfill: Row, until: datetime) -> None:
    """Its planning waits for GitHub's budget."""
    db.execute(_DEFER, id=backfill["id"], planner_token=backfill["planner_token"], until=until)


def move_cursor(
    db: Database,
    backfill: Row,
    *,
    cursor: str | None,
    total_prs: int,
    ended: bool,
    points: int,
    requests: int,
    watermark: datetime | None,
) -> Row | None:
    """Move the cursor past a page that was stored in the same transaction; None if another planner moved it.

    ``watermark`` is GitHub's newest updatedAt when the page was read.
    """
    return db.one(
        _MOVE_CURSOR,
        id=backfill["id"],
        planner_token=backfill["planner_token"],
        from_cursor=backfill["last_processed_cursor"],
        cursor=cursor,
        total_prs=total_prs,
        ended=ended,
        points=points,
        requests=requests,
        watermark=watermark,
    )


def halve_page(db: Database, backfill: Row, *, points: int, requests: int) -> Row | None:
    """GitHub could not answer for a page of ``listing_page_size``, which cost so much; None if the lease was lost."""
    token = {"id": backfill["id"], "planner_token": backfill["planner_token"]}
    return db.one(_HALVE_PAGE, **token, points=points, requests=requests)


def begin_scan(
    db: Database, backfill: Row, *, until: datetime | None, total_prs: int, points: int, requests: int
) -> Row | None:
    """A scan begins that makes every change up to ``until`` known; ``until`` None: nothing has changed.

    Returns None if the lease was lost.
    """
    return db.one(
        _BEGIN_SCAN,
        id=backfill["id"],
        planner_token=backfill["planner_token"],
        until=until,
        total_prs=total_prs,
        points=points,
        requests=requests,
    )


def move_scan(
    db: Database, backfill: Row, *, cursor: str | None, ended: bool, total_prs: int, points: int, requests: int
) -> Row | None:
    """Move a scan past a page that was stored in the same transaction; None if another planner moved it."""
    return db.one(
        _MOVE_SCAN,
        id=backfill["id"],
        planner_token=backfill["planner_token"],
        from_cursor=backfill["scan_cursor"],
        cursor=cursor,
        ended=ended,
        total_prs=total_prs,
        points=points,
        requests=requests,
    )


def book(db: Database, backfill_id: str, *, points: int, requests: int) -> None:
    """Add what work that did not succeed has cost."""
    db.execute(_BOOK, id=backfill_id, points=points, requests=requests)


def note_error(db: Database, backfill_id: str, error: str) -> None:
    """Show an error that is no reason to stop."""
    db.execute(_NOTE_ERROR, id=backfill_id, error=error[:2000])


def record_success(db: Database, backfill_id: str, *, points: int, requests: int) -> None:
    """A chunk completed: the row of errors is broken."""
    db.execute(_RECORD_SUCCESS, id=backfill_id, points=points, requests=requests)


def record_error(db: Database, backfill_id: str, error: str, *, pause_minutes: int, is_outage: bool = False) -> bool:
    """Count an error; True if it is the third in a row and paused the backfill, for ``pause_minutes``.

    ``is_outage``: GitHub as a whole does not answer. Within OUTAGE_SECONDS that is one error, however many workers meet it.
    """
    limit = {"max_errors": MAX_CONSECUTIVE_ERRORS, "pause_minutes": pause_minutes}
    outage = {"is_outage": is_outage, "outage_seconds": OUTAGE_SECONDS}
    _, paused = db.pipeline(
        [(_COUNT_ERROR, {"id": backfill_id, "error": error, **outage}), (_PAUSE_AT_LIMIT, {"id": backfill_id, **limit})]
    )
    return bool(paused)


def pause(db: Database, backfill_id: str, reason: str, *, minutes: int | None, error: str | None = None) -> bool:
    """Pause, for ``minutes`` or until somebody resumes; False if it was paused already, and as firmly."""
    return db.execute(_PAUSE, id=backfill_id, reason=reason, minutes=minutes, error=error) > 0


def resume(db: Database, backfill_id: str) -> bool:
    """A paused backfill is active again, with a clean row of errors; False if it was not paused."""
    return db.execute(_RESUME, id=backfill_id) > 0


def settle(db: Database, backfill_id: str, retry_hours: int) -> bool:
    """Mark a backfill completed if nothing is left; True if it is now."""
    return db.one(_SETTLE, id=backfill_id, retry_hours=retry_hours) is not None


def reopen(db: Database, backfill_ids: Sequence[str], retry_hours: int) -> list[str]:
    """Make completed backfills active if something is left; the ids of those that are now."""
    return [row["id"] for row in db.rows(_REOPEN, ids=list(backfill_ids), retry_hours=retry_hours)]


def reserve_plan(db: Database, backfill_id: str, *, arrived: bool = False) -> Row | None:
    """Reserve the right to send a plan request, for a few seconds; None while one is on its way, or if it is not active.

    ``arrived``: what should have come by now is not on its way any more.
    ``lease_seconds``: after these a planner that works on it now has no lease any more, in whole seconds as SQS counts.
    """
    return db.one(
        _RESERVE_PLAN,
        id=backfill_id,
        lost_seconds=PLAN_REQUEST_LOST_SECONDS,
        late_seconds=-PLAN_REQUEST_SENDING_SECONDS if arrived else PLAN_REQUEST_LOST_SECONDS,
        sending_seconds=PLAN_REQUEST_SENDING_SECONDS,
    )


def note_plan_sent(db: Database, backfill_id: str, reserved_at: datetime, delay_seconds: float) -> None:
    """SQS has the plan request of this reservation, and delivers it after the delay."""
    db.execute(_NOTE_PLAN_SENT, id=backfill_id, reserved_at=reserved_at, delay_seconds=delay_seconds)


def to_examine(db: Database, limit: int, before: datetime) -> list[Row]:
    """Completed backfills that GitHub was not asked about since ``before``, with their repositories' node ids."""
    return db.rows(_TO_EXAMINE, limit=limit, before=before)


def note_examined(db: Database, backfill_ids: list[str]) -> None:
    """GitHub answered about these just now."""
    db.execute(_NOTE_EXAMINED, ids=backfill_ids)


def note_unchecked(db: Database, backfill_id: str, error: str) -> None:
    """GitHub was asked about this one, and did not answer for it."""
    db.execute(_NOTE_UNCHECKED, id=backfill_id, error=error)


def set_priority(db: Database, backfill_id: str, priority: str) -> None:
    """What the runbook's jsonb_set does."""
    db.execute(
        "UPDATE progressive_backfill_state SET metadata = jsonb_set(metadata, '{priority}', to_jsonb(CAST(:priority AS text)))"
        " WHERE id = CAST(:id AS uuid)",
        id=backfill_id,
        priority=priority,
    )


def progress(db: Database, repository_id: str | None, limit: int, after_id: str | None = None) -> list[Row]:
    """With ``after_id``: in the order of the ids, from the next one on. backfill_progress with what its chunks do and wait for (``next_…``: the pending one that comes next), of one
    repository or of all: active first, then paused, then completed, which were ``checked_at`` for changes."""
    return db.rows(
        _PROGRESS,
        repository_id=repository_id,
        after_id=after_id,
        stalled_hours=STALLED_HOURS,
        unchecked_hours=UNCHECKED_HOURS,
        limit=limit,
    )


def counts(db: Database) -> dict[str, int]:
    """How many backfills are active, paused and completed."""
    found = db.rows("SELECT status, count(*) AS backfills FROM progressive_backfill_state GROUP BY status")
    return {**dict.fromkeys(("active", "paused", "completed"), 0), **{row["status"]: row["backfills"] for row in found}}


def stored(db: Database, repository_id: str) -> Row:
    """How many rows of each kind are stored for a repository."""
    return db.one(_STORED, repository_id=repository_id) or {}


def now(db: Database) -> datetime:
    """The database's clock, which is the one that counts."""
    row = db.one("SELECT now() AS now")
    if row is None:
        raise LookupError("Postgres gave no time")
    moment: datetime = row["now"]
    return moment
