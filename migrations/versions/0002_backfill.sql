-- The state of backfills and the life of their chunks (docs/architecture.md draws it).
-- Rules that must hold whoever writes, a function, a runbook or a person with psql, are constraints and triggers here.

CREATE TABLE progressive_backfill_state (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    repository_id uuid NOT NULL UNIQUE REFERENCES repositories (id) ON DELETE CASCADE,
    -- GitHub's own totalCount; 0 until the first listing page.
    total_prs integer NOT NULL DEFAULT 0 CHECK (total_prs >= 0),
    -- Kept by triggers: pull requests whose detail is stored and current, at most total_prs.
    processed_prs integer NOT NULL DEFAULT 0,
    current_prs integer NOT NULL DEFAULT 0,
    listed_prs integer NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'completed')),
    last_processed_cursor text,
    last_processed_at timestamptz,
    chunk_size integer NOT NULL DEFAULT 25 CHECK (chunk_size BETWEEN 1 AND 100),
    consecutive_errors integer NOT NULL DEFAULT 0,
    error_count integer NOT NULL DEFAULT 0,
    last_error text,
    last_error_at timestamptz,
    metadata jsonb NOT NULL DEFAULT '{"priority": "normal"}',
    pause_reason text,
    paused_until timestamptz,
    next_chunk_number integer NOT NULL DEFAULT 1,
    max_chunks integer NOT NULL DEFAULT 10 CHECK (max_chunks >= 1),
    -- The listing: begun, and ended. Rows not listed since it began are gone from GitHub when it ends.
    listing_started_at timestamptz,
    listing_completed_at timestamptz,
    -- The newest updatedAt (GitHub's clock) up to which every change is known.
    updates_watermark timestamptz,
    examined_at timestamptz,
    points_spent bigint NOT NULL DEFAULT 0,
    requests_made bigint NOT NULL DEFAULT 0,
    -- One planner per backfill at a time, and one plan request on its way.
    planner_token uuid,
    planner_lease_expires_at timestamptz,
    plan_requested_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((planner_token IS NULL) = (planner_lease_expires_at IS NULL)),
    CHECK (status = 'paused' OR (pause_reason IS NULL AND paused_until IS NULL)),
    CONSTRAINT priority_is_high_normal_or_low
        CHECK (COALESCE(metadata ->> 'priority', 'normal') IN ('high', 'normal', 'low'))
);
CREATE INDEX backfills_to_plan ON progressive_backfill_state (last_processed_at NULLS FIRST) WHERE status = 'active';
CREATE INDEX backfills_to_resume ON progressive_backfill_state (paused_until) WHERE paused_until IS NOT NULL;
CREATE INDEX backfills_to_examine ON progressive_backfill_state (examined_at NULLS FIRST) WHERE status = 'completed';

-- A pause or a resume in plain SQL means all that the commands mean.
CREATE FUNCTION keep_backfill_state() RETURNS trigger LANGUAGE plpgsql AS $$
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
    IF TG_OP = 'UPDATE' AND OLD.status = 'paused' AND NEW.status = 'active' THEN
        NEW.consecutive_errors := 0;
        NEW.plan_requested_at := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_backfill_state BEFORE INSERT OR UPDATE ON progressive_backfill_state
    FOR EACH ROW EXECUTE FUNCTION keep_backfill_state();

-- Numbers that GitHub has as pull requests, remembered apart, so that a lost row shows as a gap.
CREATE TABLE pull_request_numbers (
    repository_id uuid NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    number integer NOT NULL,
    PRIMARY KEY (repository_id, number)
);

-- Progress is counted where the rows change, so that it is exact at every moment and whoever changes them.
CREATE FUNCTION count_pull_requests_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs + d.listed, current_prs = s.current_prs + d.current
    FROM (SELECT repository_id, count(*) FILTER (WHERE gone_at IS NULL) AS listed,
                 count(*) FILTER (WHERE gone_at IS NULL AND detail_updated_at >= updated_at) AS current
          FROM new_rows GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id AND (d.listed, d.current) <> (0, 0);
    INSERT INTO pull_request_numbers (repository_id, number)
    SELECT repository_id, number FROM new_rows WHERE gone_at IS NULL ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE FUNCTION count_pull_requests_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs + d.listed, current_prs = s.current_prs + d.current
    FROM (SELECT repository_id, sum(listed) AS listed, sum(current) AS current
          FROM (SELECT repository_id, (gone_at IS NULL)::integer AS listed,
                       COALESCE(gone_at IS NULL AND detail_updated_at >= updated_at, false)::integer AS current
                FROM new_rows
                UNION ALL
                SELECT repository_id, -(gone_at IS NULL)::integer,
                       -COALESCE(gone_at IS NULL AND detail_updated_at >= updated_at, false)::integer
                FROM old_rows) AS changes
          GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id AND (d.listed, d.current) <> (0, 0);
    INSERT INTO pull_request_numbers (repository_id, number)
    SELECT repository_id, number FROM new_rows WHERE gone_at IS NULL ON CONFLICT DO NOTHING;
    DELETE FROM pull_request_numbers AS n USING new_rows AS r
    WHERE n.repository_id = r.repository_id AND n.number = r.number AND r.gone_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE FUNCTION count_pull_requests_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs - d.listed, current_prs = s.current_prs - d.current
    FROM (SELECT repository_id, count(*) FILTER (WHERE gone_at IS NULL) AS listed,
                 count(*) FILTER (WHERE gone_at IS NULL AND detail_updated_at >= updated_at) AS current
          FROM old_rows GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id;
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON pull_requests REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_inserted();
CREATE TRIGGER count_updated AFTER UPDATE ON pull_requests REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_updated();
CREATE TRIGGER count_deleted AFTER DELETE ON pull_requests REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_deleted();

CREATE TABLE backfill_chunks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    backfill_state_id uuid NOT NULL REFERENCES progressive_backfill_state (id) ON DELETE CASCADE,
    repository_id uuid NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    chunk_number integer NOT NULL,
    pr_numbers integer[] NOT NULL CHECK (cardinality(pr_numbers) BETWEEN 1 AND 500),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
    -- Who asked: the planner, or a person with a message, whose chunk is read even where the detail is current.
    origin text NOT NULL DEFAULT 'planner' CHECK (origin IN ('planner', 'message')),
    -- The outbox: which message may claim the chunk, from when on, and when it was handed to SQS.
    dispatch_id uuid NOT NULL DEFAULT gen_random_uuid(),
    available_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    -- The claim: who works on it, and until when nobody else may.
    claim_token uuid,
    lease_expires_at timestamptz,
    started_at timestamptz,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    completed_at timestamptz,
    failed_at timestamptz,
    error text,
    error_code text,
    points integer NOT NULL DEFAULT 0,
    requests integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (backfill_state_id, chunk_number),
    CONSTRAINT processing_has_a_claim CHECK ((status = 'processing') = (claim_token IS NOT NULL)),
    CONSTRAINT processing_has_a_lease CHECK ((status = 'processing') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT processing_has_started CHECK (status <> 'processing' OR (started_at IS NOT NULL AND attempts > 0)),
    CONSTRAINT completed_has_a_time CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
    CONSTRAINT failed_has_a_time CHECK ((status = 'failed') = (failed_at IS NOT NULL)),
    CONSTRAINT failed_has_a_reason CHECK (status <> 'failed' OR (error IS NOT NULL AND error_code IS NOT NULL))
);
CREATE INDEX chunks_unfinished ON backfill_chunks (backfill_state_id) WHERE status IN ('pending', 'processing');
CREATE INDEX chunks_processing ON backfill_chunks (started_at) WHERE status = 'processing';
CREATE INDEX chunks_pending ON backfill_chunks (sent_at NULLS FIRST, available_at) WHERE status = 'pending';
CREATE INDEX chunks_completed ON backfill_chunks (completed_at) WHERE status = 'completed';
CREATE INDEX chunks_failed ON backfill_chunks (backfill_state_id) WHERE status = 'failed';
CREATE INDEX chunks_by_repository ON backfill_chunks (repository_id);
CREATE INDEX chunks_by_start ON backfill_chunks (started_at DESC) WHERE sent_at IS NOT NULL AND started_at IS NOT NULL;

-- A pull request is in one unfinished chunk of its backfill at most: the primary key says so.
CREATE TABLE backfill_chunk_members (
    backfill_state_id uuid NOT NULL,
    number integer NOT NULL,
    chunk_id uuid NOT NULL REFERENCES backfill_chunks (id) ON DELETE CASCADE,
    PRIMARY KEY (backfill_state_id, number)
);
CREATE INDEX chunk_members_by_chunk ON backfill_chunk_members (chunk_id);
CREATE FUNCTION keep_chunk_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IN ('completed', 'failed') THEN
        DELETE FROM backfill_chunk_members WHERE chunk_id = NEW.id;
    ELSIF TG_OP = 'INSERT' OR OLD.status IN ('completed', 'failed') OR OLD.pr_numbers <> NEW.pr_numbers THEN
        DELETE FROM backfill_chunk_members WHERE chunk_id = NEW.id;
        INSERT INTO backfill_chunk_members (backfill_state_id, number, chunk_id)
        SELECT NEW.backfill_state_id, number, NEW.id FROM unnest(NEW.pr_numbers) AS number ORDER BY number;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_chunk_members AFTER INSERT OR UPDATE ON backfill_chunks
    FOR EACH ROW EXECUTE FUNCTION keep_chunk_members();
CREATE FUNCTION touch_chunk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER touch_chunk BEFORE UPDATE ON backfill_chunks FOR EACH ROW EXECUTE FUNCTION touch_chunk();

-- Progress for people: the rate of the last hour (or of the time since the start, where that is shorter).
CREATE VIEW backfill_progress AS
SELECT s.repository_id, r.owner || '/' || r.name AS repository, s.status, s.metadata ->> 'priority' AS priority,
       s.total_prs, s.listed_prs, s.processed_prs, f.failed_prs,
       round(100.0 * s.processed_prs / NULLIF(s.total_prs, 0), 1) AS percent,
       s.points_spent, h.prs_per_hour,
       CASE WHEN s.status = 'active' AND h.prs_per_hour > 0
            THEN now() + make_interval(secs => 3600.0 * GREATEST(s.total_prs - s.processed_prs - f.failed_prs, 0) / h.prs_per_hour)
       END AS estimated_finish,
       s.pause_reason, s.paused_until, s.consecutive_errors, s.last_error, s.last_processed_at
FROM progressive_backfill_state AS s
JOIN repositories AS r ON r.id = s.repository_id
CROSS JOIN LATERAL (
    SELECT count(*) AS failed_prs FROM pull_requests AS p
    WHERE p.repository_id = s.repository_id AND p.detail_failed_at IS NOT NULL AND p.gone_at IS NULL) AS f
CROSS JOIN LATERAL (
    SELECT round(count(*) * 3600.0
                 / GREATEST(EXTRACT(epoch FROM now() - GREATEST(s.created_at, now() - interval '1 hour')), 1)) AS prs_per_hour
    FROM pull_requests AS p
    WHERE p.repository_id = s.repository_id AND p.detail_synced_at > now() - interval '1 hour') AS h;
CREATE INDEX pull_requests_by_sync ON pull_requests (repository_id, detail_synced_at) WHERE detail_synced_at IS NOT NULL;

-- Numbers that GitHub has as pull requests and the database lacks, with what is missing.
CREATE VIEW pull_request_gaps AS
SELECT n.repository_id, r.owner || '/' || r.name AS repository, n.number,
       CASE WHEN p.number IS NULL THEN 'row missing'
            WHEN p.detail_failed_at IS NOT NULL THEN 'failed'
            WHEN p.detail_updated_at IS NULL THEN 'detail missing'
            ELSE 'detail outdated' END AS reason,
       p.detail_error_code AS error_code, p.detail_error AS error
FROM pull_request_numbers AS n
JOIN repositories AS r ON r.id = n.repository_id
LEFT JOIN pull_requests AS p ON p.repository_id = n.repository_id AND p.number = n.number
WHERE p.number IS NULL OR p.detail_updated_at IS NULL OR p.detail_updated_at < p.updated_at;
