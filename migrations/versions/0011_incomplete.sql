-- A pull request that is stored without a place that GitHub does not give: which places, as [{"place", "code", "reason"}], how often
-- it was read so, and when it is read again. It is never counted as whole.
ALTER TABLE pull_requests
    ADD COLUMN incomplete jsonb,
    ADD COLUMN incomplete_reads integer NOT NULL DEFAULT 0,
    ADD COLUMN read_again_at timestamptz;
CREATE INDEX pull_requests_incomplete ON pull_requests (repository_id, number) WHERE incomplete IS NOT NULL;
CREATE INDEX pull_requests_to_read_again ON pull_requests (read_again_at) WHERE read_again_at IS NOT NULL;

-- A value that cannot be stored is null, and the pull request is incomplete. No code of the product reads these columns as
-- never null: the users' queries may, and get a null where there was no pull request before.
-- squawk-ignore ban-drop-not-null
ALTER TABLE pull_requests ALTER COLUMN created_at DROP NOT NULL, ALTER COLUMN additions DROP NOT NULL;
-- squawk-ignore ban-drop-not-null
ALTER TABLE pull_requests ALTER COLUMN deletions DROP NOT NULL, ALTER COLUMN changed_files DROP NOT NULL;
-- squawk-ignore ban-drop-not-null
ALTER TABLE reviews ALTER COLUMN created_at DROP NOT NULL, ALTER COLUMN updated_at DROP NOT NULL;
-- squawk-ignore ban-drop-not-null
ALTER TABLE comments ALTER COLUMN created_at DROP NOT NULL, ALTER COLUMN updated_at DROP NOT NULL;
-- squawk-ignore ban-drop-not-null
ALTER TABLE files ALTER COLUMN additions DROP NOT NULL, ALTER COLUMN deletions DROP NOT NULL;

-- Numbers that GitHub has as pull requests and does not list: why, and when they are asked for again.
ALTER TABLE pull_request_numbers
    ADD COLUMN refused_code text,
    ADD COLUMN refused_reason text,
    ADD COLUMN refusals integer NOT NULL DEFAULT 0,
    ADD COLUMN ask_again_at timestamptz;
CREATE INDEX pull_request_numbers_to_ask_again ON pull_request_numbers (ask_again_at) WHERE ask_again_at IS NOT NULL;

-- Parts of queries that an identity may not ask for, because its token lacks a scope.
CREATE TABLE github_withheld (
    identity text NOT NULL,
    part text NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity, part)
);

-- Current is what is stored as of the updated_at that the listing knows, and whole.
CREATE OR REPLACE FUNCTION keep_backfill_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT count(*), count(*) FILTER (WHERE detail_updated_at >= updated_at AND incomplete IS NULL)
        INTO NEW.listed_prs, NEW.current_prs
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
        -- No planner has seen it since: the next one takes it first.
        NEW.consecutive_errors := 0;
        NEW.plan_requested_at := NULL;
        NEW.planned_at := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION count_pull_requests_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs + d.listed, current_prs = s.current_prs + d.current
    FROM (SELECT repository_id, count(*) FILTER (WHERE gone_at IS NULL) AS listed,
                 count(*) FILTER (WHERE gone_at IS NULL AND detail_updated_at >= updated_at AND incomplete IS NULL) AS current
          FROM new_rows GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id AND (d.listed, d.current) <> (0, 0);
    INSERT INTO pull_request_numbers (repository_id, number)
    SELECT repository_id, number FROM new_rows WHERE gone_at IS NULL
    ON CONFLICT (repository_id, number) DO UPDATE
    SET refused_code = NULL, refused_reason = NULL, refusals = 0, ask_again_at = NULL
    WHERE pull_request_numbers.refused_code IS NOT NULL;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION count_pull_requests_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs + d.listed, current_prs = s.current_prs + d.current
    FROM (SELECT repository_id, sum(listed) AS listed, sum(current) AS current
          FROM (SELECT repository_id, (gone_at IS NULL)::integer AS listed,
                       COALESCE(gone_at IS NULL AND detail_updated_at >= updated_at AND incomplete IS NULL, false)::integer AS current
                FROM new_rows
                UNION ALL
                SELECT repository_id, -(gone_at IS NULL)::integer,
                       -COALESCE(gone_at IS NULL AND detail_updated_at >= updated_at AND incomplete IS NULL, false)::integer
                FROM old_rows) AS changes
          GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id AND (d.listed, d.current) <> (0, 0);
    INSERT INTO pull_request_numbers (repository_id, number)
    SELECT repository_id, number FROM new_rows WHERE gone_at IS NULL ON CONFLICT DO NOTHING;
    DELETE FROM pull_request_numbers AS n USING new_rows AS r
    WHERE n.repository_id = r.repository_id AND n.number = r.number AND r.gone_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION count_pull_requests_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs - d.listed, current_prs = s.current_prs - d.current
    FROM (SELECT repository_id, count(*) FILTER (WHERE gone_at IS NULL) AS listed,
                 count(*) FILTER (WHERE gone_at IS NULL AND detail_updated_at >= updated_at AND incomplete IS NULL) AS current
          FROM old_rows GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id;
    RETURN NULL;
END $$;

-- Numbers that GitHub has as pull requests and the database lacks in whole or in part, with what is missing.
CREATE OR REPLACE VIEW pull_request_gaps AS
SELECT n.repository_id, r.owner || '/' || r.name AS repository, n.number,
       CASE WHEN p.number IS NULL THEN 'row missing'
            WHEN p.detail_failed_at IS NOT NULL THEN 'failed'
            WHEN p.incomplete IS NOT NULL THEN 'incomplete'
            WHEN p.detail_updated_at IS NULL THEN 'detail missing'
            ELSE 'detail outdated' END AS reason,
       CASE WHEN p.number IS NULL THEN n.refused_code
            WHEN p.detail_failed_at IS NOT NULL THEN p.detail_error_code
            ELSE p.incomplete #>> '{0,code}' END AS error_code,
       CASE WHEN p.number IS NULL THEN n.refused_reason
            WHEN p.detail_failed_at IS NOT NULL THEN p.detail_error
            ELSE (SELECT string_agg((f ->> 'place') || ': ' || (f ->> 'reason'), '; ') FROM jsonb_array_elements(p.incomplete) AS f) END AS error
FROM pull_request_numbers AS n
JOIN repositories AS r ON r.id = n.repository_id
LEFT JOIN pull_requests AS p ON p.repository_id = n.repository_id AND p.number = n.number
WHERE p.number IS NULL OR p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at OR p.incomplete IS NOT NULL;

-- Progress for people, with the incomplete ones named apart: they are neither whole nor left to do.
CREATE OR REPLACE VIEW backfill_progress AS
SELECT s.repository_id, r.owner || '/' || r.name AS repository, s.status, s.metadata ->> 'priority' AS priority,
       s.total_prs, s.listed_prs, s.processed_prs, f.failed_prs,
       round(100.0 * s.processed_prs / NULLIF(s.total_prs, 0), 1) AS percent,
       s.points_spent, h.prs_per_hour, w.waiting_until,
       CASE WHEN s.status = 'active' AND w.waiting_until IS NULL AND h.prs_per_hour > 0
            THEN now() + make_interval(secs => 3600.0
                 * GREATEST(s.total_prs - s.processed_prs - f.failed_prs - i.incomplete_prs, 0) / h.prs_per_hour)
       END AS estimated_finish,
       s.pause_reason, s.paused_until, s.consecutive_errors, s.last_error, s.last_processed_at, i.incomplete_prs
FROM progressive_backfill_state AS s
JOIN repositories AS r ON r.id = s.repository_id
CROSS JOIN LATERAL (
    SELECT count(*) AS failed_prs FROM pull_requests AS p
    WHERE p.repository_id = s.repository_id AND p.detail_failed_at IS NOT NULL AND p.gone_at IS NULL) AS f
CROSS JOIN LATERAL (
    SELECT count(*) AS incomplete_prs FROM pull_requests AS p
    WHERE p.repository_id = s.repository_id AND p.incomplete IS NOT NULL AND p.detail_failed_at IS NULL AND p.gone_at IS NULL) AS i
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
