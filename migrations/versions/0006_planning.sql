-- When a backfill was planned last, until when it waits for GitHub's budget, and since when it is active.
ALTER TABLE progressive_backfill_state
    ADD COLUMN planned_at timestamptz,
    ADD COLUMN deferred_until timestamptz,
    ADD COLUMN activated_at timestamptz,
    -- GitHub's count less what its listing shows, once a whole listing has confirmed it.
    ADD COLUMN unlisted_prs integer NOT NULL DEFAULT 0;
UPDATE progressive_backfill_state SET activated_at = created_at;
ALTER TABLE progressive_backfill_state ALTER COLUMN activated_at SET NOT NULL, ALTER COLUMN activated_at SET DEFAULT now();
DROP INDEX backfills_to_plan;
CREATE INDEX backfills_to_plan ON progressive_backfill_state (planned_at NULLS FIRST) WHERE status = 'active';

-- A pause or a resume in plain SQL means all that the commands mean.
CREATE OR REPLACE FUNCTION keep_backfill_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT count(*), count(*) FILTER (WHERE detail_updated_at >= updated_at) INTO NEW.listed_prs, NEW.current_prs
        FROM pull_requests WHERE repository_id = NEW.repository_id AND gone_at IS NULL;
    END IF;
    NEW.processed_prs := LEAST(NEW.current_prs, NEW.total_prs);
    NEW.updated_at := now();
    IF NEW.status = 'paused' THEN
        NEW.pause_reason := COALESCE(NEW.pause_reason, 'manual');
    ELSE
        NEW.pause_reason := NULL;
        NEW.paused_until := NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.status <> 'active' AND NEW.status = 'active' THEN
        NEW.activated_at := now();
        NEW.deferred_until := NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.status = 'paused' AND NEW.status = 'active' THEN
        -- Nobody has planned it since: whoever plans next looks after it first.
        NEW.consecutive_errors := 0;
        NEW.plan_requested_at := NULL;
        NEW.planned_at := NULL;
    END IF;
    RETURN NEW;
END $$;

-- Progress for people. The rate is that of the last hour, or of the time since the backfill became active, where that is
-- shorter. While all that is left of a backfill waits for a time of its own (GitHub's budget, a retry), nobody knows the
-- finish: waiting_until says when it goes on.
DROP VIEW backfill_progress;
CREATE VIEW backfill_progress AS
SELECT s.repository_id, r.owner || '/' || r.name AS repository, s.status, s.metadata ->> 'priority' AS priority,
       s.total_prs, s.listed_prs, s.processed_prs, f.failed_prs,
       round(100.0 * s.processed_prs / NULLIF(s.total_prs, 0), 1) AS percent,
       s.points_spent, h.prs_per_hour, w.waiting_until,
       CASE WHEN s.status = 'active' AND w.waiting_until IS NULL AND h.prs_per_hour > 0
            THEN now() + make_interval(secs => 3600.0 * GREATEST(s.total_prs - s.processed_prs - f.failed_prs, 0) / h.prs_per_hour)
       END AS estimated_finish,
       s.pause_reason, s.paused_until, s.consecutive_errors, s.last_error, s.last_processed_at
FROM progressive_backfill_state AS s
JOIN repositories AS r ON r.id = s.repository_id
CROSS JOIN LATERAL (
    SELECT count(*) AS failed_prs FROM pull_requests AS p
    WHERE p.repository_id = s.repository_id AND p.detail_failed_at IS NOT NULL AND p.gone_at IS NULL) AS f
CROSS JOIN LATERAL (SELECT GREATEST(s.activated_at, now() - interval '1 hour') AS since) AS m
CROSS JOIN LATERAL (
    SELECT round(count(*) * 3600.0 / GREATEST(EXTRACT(epoch FROM now() - m.since), 1)) AS prs_per_hour
    FROM pull_requests AS p
    WHERE p.repository_id = s.repository_id AND p.detail_synced_at > m.since) AS h
CROSS JOIN LATERAL (
    SELECT min(CASE WHEN c.status = 'pending' THEN c.available_at ELSE now() END) AS next_chunk_at FROM backfill_chunks AS c
    WHERE c.backfill_state_id = s.id AND c.status IN ('pending', 'processing')) AS c
CROSS JOIN LATERAL (
    SELECT CASE WHEN s.status = 'active' AND COALESCE(c.next_chunk_at, s.deferred_until) > now() + interval '5 seconds'
                THEN COALESCE(c.next_chunk_at, s.deferred_until) END AS waiting_until) AS w;
