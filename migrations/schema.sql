-- Today's whole schema: tables, views, indexes, functions, triggers and comments. `make data-dictionary` writes this file from a
-- migrated database, for readers. The migrations create the schema. Do not edit or run this file.

CREATE FUNCTION budget_block_v1(who text, wait_seconds double precision, kind text, is_dry_run boolean, at timestamp with time zone DEFAULT NULL::timestamp with time zone, jitter double precision DEFAULT ((1)::double precision + ((0.3)::double precision * random())), OUT until timestamp with time zone, OUT seconds double precision) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
    -- GitHub's rule after a secondary limit without a time: at least a minute, and longer each time.
    -- https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
    first_block CONSTANT float8 := 60;
    longest_block CONSTANT float8 := 3600;
    -- 60 seconds, doubled six times, are more than longest_block.
    most_doublings CONSTANT integer := 10;
    budget github_budget;
    blocks_before integer;
BEGIN
    budget := budget_of_v1(who, is_dry_run);
    at := COALESCE(at, clock_timestamp());
    budget := budget_present_v1(budget, at);
    -- Workers that meet a limit while it lasts count as one. Otherwise each of them would double the wait.
    blocks_before := COALESCE(budget.blocks_in_a_row, 0);
    IF budget.blocked_until > at THEN
        blocks_before := blocks_before - 1;
    END IF;
    wait_seconds := COALESCE(
        wait_seconds,
        LEAST(longest_block, jitter * first_block * power(2, LEAST(most_doublings, GREATEST(0, blocks_before)))));
    until := GREATEST(budget.blocked_until, at + make_interval(secs => wait_seconds));
    seconds := EXTRACT(epoch FROM until - at);
    IF NOT is_dry_run THEN
        UPDATE github_budget SET
            blocked_until = until, block_reason = kind, blocks_in_a_row = blocks_before + 1, free_at = budget.free_at,
            put_off_until = budget.put_off_until, reset_at = budget.reset_at, updated_at = at
        WHERE identity = who;
    END IF;
END $$;

COMMENT ON FUNCTION budget_block_v1(who text, wait_seconds double precision, kind text, is_dry_run boolean, at timestamp with time zone, jitter double precision, OUT until timestamp with time zone, OUT seconds double precision) IS 'Stops every worker of an identity because GitHub named a limit.';

CREATE TABLE github_budget (
    identity text NOT NULL,
    points_limit integer,
    remaining integer,
    reserved integer DEFAULT 0 NOT NULL,
    reset_at timestamp with time zone,
    free_at timestamp with time zone,
    blocked_until timestamp with time zone,
    block_reason text,
    blocks_in_a_row integer DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    window_number integer DEFAULT 0 NOT NULL,
    slowness real DEFAULT 1 NOT NULL,
    put_off_until timestamp with time zone,
    learned_seconds real DEFAULT 0 NOT NULL,
    CONSTRAINT github_budget_reserved_check CHECK ((reserved >= 0))
);

COMMENT ON TABLE github_budget IS 'GitHub''s limits, one row per identity. [product; any request]';

COMMENT ON COLUMN github_budget.identity IS 'User or installation. Never a token. [User.login; any request]';

COMMENT ON COLUMN github_budget.points_limit IS 'Points of a window. Null before the first reply. [RateLimit.limit; any request]';

COMMENT ON COLUMN github_budget.remaining IS 'Points left. Null before the first reply. [RateLimit.remaining; any request]';

COMMENT ON COLUMN github_budget.reserved IS 'Points that requests in flight may cost. [product; any request]';

COMMENT ON COLUMN github_budget.reset_at IS 'When the window ends. Null before the first reply. [RateLimit.resetAt; any request]';

COMMENT ON COLUMN github_budget.free_at IS 'When all server time handed out so far will have passed. [product; any request]';

COMMENT ON COLUMN github_budget.blocked_until IS 'No request before this time. Null if GitHub blocks nothing. [product; any refusal]';

COMMENT ON COLUMN github_budget.block_reason IS 'Why requests are blocked. [product; any refusal]';

COMMENT ON COLUMN github_budget.blocks_in_a_row IS 'Limits that GitHub named in a row. Each doubles the wait. [product; any refusal]';

COMMENT ON COLUMN github_budget.updated_at IS 'When the row last changed. [product; any request]';

COMMENT ON COLUMN github_budget.window_number IS 'Counts the windows, so that a late reply does not change the next one. [product; any request]';

COMMENT ON COLUMN github_budget.slowness IS 'Measured server time divided by the published figure. [product; any request]';

COMMENT ON COLUMN github_budget.put_off_until IS 'When the last deferred chunk gets its turn. Null if none waits. [product; details]';

COMMENT ON COLUMN github_budget.learned_seconds IS 'Server time that slowness was learned from. [product; any request]';

CREATE FUNCTION budget_of_v1(who text, is_dry_run boolean) RETURNS github_budget
    LANGUAGE plpgsql
    AS $$
DECLARE
    budget github_budget;
BEGIN
    IF is_dry_run THEN
        SELECT * INTO budget FROM github_budget WHERE identity = who;
        RETURN budget;
    END IF;
    LOOP
        SELECT * INTO budget FROM github_budget WHERE identity = who FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO github_budget (identity) VALUES (who) ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN budget;
END $$;

COMMENT ON FUNCTION budget_of_v1(who text, is_dry_run boolean) IS 'The budget of an identity, locked; for a dry run as it is.';

CREATE FUNCTION budget_present_v1(INOUT budget github_budget, at timestamp with time zone) RETURNS github_budget
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    -- The governor sleeps for a slot a minute ahead at most. A slot is one request, of some seconds.
    longest_schedule CONSTANT interval := '10 minutes';
    -- LONGEST_WINDOW_SECONDS and LONGEST_WAIT_SECONDS of backfill/limits.py.
    longest_window CONSTANT interval := '61 minutes';
    longest_block CONSTANT interval := '24 hours';
BEGIN
    -- The block was set relative to the clock of then. The time of the last change tells by how much the clock went back.
    IF budget.updated_at > at THEN
        budget.blocked_until := budget.blocked_until - (budget.updated_at - at);
    END IF;
    IF budget.blocked_until > at + longest_block THEN budget.blocked_until := at + longest_block; END IF;
    IF budget.free_at > at + longest_schedule THEN budget.free_at := at + longest_schedule; END IF;
    IF budget.put_off_until > at + longest_schedule THEN budget.put_off_until := at + longest_schedule; END IF;
    IF budget.reset_at > at + longest_window THEN budget.reset_at := at + longest_window; END IF;
END $$;

COMMENT ON FUNCTION budget_present_v1(INOUT budget github_budget, at timestamp with time zone) IS 'A budget as it counts at a time: times that lie too far ahead are clamped.';

CREATE FUNCTION budget_reserve_v1(who text, points integer, expected_seconds double precision, longest_wait_seconds double precision, share double precision, floor_share double precision, is_dry_run boolean, INOUT at timestamp with time zone DEFAULT NULL::timestamp with time zone, OUT granted boolean, OUT wait_seconds double precision, OUT reason text, OUT turn_seconds double precision, OUT slot double precision, OUT points_window integer) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
    -- GitHub's points come back after an hour. GitHub names the time with the next reply.
    points_period CONSTANT interval := '1 hour';
    -- For a reset that is due in this moment, and for one that is not known.
    shortest_points_wait CONSTANT float8 := 0.05;
    unknown_reset_wait CONSTANT float8 := 60;
    -- A deferred chunk returns this long before a slot that it may sleep for, and after longest_turn at most: GitHub may be faster
    -- by then.
    turn_lead CONSTANT float8 := 2.5;
    longest_turn CONSTANT float8 := 20;
    -- Part of a slot between the turns of two deferred chunks. Below 1, in case slots turn out shorter.
    turn_spread CONSTANT float8 := 0.75;
    budget github_budget;
    slot_at_share float8;
    block_wait float8;
    points_wait float8 := 0;
    slot_wait float8;
    turn_at timestamptz;
BEGIN
    budget := budget_of_v1(who, is_dry_run);
    -- After the lock, which may take time.
    at := COALESCE(at, clock_timestamp());
    budget := budget_present_v1(budget, at);
    IF budget.reset_at <= at THEN
        -- A new window is full. Reservations of the old one do not count in it.
        budget.remaining := budget.points_limit;
        budget.reserved := 0;
        budget.reset_at := at + points_period;
        budget.window_number := budget.window_number + 1;
    END IF;

    slot := expected_seconds * COALESCE(budget.slowness, 1);
    slot_at_share := slot / share;
    block_wait := GREATEST(0, EXTRACT(epoch FROM budget.blocked_until - at));
    -- Points that are not known yet are not waited for.
    IF budget.remaining - budget.reserved - points < floor_share * budget.points_limit THEN
        points_wait := GREATEST(shortest_points_wait, COALESCE(EXTRACT(epoch FROM budget.reset_at - at), unknown_reset_wait));
    END IF;
    -- Server time is a schedule: a slot begins when those before it have ended.
    slot_wait := GREATEST(0, EXTRACT(epoch FROM budget.free_at - at));
    granted := block_wait = 0 AND points_wait = 0 AND slot_wait <= longest_wait_seconds;
    points_window := COALESCE(budget.window_number, 0);
    wait_seconds := CASE WHEN granted THEN slot_wait ELSE GREATEST(block_wait, points_wait, slot_wait) END;
    reason := CASE WHEN block_wait > 0 THEN 'blocked by a ' || COALESCE(budget.block_reason, '') || ' rate limit'
                   WHEN points_wait > 0 THEN 'points are at their floor'
                   ELSE 'server time' END;

    IF granted THEN
        budget.reserved := budget.reserved + points;
        budget.free_at := GREATEST(budget.free_at, at) + make_interval(secs => slot_at_share);
    ELSIF block_wait = 0 AND points_wait = 0 THEN
        -- Each deferred chunk returns a little after the one before it.
        turn_at := LEAST(
            at + make_interval(secs => longest_turn),
            GREATEST(at + make_interval(secs => GREATEST(slot_wait - turn_lead, slot_wait / 2)),
                     budget.put_off_until + make_interval(secs => LEAST(turn_spread * slot_at_share, turn_lead))));
        budget.put_off_until := turn_at;
        turn_seconds := EXTRACT(epoch FROM turn_at - at);
    END IF;

    IF NOT is_dry_run THEN
        UPDATE github_budget SET
            remaining = budget.remaining, reserved = budget.reserved, reset_at = budget.reset_at,
            window_number = budget.window_number, free_at = budget.free_at, blocked_until = budget.blocked_until,
            put_off_until = budget.put_off_until, updated_at = at
        WHERE identity = who;
    END IF;
END $$;

COMMENT ON FUNCTION budget_reserve_v1(who text, points integer, expected_seconds double precision, longest_wait_seconds double precision, share double precision, floor_share double precision, is_dry_run boolean, INOUT at timestamp with time zone, OUT granted boolean, OUT wait_seconds double precision, OUT reason text, OUT turn_seconds double precision, OUT slot double precision, OUT points_window integer) IS 'Reserves points and server time for a request, or says why not and for how long.';

CREATE FUNCTION budget_settle_v1(who text, points_window integer, points integer, spent integer, slot double precision, expected_seconds double precision, took_seconds double precision, share double precision, succeeded boolean, reported_limit integer, reported_remaining integer, reported_reset_seconds double precision, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    -- Expected server time that the learned slowness rests on, at most. What is older weighs less.
    longest_memory CONSTANT float8 := 15;
    -- A reply that took longer than this multiple of its expectation tells nothing more.
    slowest CONSTANT float8 := 20;
    -- GitHub tells times to a second. A reset that is this much later belongs to another window.
    same_window CONSTANT interval := '1 minute';
    -- Points without a reset come back after GitHub's hour.
    points_period CONSTANT interval := '1 hour';
    budget github_budget;
    reported_reset_at timestamptz;
    began_at timestamptz;
BEGIN
    budget := budget_of_v1(who, false);
    at := COALESCE(at, clock_timestamp());
    budget := budget_present_v1(budget, at);
    began_at := at - make_interval(secs => took_seconds);
    reported_reset_at := at + make_interval(secs => reported_reset_seconds);

    IF budget.window_number = points_window THEN
        budget.reserved := GREATEST(0, budget.reserved - points);
    END IF;

    -- A request that began later than its slot (a stalled worker) is followed by its own pause: there is no time to catch up.
    budget.free_at := GREATEST(
        budget.free_at + make_interval(secs => (took_seconds - slot) / share),
        at + make_interval(secs => took_seconds * (1 / share - 1)));

    -- A request tells how slow GitHub is as far as it was expected to take long. A small one mostly travels.
    IF succeeded THEN
        budget.slowness := budget.slowness
            + (LEAST(slowest * expected_seconds, took_seconds) - budget.slowness * expected_seconds)
              / (expected_seconds + budget.learned_seconds);
        budget.learned_seconds := LEAST(longest_memory, budget.learned_seconds + expected_seconds);
    END IF;

    -- Replies overtake each other. Within a window the smallest remaining is the latest. Times are rounded up on their way, so the
    -- earliest reset is the truest.
    budget.points_limit := COALESCE(reported_limit, budget.points_limit);
    IF reported_remaining IS NULL THEN
        budget.remaining := budget.remaining - LEAST(budget.remaining, spent);
    ELSIF reported_reset_at > budget.reset_at + same_window THEN
        budget.remaining := reported_remaining;
    ELSE
        budget.remaining := LEAST(budget.remaining, reported_remaining);
    END IF;
    IF reported_reset_at > budget.reset_at + same_window THEN
        budget.reset_at := reported_reset_at;
    ELSE
        budget.reset_at := LEAST(budget.reset_at, reported_reset_at);
    END IF;
    IF budget.reset_at IS NULL AND reported_remaining IS NOT NULL THEN
        budget.reset_at := at + points_period;
    END IF;

    -- A success proves the end of a block only if its request began after it.
    IF succeeded AND budget.blocked_until < began_at THEN
        budget.blocks_in_a_row := 0;
    END IF;

    UPDATE github_budget SET
        reserved = budget.reserved, free_at = budget.free_at, slowness = budget.slowness,
        learned_seconds = budget.learned_seconds, points_limit = budget.points_limit, remaining = budget.remaining,
        reset_at = budget.reset_at, blocked_until = budget.blocked_until, put_off_until = budget.put_off_until,
        blocks_in_a_row = budget.blocks_in_a_row, updated_at = at
    WHERE identity = who;
END $$;

COMMENT ON FUNCTION budget_settle_v1(who text, points_window integer, points integer, spent integer, slot double precision, expected_seconds double precision, took_seconds double precision, share double precision, succeeded boolean, reported_limit integer, reported_remaining integer, reported_reset_seconds double precision, at timestamp with time zone) IS 'Gives a reservation back and stores what GitHub reported.';

CREATE FUNCTION count_backfill_hour() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    present_hour CONSTANT timestamptz := date_trunc('hour', now(), 'UTC');
    more_pull_requests CONSTANT integer := GREATEST(0, NEW.current_prs - OLD.current_prs);
    more_points CONSTANT integer := GREATEST(0, NEW.points_spent - OLD.points_spent);
BEGIN
    UPDATE backfill_hours SET pull_requests = pull_requests + more_pull_requests, points = points + more_points
    WHERE backfill_state_id = NEW.id AND hour = present_hour;
    IF NOT FOUND THEN
        INSERT INTO backfill_hours (backfill_state_id, hour, pull_requests, points)
        VALUES (NEW.id, present_hour, more_pull_requests, more_points);
        DELETE FROM backfill_hours WHERE backfill_state_id = NEW.id AND hour < now() - interval '90 days';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION count_pull_requests_deleted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE progressive_backfill_state AS s SET listed_prs = s.listed_prs - d.listed, current_prs = s.current_prs - d.current
    FROM (SELECT repository_id, count(*) FILTER (WHERE gone_at IS NULL) AS listed,
                 count(*) FILTER (WHERE gone_at IS NULL AND detail_updated_at >= updated_at AND incomplete IS NULL) AS current
          FROM old_rows GROUP BY repository_id) AS d
    WHERE s.repository_id = d.repository_id;
    RETURN NULL;
END $$;

CREATE FUNCTION count_pull_requests_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION count_pull_requests_truncated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE progressive_backfill_state SET listed_prs = 0, current_prs = 0 WHERE (listed_prs, current_prs) <> (0, 0);
    RETURN NULL;
END $$;

CREATE FUNCTION count_pull_requests_updated() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION explain_metadata() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF jsonb_typeof(NEW.metadata) <> 'object' THEN
        RAISE EXCEPTION 'metadata must be an object, and is % (metadata_is_an_object)', left(NEW.metadata::text, 100)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'metadata_is_an_object',
                  HINT = 'Write {"priority": "high"}, "normal" or "low".';
    END IF;
    IF COALESCE(NEW.metadata ->> 'priority', 'normal') NOT IN ('high', 'normal', 'low') THEN
        RAISE EXCEPTION 'priority must be high, normal or low, and is % (priority_is_high_normal_or_low)',
                        left((NEW.metadata -> 'priority')::text, 100)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'priority_is_high_normal_or_low',
                  HINT = 'Write jsonb_set(metadata, ''{priority}'', ''"high"''), ''"normal"'' or ''"low"''.';
    END IF;
    IF COALESCE(NEW.metadata ->> 'timeline', 'on') NOT IN ('on', 'off') THEN
        RAISE EXCEPTION 'timeline must be on or off, and is % (timeline_is_on_or_off)',
                        left((NEW.metadata -> 'timeline')::text, 100)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'timeline_is_on_or_off',
                  HINT = 'Write jsonb_set(metadata, ''{timeline}'', ''"on"'') or ''"off"''. Without it the stack''s default holds.';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION keep_backfill_state() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION keep_chunk_members() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION note_backfill_progress() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.progressed_at := now();
    RETURN NEW;
END $$;

CREATE FUNCTION note_removed_backfill() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO removed_repositories (full_name)
    SELECT lower(owner || '/' || name) FROM repositories WHERE id = OLD.repository_id
    ON CONFLICT (full_name) DO UPDATE SET removed_at = now();
    RETURN OLD;
END $$;

CREATE FUNCTION note_removed_repository() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO removed_repositories (full_name)
    SELECT lower(OLD.owner || '/' || OLD.name)
    WHERE EXISTS (SELECT FROM progressive_backfill_state WHERE repository_id = OLD.id)
    ON CONFLICT (full_name) DO UPDATE SET removed_at = now();
    RETURN OLD;
END $$;

CREATE FUNCTION persons_pause_wins() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.pause_reason := 'manual';
    NEW.paused_until := NULL;
    RETURN NEW;
END $$;

CREATE FUNCTION persons_pause_with_a_reason_wins() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.paused_until := NULL;
    RETURN NEW;
END $$;

CREATE FUNCTION place_file() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    SELECT COALESCE(max(position) + 1, 0) INTO NEW.position FROM files
    WHERE repository_id = NEW.repository_id AND pull_request_number = NEW.pull_request_number;
    RETURN NEW;
END $$;

CREATE FUNCTION release_chunks_of_pause() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE backfill_chunks SET available_at = now(), sent_at = NULL, dispatch_id = gen_random_uuid()
    WHERE backfill_state_id = NEW.id AND status = 'pending' AND available_at > now()
      AND error_code IN ('bad_credentials', 'forbidden', 'repository_unavailable');
    RETURN NULL;
END $$;

CREATE FUNCTION touch_chunk() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TABLE backfill_chunk_members (
    backfill_state_id uuid NOT NULL,
    number integer NOT NULL,
    chunk_id uuid NOT NULL
);

COMMENT ON TABLE backfill_chunk_members IS 'Pull requests of unfinished chunks. The key keeps a pull request out of a second one. [product; trigger]';

COMMENT ON COLUMN backfill_chunk_members.backfill_state_id IS 'The backfill. [product; trigger]';

COMMENT ON COLUMN backfill_chunk_members.number IS 'The pull request. [product; trigger]';

COMMENT ON COLUMN backfill_chunk_members.chunk_id IS 'The chunk. [product; trigger]';

CREATE TABLE backfill_chunks (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    backfill_state_id uuid NOT NULL,
    repository_id uuid NOT NULL,
    chunk_number integer NOT NULL,
    pr_numbers integer[] NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    origin text DEFAULT 'planner'::text NOT NULL,
    dispatch_id uuid DEFAULT gen_random_uuid() NOT NULL,
    available_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    claim_token uuid,
    lease_expires_at timestamp with time zone,
    started_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    completed_at timestamp with time zone,
    failed_at timestamp with time zone,
    error text,
    error_code text,
    points integer DEFAULT 0 NOT NULL,
    requests integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    CONSTRAINT backfill_chunks_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT backfill_chunks_origin_check CHECK ((origin = ANY (ARRAY['planner'::text, 'message'::text]))),
    CONSTRAINT backfill_chunks_pr_numbers_check CHECK (((cardinality(pr_numbers) >= 1) AND (cardinality(pr_numbers) <= 500))),
    CONSTRAINT backfill_chunks_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text]))),
    CONSTRAINT completed_has_a_time CHECK (((status = 'completed'::text) = (completed_at IS NOT NULL))),
    CONSTRAINT failed_has_a_reason CHECK (((status <> 'failed'::text) OR ((error IS NOT NULL) AND (error_code IS NOT NULL)))),
    CONSTRAINT failed_has_a_time CHECK (((status = 'failed'::text) = (failed_at IS NOT NULL))),
    CONSTRAINT processing_has_a_claim CHECK (((status = 'processing'::text) = (claim_token IS NOT NULL))),
    CONSTRAINT processing_has_a_lease CHECK (((status = 'processing'::text) = (lease_expires_at IS NOT NULL))),
    CONSTRAINT processing_has_started CHECK (((status <> 'processing'::text) OR ((started_at IS NOT NULL) AND (attempts > 0))))
);

COMMENT ON TABLE backfill_chunks IS 'Chunks: sets of pull requests that one worker reads. Each row is also the outbox record of its message. [product; planner, worker]';

COMMENT ON COLUMN backfill_chunks.id IS 'Key of the chunk. [product; planner]';

COMMENT ON COLUMN backfill_chunks.backfill_state_id IS 'The backfill. [product; planner]';

COMMENT ON COLUMN backfill_chunks.repository_id IS 'The repository. [product; planner]';

COMMENT ON COLUMN backfill_chunks.chunk_number IS 'Number within the backfill, from 1. [product; planner]';

COMMENT ON COLUMN backfill_chunks.pr_numbers IS 'Numbers of the pull requests. [product; planner]';

COMMENT ON COLUMN backfill_chunks.status IS 'pending, processing, completed or failed. [product; worker, recovery]';

COMMENT ON COLUMN backfill_chunks.origin IS 'planner: cut from the listing. message: a sync request. [product; planner, worker]';

COMMENT ON COLUMN backfill_chunks.dispatch_id IS 'The dispatch that may claim the chunk. A message with another id is outdated. [product; planner, worker, recovery]';

COMMENT ON COLUMN backfill_chunks.available_at IS 'The chunk may not be sent or claimed before this time. [product; planner, worker]';

COMMENT ON COLUMN backfill_chunks.sent_at IS 'When SQS accepted the dispatch. Null: the message is not sent yet. [product; planner, worker, recovery]';

COMMENT ON COLUMN backfill_chunks.claim_token IS 'Proof of the worker that claimed the chunk. Null unless processing. [product; worker]';

COMMENT ON COLUMN backfill_chunks.lease_expires_at IS 'When the claim ends. Null unless processing. [product; worker]';

COMMENT ON COLUMN backfill_chunks.started_at IS 'When it was last claimed. Null before the first claim. [product; worker]';

COMMENT ON COLUMN backfill_chunks.attempts IS 'Failed or running attempts. Five make the chunk failed. [product; worker]';

COMMENT ON COLUMN backfill_chunks.completed_at IS 'When it was completed. Null unless completed. [product; worker]';

COMMENT ON COLUMN backfill_chunks.failed_at IS 'When it failed for good. Null unless failed. [product; worker, recovery]';

COMMENT ON COLUMN backfill_chunks.error IS 'Text of the last error or note. [product; worker, recovery]';

COMMENT ON COLUMN backfill_chunks.error_code IS 'The same as a word; docs/operations.md lists them. [product; worker, recovery]';

COMMENT ON COLUMN backfill_chunks.points IS 'GitHub points of all attempts. [RateLimit.cost; worker]';

COMMENT ON COLUMN backfill_chunks.requests IS 'Requests to GitHub of all attempts. [product; worker]';

COMMENT ON COLUMN backfill_chunks.created_at IS 'When the chunk was cut. [product; planner]';

COMMENT ON COLUMN backfill_chunks.updated_at IS 'When the row last changed. [product; trigger]';

COMMENT ON COLUMN backfill_chunks.deferrals IS 'How often it was deferred. Each makes the next message wait longer. [product; worker]';

CREATE TABLE backfill_hours (
    backfill_state_id uuid NOT NULL,
    hour timestamp with time zone NOT NULL,
    pull_requests integer NOT NULL,
    points integer NOT NULL
);

COMMENT ON TABLE backfill_hours IS 'What each backfill did in each hour of the last 90 days. An hour without work has no row. [product; trigger]';

COMMENT ON COLUMN backfill_hours.backfill_state_id IS 'The backfill. [product; trigger]';

COMMENT ON COLUMN backfill_hours.hour IS 'When the hour began. [product; trigger]';

COMMENT ON COLUMN backfill_hours.pull_requests IS 'Pull requests whose details became current. [product; trigger]';

COMMENT ON COLUMN backfill_hours.points IS 'GitHub points. [RateLimit.cost; trigger]';

CREATE TABLE progressive_backfill_state (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    repository_id uuid NOT NULL,
    total_prs integer DEFAULT 0 NOT NULL,
    processed_prs integer DEFAULT 0 NOT NULL,
    current_prs integer DEFAULT 0 NOT NULL,
    listed_prs integer DEFAULT 0 NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    last_processed_cursor text,
    last_processed_at timestamp with time zone,
    chunk_size integer DEFAULT 25 NOT NULL,
    consecutive_errors integer DEFAULT 0 NOT NULL,
    error_count integer DEFAULT 0 NOT NULL,
    last_error text,
    last_error_at timestamp with time zone,
    metadata jsonb DEFAULT '{"priority": "normal"}'::jsonb NOT NULL,
    pause_reason text,
    paused_until timestamp with time zone,
    next_chunk_number integer DEFAULT 1 NOT NULL,
    max_chunks integer DEFAULT 10 NOT NULL,
    listing_started_at timestamp with time zone,
    listing_completed_at timestamp with time zone,
    updates_watermark timestamp with time zone,
    examined_at timestamp with time zone,
    points_spent bigint DEFAULT 0 NOT NULL,
    requests_made bigint DEFAULT 0 NOT NULL,
    planner_token uuid,
    planner_lease_expires_at timestamp with time zone,
    plan_requested_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    progressed_at timestamp with time zone DEFAULT now() NOT NULL,
    planned_at timestamp with time zone,
    deferred_until timestamp with time zone,
    activated_at timestamp with time zone DEFAULT now() NOT NULL,
    unlisted_prs integer DEFAULT 0 NOT NULL,
    scan_cursor text,
    scan_until timestamp with time zone,
    listing_page_size integer DEFAULT 100 NOT NULL,
    outage_counted_at timestamp with time zone,
    idle_runs integer DEFAULT 0 NOT NULL,
    asked_at timestamp with time zone,
    next_check_at timestamp with time zone DEFAULT now() NOT NULL,
    reads_timeline boolean DEFAULT false NOT NULL,
    timeline_to_mark boolean DEFAULT false NOT NULL,
    CONSTRAINT metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT priority_is_high_normal_or_low CHECK ((COALESCE((metadata ->> 'priority'::text), 'normal'::text) = ANY (ARRAY['high'::text, 'normal'::text, 'low'::text]))),
    CONSTRAINT progressive_backfill_state_check CHECK (((planner_token IS NULL) = (planner_lease_expires_at IS NULL))),
    CONSTRAINT progressive_backfill_state_check1 CHECK (((status = 'paused'::text) OR ((pause_reason IS NULL) AND (paused_until IS NULL)))),
    CONSTRAINT progressive_backfill_state_chunk_size_check CHECK (((chunk_size >= 1) AND (chunk_size <= 100))),
    CONSTRAINT progressive_backfill_state_listing_page_size_check CHECK (((listing_page_size >= 1) AND (listing_page_size <= 100))),
    CONSTRAINT progressive_backfill_state_max_chunks_check CHECK ((max_chunks >= 1)),
    CONSTRAINT progressive_backfill_state_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'completed'::text]))),
    CONSTRAINT progressive_backfill_state_total_prs_check CHECK ((total_prs >= 0))
);

COMMENT ON TABLE progressive_backfill_state IS 'One backfill per repository: how far it is, what it waits for, what went wrong. [product; planner, worker]';

COMMENT ON COLUMN progressive_backfill_state.id IS 'Key of the backfill. [product; add]';

COMMENT ON COLUMN progressive_backfill_state.repository_id IS 'The repository. [product; add]';

COMMENT ON COLUMN progressive_backfill_state.total_prs IS 'Pull requests that GitHub counts. 0 before the first listing page. [Repository.pullRequests.totalCount; add, listing]';

COMMENT ON COLUMN progressive_backfill_state.processed_prs IS 'Pull requests whose details are stored, current and whole. Never more than total_prs. [product; trigger]';

COMMENT ON COLUMN progressive_backfill_state.current_prs IS 'The same without the bound total_prs. [product; trigger]';

COMMENT ON COLUMN progressive_backfill_state.listed_prs IS 'Pull requests with a row that GitHub still has. [product; trigger]';

COMMENT ON COLUMN progressive_backfill_state.status IS 'active, paused or completed. [product; any change]';

COMMENT ON COLUMN progressive_backfill_state.last_processed_cursor IS 'Cursor after the newest listing page that is stored. Null before the first. [PageInfo.endCursor; listing]';

COMMENT ON COLUMN progressive_backfill_state.last_processed_at IS 'When a listing page or a chunk was last stored. [product; listing, details]';

COMMENT ON COLUMN progressive_backfill_state.chunk_size IS 'Pull requests in a chunk, 1 to 100. [product; add]';

COMMENT ON COLUMN progressive_backfill_state.consecutive_errors IS 'Errors since the last success. Three pause the backfill. [product; worker, planner]';

COMMENT ON COLUMN progressive_backfill_state.error_count IS 'Errors since the beginning. [product; worker, planner]';

COMMENT ON COLUMN progressive_backfill_state.last_error IS 'Text of the last error. Null if there was none. [product; worker, planner]';

COMMENT ON COLUMN progressive_backfill_state.last_error_at IS 'When the last error happened. [product; worker, planner]';

COMMENT ON COLUMN progressive_backfill_state.metadata IS 'Settings by name: {"priority": "high", "order": "oldest_first", "timeline": "on"}. [product; add, operator]';

COMMENT ON COLUMN progressive_backfill_state.pause_reason IS 'Why it is paused: manual, consecutive_errors, bad_credentials, forbidden and others. Null unless paused. [product; any pause]';

COMMENT ON COLUMN progressive_backfill_state.paused_until IS 'When the pause ends by itself. Null for a person''s pause. [product; any pause]';

COMMENT ON COLUMN progressive_backfill_state.next_chunk_number IS 'Number of the next chunk. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.max_chunks IS 'Chunks that may be outstanding. [product; add, planner]';

COMMENT ON COLUMN progressive_backfill_state.listing_started_at IS 'When the current or last walk of the whole listing began. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.listing_completed_at IS 'When that walk ended. Null while it goes on. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.updates_watermark IS 'Every change up to this time is known. GitHub''s clock. [PullRequest.updatedAt; listing]';

COMMENT ON COLUMN progressive_backfill_state.examined_at IS 'When GitHub last answered a check for changes. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.points_spent IS 'GitHub points of all requests for this backfill. [RateLimit.cost; planner, worker]';

COMMENT ON COLUMN progressive_backfill_state.requests_made IS 'Requests to GitHub for this backfill. [product; planner, worker]';

COMMENT ON COLUMN progressive_backfill_state.planner_token IS 'The planner run that holds the backfill now. Null if none does. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.planner_lease_expires_at IS 'When that right ends. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.plan_requested_at IS 'When a plan request was last sent that no planner has answered. [product; worker, planner]';

COMMENT ON COLUMN progressive_backfill_state.created_at IS 'When the backfill was added. [product; add]';

COMMENT ON COLUMN progressive_backfill_state.updated_at IS 'When the row last changed. [product; trigger]';

COMMENT ON COLUMN progressive_backfill_state.progressed_at IS 'When it last made progress: a page, a current pull request, a change of status. [product; trigger]';

COMMENT ON COLUMN progressive_backfill_state.planned_at IS 'When a planner last worked on it. Null: the next planner run takes it first. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.deferred_until IS 'Until when planning waits for GitHub''s budget. Null if it does not wait. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.activated_at IS 'When it last became active. [product; trigger]';

COMMENT ON COLUMN progressive_backfill_state.unlisted_prs IS 'Pull requests that GitHub counts and does not list, as two whole walks confirmed. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.scan_cursor IS 'Cursor after the last page of a refresh that is under way. [PageInfo.endCursor; listing]';

COMMENT ON COLUMN progressive_backfill_state.scan_until IS 'Every change up to this time is known when that refresh ends. Null if none is under way. [product; listing]';

COMMENT ON COLUMN progressive_backfill_state.listing_page_size IS 'Pull requests of a listing page, 1 to 100. Smaller after GitHub could not answer. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.outage_counted_at IS 'When the outage began that was counted last. One outage is one error. [product; worker]';

COMMENT ON COLUMN progressive_backfill_state.idle_runs IS 'Planner runs in a row without progress. Each makes the next plan request wait longer. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.asked_at IS 'When GitHub was last asked for changes, answered or not. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.next_check_at IS 'When a completed backfill is due for a check for changes: at once if something changed within a week, else later. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.reads_timeline IS 'Whether workers read timelines: the metadata''s timeline, on or off, else the stack''s Timeline, as of the planner''s last run. [product; planner]';

COMMENT ON COLUMN progressive_backfill_state.timeline_to_mark IS 'Whether the planner still has to mark pull requests that were read without a timeline. [product; planner]';

CREATE TABLE pull_requests (
    repository_id uuid NOT NULL,
    number integer NOT NULL,
    node_id text NOT NULL,
    github_id bigint,
    url text NOT NULL,
    title text NOT NULL,
    body text,
    state text NOT NULL,
    is_draft boolean NOT NULL,
    locked boolean NOT NULL,
    merged boolean NOT NULL,
    created_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    merged_at timestamp with time zone,
    additions integer,
    deletions integer,
    changed_files integer,
    author_association text,
    author_id text,
    merged_by_id text,
    base_ref_name text NOT NULL,
    base_ref_oid text,
    head_ref_name text NOT NULL,
    head_ref_oid text,
    is_cross_repository boolean NOT NULL,
    head_repository text,
    merge_commit_oid text,
    milestone_number integer,
    milestone_title text,
    total_comments_count integer,
    labels_count integer DEFAULT 0 NOT NULL,
    assignees_count integer DEFAULT 0 NOT NULL,
    review_requests_count integer DEFAULT 0 NOT NULL,
    closing_issues_count integer DEFAULT 0 NOT NULL,
    comments_count integer DEFAULT 0 NOT NULL,
    reviews_count integer DEFAULT 0 NOT NULL,
    review_threads_count integer DEFAULT 0 NOT NULL,
    commits_count integer DEFAULT 0 NOT NULL,
    files_count integer DEFAULT 0 NOT NULL,
    listed_at timestamp with time zone DEFAULT now() NOT NULL,
    detail_synced_at timestamp with time zone,
    detail_updated_at timestamp with time zone,
    detail_error text,
    detail_error_code text,
    detail_failed_at timestamp with time zone,
    gone_at timestamp with time zone,
    incomplete jsonb,
    incomplete_reads integer DEFAULT 0 NOT NULL,
    read_again_at timestamp with time zone,
    denied_at timestamp with time zone,
    timeline_updated_at timestamp with time zone,
    CONSTRAINT pull_requests_check CHECK (((detail_synced_at IS NULL) = (detail_updated_at IS NULL))),
    CONSTRAINT pull_requests_check1 CHECK (((detail_error IS NULL) = (detail_failed_at IS NULL))),
    CONSTRAINT pull_requests_number_check CHECK ((number > 0)),
    CONSTRAINT pull_requests_state_check CHECK ((state = ANY (ARRAY['OPEN'::text, 'CLOSED'::text, 'MERGED'::text])))
);

COMMENT ON TABLE pull_requests IS 'Pull requests. The listing inserts a row; the worker completes it with the details. [GitHub; listing, details]';

COMMENT ON COLUMN pull_requests.repository_id IS 'The repository. [product; listing]';

COMMENT ON COLUMN pull_requests.number IS 'Number within the repository. Issues share these numbers. [PullRequest.number; listing]';

COMMENT ON COLUMN pull_requests.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [PullRequest.id; listing]';

COMMENT ON COLUMN pull_requests.github_id IS 'GitHub''s number of the pull request, unique on the server. [PullRequest.fullDatabaseId; listing]';

COMMENT ON COLUMN pull_requests.url IS 'Address of the pull request''s page. [PullRequest.url; listing]';

COMMENT ON COLUMN pull_requests.title IS 'Title. [PullRequest.title; listing]';

COMMENT ON COLUMN pull_requests.body IS 'Description, as Markdown. Null before the details are stored. [PullRequest.body; details]';

COMMENT ON COLUMN pull_requests.state IS 'OPEN, CLOSED or MERGED. [PullRequest.state; listing]';

COMMENT ON COLUMN pull_requests.is_draft IS 'True if the pull request is a draft. [PullRequest.isDraft; listing]';

COMMENT ON COLUMN pull_requests.locked IS 'True if the conversation is locked. [PullRequest.locked; listing]';

COMMENT ON COLUMN pull_requests.merged IS 'True if the pull request was merged. [PullRequest.merged; listing]';

COMMENT ON COLUMN pull_requests.created_at IS 'When it was opened. Null if GitHub gives an impossible date. [PullRequest.createdAt; listing]';

COMMENT ON COLUMN pull_requests.updated_at IS 'When it last changed on GitHub. [PullRequest.updatedAt; listing]';

COMMENT ON COLUMN pull_requests.closed_at IS 'When it was closed or merged. Null while open. [PullRequest.closedAt; listing]';

COMMENT ON COLUMN pull_requests.merged_at IS 'When it was merged. Null if it was not. [PullRequest.mergedAt; listing]';

COMMENT ON COLUMN pull_requests.additions IS 'Added lines. Null if GitHub gives an impossible number. [PullRequest.additions; listing]';

COMMENT ON COLUMN pull_requests.deletions IS 'Deleted lines. Null if GitHub gives an impossible number. [PullRequest.deletions; listing]';

COMMENT ON COLUMN pull_requests.changed_files IS 'Number of changed files, also of those beyond GitHub''s limit. [PullRequest.changedFiles; listing]';

COMMENT ON COLUMN pull_requests.author_association IS 'Relation of the author to the repository: MEMBER, CONTRIBUTOR, FIRST_TIME_CONTRIBUTOR, NONE and others. [PullRequest.authorAssociation; listing]';

COMMENT ON COLUMN pull_requests.author_id IS 'Author. Null if the account was deleted. [PullRequest.author; listing]';

COMMENT ON COLUMN pull_requests.merged_by_id IS 'Who merged it. Null if it is not merged, or the account was deleted. [PullRequest.mergedBy; details]';

COMMENT ON COLUMN pull_requests.base_ref_name IS 'Branch that it merges into. [PullRequest.baseRefName; listing]';

COMMENT ON COLUMN pull_requests.base_ref_oid IS 'Commit of the base branch. [PullRequest.baseRefOid; listing]';

COMMENT ON COLUMN pull_requests.head_ref_name IS 'Branch that it comes from. [PullRequest.headRefName; listing]';

COMMENT ON COLUMN pull_requests.head_ref_oid IS 'Newest commit of the pull request. [PullRequest.headRefOid; listing]';

COMMENT ON COLUMN pull_requests.is_cross_repository IS 'True if it comes from a fork. [PullRequest.isCrossRepository; listing]';

COMMENT ON COLUMN pull_requests.head_repository IS 'Repository that it comes from, as owner/name. Null if that was deleted or is hidden. [PullRequest.headRepository.nameWithOwner; listing]';

COMMENT ON COLUMN pull_requests.merge_commit_oid IS 'Commit on the base branch. Null if it is not merged. [PullRequest.mergeCommit.oid; details]';

COMMENT ON COLUMN pull_requests.milestone_number IS 'Number of the milestone. Null if there is none. [PullRequest.milestone.number; details]';

COMMENT ON COLUMN pull_requests.milestone_title IS 'Title of the milestone. Null if there is none. [PullRequest.milestone.title; details]';

COMMENT ON COLUMN pull_requests.total_comments_count IS 'All comments, as GitHub counts them. [PullRequest.totalCommentsCount; listing]';

COMMENT ON COLUMN pull_requests.labels_count IS 'Labels, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.labels.totalCount; listing]';

COMMENT ON COLUMN pull_requests.assignees_count IS 'Assignees, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.assignees.totalCount; listing]';

COMMENT ON COLUMN pull_requests.review_requests_count IS 'Open review requests, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviewRequests.totalCount; listing]';

COMMENT ON COLUMN pull_requests.closing_issues_count IS 'Issues that it closes, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.closingIssuesReferences.totalCount; listing]';

COMMENT ON COLUMN pull_requests.comments_count IS 'Issue comments, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.comments.totalCount; listing]';

COMMENT ON COLUMN pull_requests.reviews_count IS 'Reviews, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviews.totalCount; listing]';

COMMENT ON COLUMN pull_requests.review_threads_count IS 'Review threads, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviewThreads.totalCount; listing]';

COMMENT ON COLUMN pull_requests.commits_count IS 'Commits, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.commits.totalCount; listing]';

COMMENT ON COLUMN pull_requests.files_count IS 'Changed files, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.changedFiles; listing]';

COMMENT ON COLUMN pull_requests.listed_at IS 'When GitHub last showed it. [product; listing, details]';

COMMENT ON COLUMN pull_requests.detail_synced_at IS 'When the details were stored. Null before that. [product; details]';

COMMENT ON COLUMN pull_requests.detail_updated_at IS 'The updated_at that the stored details have. Older than updated_at: the details are outdated. [product; details]';

COMMENT ON COLUMN pull_requests.detail_error IS 'Why the details could not be read. Null if nothing failed. [product; details]';

COMMENT ON COLUMN pull_requests.detail_error_code IS 'The same as a word; docs/operations.md lists them. [product; details]';

COMMENT ON COLUMN pull_requests.detail_failed_at IS 'When reading the details failed. It is retried after a day, or when the pull request changes. [product; details]';

COMMENT ON COLUMN pull_requests.gone_at IS 'When GitHub no longer had it. Null while GitHub has it. Exclude these rows in reports. [product; listing, details]';

COMMENT ON COLUMN pull_requests.incomplete IS 'Missing places as [{"place", "code", "reason"}]. Null if the pull request is whole. [product; details]';

COMMENT ON COLUMN pull_requests.incomplete_reads IS 'How often it was read with the same gap. [product; details]';

COMMENT ON COLUMN pull_requests.read_again_at IS 'When an incomplete pull request is read again. Null if it is whole. [product; details]';

COMMENT ON COLUMN pull_requests.denied_at IS 'When GitHub last answered NOT_FOUND as it was to be read. Null once it is read, and once it has changed. [product; details]';

COMMENT ON COLUMN pull_requests.timeline_updated_at IS 'The updated_at that the stored timeline has. Null: none was read. Older than detail_updated_at: the timeline was off since. [product; details]';

CREATE TABLE repositories (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    node_id text NOT NULL,
    github_id bigint,
    owner text NOT NULL,
    name text NOT NULL,
    previous_names text[] DEFAULT '{}'::text[] NOT NULL,
    url text,
    is_private boolean DEFAULT false NOT NULL,
    is_fork boolean DEFAULT false NOT NULL,
    is_archived boolean DEFAULT false NOT NULL,
    default_branch text,
    github_created_at timestamp with time zone,
    unavailable_since timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    detail_request_size real,
    detail_request_ceiling real,
    name_taken_at timestamp with time zone,
    CONSTRAINT repositories_detail_request_ceiling_check CHECK ((detail_request_ceiling >= (1)::double precision)),
    CONSTRAINT repositories_detail_request_size_check CHECK ((detail_request_size >= (1)::double precision))
);

COMMENT ON TABLE repositories IS 'A tracked repository. It keeps its id through renames, transfers and new node ids. [GitHub; add]';

COMMENT ON COLUMN repositories.id IS 'Key of the product. Every other table refers to it. [product; add]';

COMMENT ON COLUMN repositories.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [Repository.id; add, listing]';

COMMENT ON COLUMN repositories.github_id IS 'GitHub''s number of the repository. It never changes. [Repository.databaseId; add, listing]';

COMMENT ON COLUMN repositories.owner IS 'Login of the user or organization. [Repository.owner.login; add, listing]';

COMMENT ON COLUMN repositories.name IS 'Name without the owner. [Repository.name; add, listing]';

COMMENT ON COLUMN repositories.previous_names IS 'Earlier names as owner/name, oldest first. [product; listing]';

COMMENT ON COLUMN repositories.url IS 'Address of the repository''s page. [Repository.url; add, listing]';

COMMENT ON COLUMN repositories.is_private IS 'True if the repository is private. [Repository.isPrivate; add, listing]';

COMMENT ON COLUMN repositories.is_fork IS 'True if the repository is a fork. [Repository.isFork; add, listing]';

COMMENT ON COLUMN repositories.is_archived IS 'True if the repository is archived. [Repository.isArchived; add, listing]';

COMMENT ON COLUMN repositories.default_branch IS 'Name of the default branch. Null in an empty repository. [Repository.defaultBranchRef.name; add, listing]';

COMMENT ON COLUMN repositories.github_created_at IS 'When the repository was created on GitHub. [Repository.createdAt; add, listing]';

COMMENT ON COLUMN repositories.unavailable_since IS 'When GitHub first said that it has no such repository. Null while it is available. [product; any request]';

COMMENT ON COLUMN repositories.created_at IS 'When the row was inserted. [product; add]';

COMMENT ON COLUMN repositories.updated_at IS 'When the row last changed. [product; any change]';

COMMENT ON COLUMN repositories.detail_request_size IS 'Pull requests that one detail request may hold, as learned so far. Null while unknown. [product; details]';

COMMENT ON COLUMN repositories.detail_request_ceiling IS 'A request size that GitHub refused. The learned size stays below it for a while. Null if GitHub refused none. [product; details]';

COMMENT ON COLUMN repositories.name_taken_at IS 'When GitHub said that another repository has this name. Null if this one has it. [product; listing]';

CREATE VIEW backfill_progress AS
 SELECT s.repository_id,
    ((r.owner || '/'::text) || r.name) AS repository,
    s.status,
    (s.metadata ->> 'priority'::text) AS priority,
    s.total_prs,
    s.listed_prs,
    s.processed_prs,
    f.failed_prs,
    round(((100.0 * (s.processed_prs)::numeric) / (NULLIF(s.total_prs, 0))::numeric), 1) AS percent,
    s.points_spent,
    h.prs_per_hour,
    w.waiting_until,
        CASE
            WHEN ((s.status = 'active'::text) AND (w.waiting_until IS NULL) AND (h.prs_per_hour > (0)::numeric)) THEN (now() + make_interval(secs => (((3600.0 * (GREATEST((((s.total_prs - s.processed_prs) - f.failed_prs) - i.incomplete_prs), (0)::bigint))::numeric) / h.prs_per_hour))::double precision))
            ELSE NULL::timestamp with time zone
        END AS estimated_finish,
    s.pause_reason,
    s.paused_until,
    s.consecutive_errors,
    s.last_error,
    s.last_processed_at,
    i.incomplete_prs
   FROM (((((((progressive_backfill_state s
     JOIN repositories r ON ((r.id = s.repository_id)))
     CROSS JOIN LATERAL ( SELECT count(*) AS failed_prs
           FROM pull_requests p
          WHERE ((p.repository_id = s.repository_id) AND (p.detail_failed_at IS NOT NULL) AND (p.gone_at IS NULL))) f)
     CROSS JOIN LATERAL ( SELECT count(*) AS incomplete_prs
           FROM pull_requests p
          WHERE ((p.repository_id = s.repository_id) AND (p.incomplete IS NOT NULL) AND (p.detail_failed_at IS NULL) AND (p.gone_at IS NULL))) i)
     CROSS JOIN LATERAL ( SELECT GREATEST(s.activated_at, (now() - '01:00:00'::interval)) AS since) m)
     CROSS JOIN LATERAL ( SELECT round((((count(*))::numeric * 3600.0) / GREATEST(EXTRACT(epoch FROM (now() - m.since)), (1)::numeric))) AS prs_per_hour
           FROM pull_requests p
          WHERE ((p.repository_id = s.repository_id) AND (p.detail_synced_at > m.since))) h)
     CROSS JOIN LATERAL ( SELECT min(
                CASE
                    WHEN (c_1.status = 'pending'::text) THEN c_1.available_at
                    ELSE now()
                END) AS next_chunk_at
           FROM backfill_chunks c_1
          WHERE ((c_1.backfill_state_id = s.id) AND (c_1.status = ANY (ARRAY['pending'::text, 'processing'::text])))) c)
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN ((s.status = 'active'::text) AND (COALESCE(c.next_chunk_at, s.deferred_until) > (now() + '00:00:05'::interval))) THEN COALESCE(c.next_chunk_at, s.deferred_until)
                    ELSE NULL::timestamp with time zone
                END AS waiting_until) w);

COMMENT ON VIEW backfill_progress IS 'Progress of each backfill, for people. [view; on reading]';

COMMENT ON COLUMN backfill_progress.repository_id IS 'The repository. [product; on reading]';

COMMENT ON COLUMN backfill_progress.repository IS 'owner/name. [product; on reading]';

COMMENT ON COLUMN backfill_progress.status IS 'active, paused or completed. [product; on reading]';

COMMENT ON COLUMN backfill_progress.priority IS 'high, normal or low. [product; on reading]';

COMMENT ON COLUMN backfill_progress.total_prs IS 'Pull requests that GitHub counts. [product; on reading]';

COMMENT ON COLUMN backfill_progress.listed_prs IS 'Pull requests with a row that GitHub still has. [product; on reading]';

COMMENT ON COLUMN backfill_progress.processed_prs IS 'Pull requests whose details are stored, current and whole. [product; on reading]';

COMMENT ON COLUMN backfill_progress.failed_prs IS 'Pull requests whose details could not be read. [product; on reading]';

COMMENT ON COLUMN backfill_progress.percent IS 'processed_prs of total_prs, with one decimal. Null if total_prs is 0. [product; on reading]';

COMMENT ON COLUMN backfill_progress.points_spent IS 'GitHub points so far. [product; on reading]';

COMMENT ON COLUMN backfill_progress.prs_per_hour IS 'Rate of the last hour, or since the backfill became active. [product; on reading]';

COMMENT ON COLUMN backfill_progress.waiting_until IS 'When work resumes, if all of it waits for a limit or a retry. [product; on reading]';

COMMENT ON COLUMN backfill_progress.estimated_finish IS 'Expected finish at the present rate. Null while it is not active, waits or makes no progress. [product; on reading]';

COMMENT ON COLUMN backfill_progress.pause_reason IS 'Why it is paused. Null unless paused. [product; on reading]';

COMMENT ON COLUMN backfill_progress.paused_until IS 'When the pause ends by itself. Null for a person''s pause. [product; on reading]';

COMMENT ON COLUMN backfill_progress.consecutive_errors IS 'Errors since the last success. [product; on reading]';

COMMENT ON COLUMN backfill_progress.last_error IS 'Text of the last error. [product; on reading]';

COMMENT ON COLUMN backfill_progress.last_processed_at IS 'When a listing page or a chunk was last stored. [product; on reading]';

COMMENT ON COLUMN backfill_progress.incomplete_prs IS 'Pull requests that are stored with a known gap. [product; on reading]';

CREATE TABLE comments (
    node_id text NOT NULL,
    kind text NOT NULL,
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    github_id bigint,
    body text NOT NULL,
    author_id text,
    author_association text,
    url text NOT NULL,
    created_at timestamp with time zone,
    updated_at timestamp with time zone,
    review_id text,
    in_reply_to_id bigint,
    path text,
    "position" integer,
    line integer,
    original_line integer,
    diff_hunk text,
    commit_oid text,
    original_commit_oid text,
    outdated boolean,
    CONSTRAINT comments_kind_check CHECK ((kind = ANY (ARRAY['issue_comment'::text, 'review_comment'::text])))
);

COMMENT ON TABLE comments IS 'Comments in the conversation and on the diff. [GitHub; details]';

COMMENT ON COLUMN comments.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [IssueComment.id, PullRequestReviewComment.id; details]';

COMMENT ON COLUMN comments.kind IS 'issue_comment: in the conversation. review_comment: on the diff. [product; details]';

COMMENT ON COLUMN comments.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN comments.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN comments.github_id IS 'GitHub''s number of the comment. [IssueComment.fullDatabaseId, PullRequestReviewComment.fullDatabaseId; details]';

COMMENT ON COLUMN comments.body IS 'Text, as Markdown. [IssueComment.body, PullRequestReviewComment.body; details]';

COMMENT ON COLUMN comments.author_id IS 'Author. Null if the account was deleted. [IssueComment.author, PullRequestReviewComment.author; details]';

COMMENT ON COLUMN comments.author_association IS 'Relation of the author to the repository. [IssueComment.authorAssociation, PullRequestReviewComment.authorAssociation; details]';

COMMENT ON COLUMN comments.url IS 'Address of the comment. [IssueComment.url, PullRequestReviewComment.url; details]';

COMMENT ON COLUMN comments.created_at IS 'When it was written. Null if GitHub gives an impossible date. [IssueComment.createdAt, PullRequestReviewComment.createdAt; details]';

COMMENT ON COLUMN comments.updated_at IS 'When it last changed. Null if GitHub gives an impossible date. [IssueComment.updatedAt, PullRequestReviewComment.updatedAt; details]';

COMMENT ON COLUMN comments.review_id IS 'Node id of its review. Null for issue comments. It is not a foreign key: GitHub may show a comment before its review. [PullRequestReviewComment.pullRequestReview.id; details]';

COMMENT ON COLUMN comments.in_reply_to_id IS 'github_id of the comment that it answers. Null for issue comments and the first comment of a thread. [PullRequestReviewComment.replyTo.fullDatabaseId; details]';

COMMENT ON COLUMN comments.path IS 'File that it is about. Null for issue comments. [PullRequestReviewComment.path; details]';

COMMENT ON COLUMN comments."position" IS 'Line in the diff. Null for issue comments and outdated comments. [PullRequestReviewComment.position; details]';

COMMENT ON COLUMN comments.line IS 'Line in the file. Null for issue comments and outdated comments. [PullRequestReviewComment.line; details]';

COMMENT ON COLUMN comments.original_line IS 'Line in the file when the comment was written. Null for issue comments. [PullRequestReviewComment.originalLine; details]';

COMMENT ON COLUMN comments.diff_hunk IS 'The part of the diff that it is about. Null for issue comments. [PullRequestReviewComment.diffHunk; details]';

COMMENT ON COLUMN comments.commit_oid IS 'Commit that it is about. Null for issue comments. [PullRequestReviewComment.commit.oid; details]';

COMMENT ON COLUMN comments.original_commit_oid IS 'Commit that it was written on. Null for issue comments. [PullRequestReviewComment.originalCommit.oid; details]';

COMMENT ON COLUMN comments.outdated IS 'True if a later commit changed the line. Null for issue comments. [PullRequestReviewComment.outdated; details]';

CREATE TABLE commits (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    oid text NOT NULL,
    "position" integer NOT NULL,
    message_headline text NOT NULL,
    author_name text,
    author_id text,
    authored_date timestamp with time zone,
    committed_date timestamp with time zone
);

COMMENT ON TABLE commits IS 'Commits of pull requests. GitHub shows 250 of a pull request at most. [GitHub; details]';

COMMENT ON COLUMN commits.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN commits.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN commits.oid IS 'Hash of the commit. [Commit.oid; details]';

COMMENT ON COLUMN commits."position" IS 'Place in the pull request, from 0. [product; details]';

COMMENT ON COLUMN commits.message_headline IS 'First line of the message. [Commit.messageHeadline; details]';

COMMENT ON COLUMN commits.author_name IS 'Name that git recorded. [Commit.author.name; details]';

COMMENT ON COLUMN commits.author_id IS 'GitHub account of the author. Null if the e-mail address belongs to no account. [Commit.author.user; details]';

COMMENT ON COLUMN commits.authored_date IS 'When it was written, by git. Null if the date is impossible. [Commit.authoredDate; details]';

COMMENT ON COLUMN commits.committed_date IS 'When it was committed, by git. Null if the date is impossible. [Commit.committedDate; details]';

CREATE TABLE contributors (
    node_id text NOT NULL,
    type text NOT NULL,
    github_id bigint,
    login text NOT NULL,
    avatar_url text,
    url text,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    other_node_id text,
    account_id bigint
);

COMMENT ON TABLE contributors IS 'People, bots, mannequins, organizations and teams that appear anywhere in a pull request. A deleted user has no row. [GitHub; listing, details]';

COMMENT ON COLUMN contributors.node_id IS 'GitHub''s global node id, in the form that came first. Of an actor without one: type and login. [Node.id; listing, details]';

COMMENT ON COLUMN contributors.type IS 'User, Bot, Mannequin, Organization, EnterpriseUserAccount or Team. [Actor.__typename; listing, details]';

COMMENT ON COLUMN contributors.github_id IS 'GitHub''s number of the account. Null where GitHub gives none. [User.databaseId; listing, details]';

COMMENT ON COLUMN contributors.login IS 'Login. Of a team: organization/team. [Actor.login; listing, details]';

COMMENT ON COLUMN contributors.avatar_url IS 'Address of the picture. [Actor.avatarUrl; listing, details]';

COMMENT ON COLUMN contributors.url IS 'Address of the profile. [Actor.url; listing, details]';

COMMENT ON COLUMN contributors.first_seen_at IS 'When the row was inserted. [product; listing, details]';

COMMENT ON COLUMN contributors.other_node_id IS 'The same id in GitHub''s other form. Null if GitHub has shown one form only. [Node.id; listing, details]';

COMMENT ON COLUMN contributors.account_id IS 'github_id, unique within a type. Null in a second row that older versions stored for one account. [User.databaseId; listing, details]';

CREATE TABLE files (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    path text NOT NULL,
    change_type text NOT NULL,
    additions integer,
    deletions integer,
    "position" integer NOT NULL
);

COMMENT ON TABLE files IS 'Changed files of pull requests. GitHub shows 3,000 of a pull request at most. [GitHub; details]';

COMMENT ON COLUMN files.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN files.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN files.path IS 'Path in the repository. A path may stand in two rows: deleted and added again. [PullRequestChangedFile.path; details]';

COMMENT ON COLUMN files.change_type IS 'ADDED, DELETED, MODIFIED, RENAMED, COPIED or CHANGED. [PullRequestChangedFile.changeType; details]';

COMMENT ON COLUMN files.additions IS 'Added lines. Null if GitHub gives an impossible number. [PullRequestChangedFile.additions; details]';

COMMENT ON COLUMN files.deletions IS 'Deleted lines. Null if GitHub gives an impossible number. [PullRequestChangedFile.deletions; details]';

COMMENT ON COLUMN files."position" IS 'Place in the pull request, from 0. [product; details]';

CREATE TABLE github_hours (
    identity text NOT NULL,
    hour timestamp with time zone NOT NULL,
    requests integer NOT NULL,
    server_seconds double precision NOT NULL,
    check_points integer DEFAULT 0 NOT NULL
);

COMMENT ON TABLE github_hours IS 'What each GitHub identity used in each hour of the last 90 days. An hour without a request has no row. [product; any request]';

COMMENT ON COLUMN github_hours.identity IS 'Key of github_budget. [User.login; any request]';

COMMENT ON COLUMN github_hours.hour IS 'When the hour began. [product; any request]';

COMMENT ON COLUMN github_hours.requests IS 'Requests that were sent. [product; any request]';

COMMENT ON COLUMN github_hours.server_seconds IS 'Time that GitHub took for them, in seconds. [product; any request]';

COMMENT ON COLUMN github_hours.check_points IS 'Points that checks for changes of completed backfills took. [RateLimit.cost; planner]';

CREATE TABLE github_installations (
    identity text NOT NULL,
    app_id text NOT NULL,
    account text NOT NULL,
    former_account text,
    repository_selection text NOT NULL,
    suspended_at timestamp with time zone,
    lacks text[] NOT NULL,
    listed_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE github_installations IS 'The installations of the GitHub App, as GitHub listed them last. Each has a budget of its own. [product; any request]';

COMMENT ON COLUMN github_installations.identity IS 'Key of github_budget: installation:ID. [product; any request]';

COMMENT ON COLUMN github_installations.app_id IS 'The App. [product; any request]';

COMMENT ON COLUMN github_installations.account IS 'Login of the user or organisation on which the App is installed. [product; any request]';

COMMENT ON COLUMN github_installations.former_account IS 'Its login before it was renamed. Repositories keep it until GitHub answers for them. Null if it was not renamed. [product; any request]';

COMMENT ON COLUMN github_installations.repository_selection IS 'all or selected repositories of the account. [product; any request]';

COMMENT ON COLUMN github_installations.suspended_at IS 'Since when the account suspends the App. Null while it does not. [product; any request]';

COMMENT ON COLUMN github_installations.lacks IS 'Permissions that the product needs and the account did not grant. [product; any request]';

COMMENT ON COLUMN github_installations.listed_at IS 'When GitHub listed it. [product; any request]';

CREATE TABLE github_tokens (
    token_sha256 text NOT NULL,
    identity text NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE github_tokens IS 'Which identity a token belongs to, so that a new container need not ask. [product; first request]';

COMMENT ON COLUMN github_tokens.token_sha256 IS 'SHA-256 of the token. The token itself is stored nowhere. [product; first request]';

COMMENT ON COLUMN github_tokens.identity IS 'Key of github_budget. [User.login; first request]';

COMMENT ON COLUMN github_tokens.first_seen_at IS 'When the row was inserted. [product; first request]';

CREATE TABLE github_withheld (
    identity text NOT NULL,
    part text NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE github_withheld IS 'Parts of queries that an identity may not ask for, because its token lacks a scope. [product; any refusal]';

COMMENT ON COLUMN github_withheld.identity IS 'Key of github_budget. [User.login; any refusal]';

COMMENT ON COLUMN github_withheld.part IS 'Name of the part. [product; any refusal]';

COMMENT ON COLUMN github_withheld.reason IS 'GitHub''s words. [product; any refusal]';

COMMENT ON COLUMN github_withheld.since IS 'When GitHub first refused it. [product; any refusal]';

CREATE TABLE labels (
    node_id text NOT NULL,
    repository_id uuid NOT NULL,
    name text NOT NULL,
    color text NOT NULL,
    other_node_id text
);

COMMENT ON TABLE labels IS 'Labels that pull requests of a repository have. [GitHub; details]';

COMMENT ON COLUMN labels.node_id IS 'GitHub''s global node id, in the form that came first. [Label.id; details]';

COMMENT ON COLUMN labels.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN labels.name IS 'Name of the label. [Label.name; details]';

COMMENT ON COLUMN labels.color IS 'Color, as six hexadecimal digits. [Label.color; details]';

COMMENT ON COLUMN labels.other_node_id IS 'The same id in GitHub''s other form. Null if GitHub has shown one form only. [Label.id; details]';

CREATE TABLE organisation_repositories (
    organisation_id uuid NOT NULL,
    github_id bigint NOT NULL,
    repository_id uuid,
    full_name text NOT NULL,
    is_fork boolean NOT NULL,
    is_archived boolean NOT NULL,
    total_prs integer NOT NULL,
    left_out text,
    listing_number integer NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    joined_at timestamp with time zone,
    gone_at timestamp with time zone,
    CONSTRAINT organisation_repositories_left_out_check CHECK ((left_out = ANY (ARRAY['fork'::text, 'archived'::text, 'name'::text])))
);

COMMENT ON TABLE organisation_repositories IS 'Repositories that the lists of tracked organisations have shown. [product; planner]';

COMMENT ON COLUMN organisation_repositories.organisation_id IS 'The organisation. [product; planner]';

COMMENT ON COLUMN organisation_repositories.github_id IS 'GitHub''s number of the repository. [Repository.databaseId; planner]';

COMMENT ON COLUMN organisation_repositories.repository_id IS 'The repository that joined. Null if it did not join, or its data is deleted. [product; planner]';

COMMENT ON COLUMN organisation_repositories.full_name IS 'owner/name at the last listing that showed it. [Repository.nameWithOwner; planner]';

COMMENT ON COLUMN organisation_repositories.is_fork IS 'Whether it is a fork. [Repository.isFork; planner]';

COMMENT ON COLUMN organisation_repositories.is_archived IS 'Whether it is archived. [Repository.isArchived; planner]';

COMMENT ON COLUMN organisation_repositories.total_prs IS 'Pull requests that GitHub counted at the last listing. [PullRequestConnection.totalCount; planner]';

COMMENT ON COLUMN organisation_repositories.left_out IS 'Why the rule leaves it out: fork, archived or name. Null if it fits. [product; planner]';

COMMENT ON COLUMN organisation_repositories.listing_number IS 'The last listing that showed it. [product; planner]';

COMMENT ON COLUMN organisation_repositories.first_seen_at IS 'When a listing first showed it. [product; planner]';

COMMENT ON COLUMN organisation_repositories.joined_at IS 'When its backfill began, or was found. A repository joins once: one that you remove stays away. Null if it did not join. [product; planner]';

COMMENT ON COLUMN organisation_repositories.gone_at IS 'When a whole listing no longer showed it: deleted, transferred or hidden. Null while it is shown. [product; planner]';

CREATE TABLE planner_round (
    is_only_row boolean DEFAULT true NOT NULL,
    began_at timestamp with time zone,
    idle_runs integer DEFAULT 0 NOT NULL,
    continues_at timestamp with time zone,
    CONSTRAINT planner_round_is_only_row_check CHECK (is_only_row)
);

COMMENT ON TABLE planner_round IS 'One row: the planner''s round over all backfills. [product; planner]';

COMMENT ON COLUMN planner_round.is_only_row IS 'Always true. It keeps the table at one row. [product; planner]';

COMMENT ON COLUMN planner_round.began_at IS 'When the round began. Null: no round is under way. [product; planner]';

COMMENT ON COLUMN planner_round.idle_runs IS 'Runs of the round in a row that planned and checked nothing. [product; planner]';

COMMENT ON COLUMN planner_round.continues_at IS 'When the message arrives that continues the round. Null: none is on its way. [product; planner]';

CREATE TABLE pull_request_assignees (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    contributor_id text NOT NULL
);

COMMENT ON TABLE pull_request_assignees IS 'Who is assigned to a pull request. [GitHub; details]';

COMMENT ON COLUMN pull_request_assignees.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN pull_request_assignees.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN pull_request_assignees.contributor_id IS 'The assignee. [PullRequest.assignees; details]';

CREATE TABLE pull_request_closing_issues (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    issue_repository text NOT NULL,
    issue_number integer NOT NULL
);

COMMENT ON TABLE pull_request_closing_issues IS 'Issues that merging the pull request closes. [GitHub; details]';

COMMENT ON COLUMN pull_request_closing_issues.repository_id IS 'The repository of the pull request. [product; details]';

COMMENT ON COLUMN pull_request_closing_issues.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN pull_request_closing_issues.issue_repository IS 'The repository of the issue, as owner/name. [Issue.repository.nameWithOwner; details]';

COMMENT ON COLUMN pull_request_closing_issues.issue_number IS 'The issue. [Issue.number; details]';

CREATE TABLE pull_request_numbers (
    repository_id uuid NOT NULL,
    number integer NOT NULL,
    refused_code text,
    refused_reason text,
    refusals integer DEFAULT 0 NOT NULL,
    ask_again_at timestamp with time zone
);

COMMENT ON TABLE pull_request_numbers IS 'Numbers that GitHub has as pull requests. They are kept apart from the rows, so that a lost row shows as a gap. [product; trigger, planner]';

COMMENT ON COLUMN pull_request_numbers.repository_id IS 'The repository. [product; trigger, planner]';

COMMENT ON COLUMN pull_request_numbers.number IS 'The number. [PullRequest.number; trigger, planner]';

COMMENT ON COLUMN pull_request_numbers.refused_code IS 'Why GitHub does not list it, as a word. Null if it is listed. [product; planner]';

COMMENT ON COLUMN pull_request_numbers.refused_reason IS 'The same as text. [product; planner]';

COMMENT ON COLUMN pull_request_numbers.refusals IS 'How often GitHub did not give it. [product; planner]';

COMMENT ON COLUMN pull_request_numbers.ask_again_at IS 'When it is asked for again. Null if it is listed. [product; planner]';

CREATE VIEW pull_request_gaps AS
 SELECT n.repository_id,
    ((r.owner || '/'::text) || r.name) AS repository,
    n.number,
        CASE
            WHEN (p.number IS NULL) THEN 'row missing'::text
            WHEN (p.detail_failed_at IS NOT NULL) THEN 'failed'::text
            WHEN (p.incomplete IS NOT NULL) THEN 'incomplete'::text
            WHEN (p.detail_updated_at IS NULL) THEN 'detail missing'::text
            ELSE 'detail outdated'::text
        END AS reason,
        CASE
            WHEN (p.number IS NULL) THEN n.refused_code
            WHEN (p.detail_failed_at IS NOT NULL) THEN p.detail_error_code
            ELSE (p.incomplete #>> '{0,code}'::text[])
        END AS error_code,
        CASE
            WHEN (p.number IS NULL) THEN n.refused_reason
            WHEN (p.detail_failed_at IS NOT NULL) THEN p.detail_error
            ELSE ( SELECT string_agg((((f.value ->> 'place'::text) || ': '::text) || (f.value ->> 'reason'::text)), '; '::text) AS string_agg
               FROM jsonb_array_elements(p.incomplete) f(value))
        END AS error
   FROM ((pull_request_numbers n
     JOIN repositories r ON ((r.id = n.repository_id)))
     LEFT JOIN pull_requests p ON (((p.repository_id = n.repository_id) AND (p.number = n.number))))
  WHERE ((p.number IS NULL) OR (p.detail_updated_at IS NULL) OR (p.detail_updated_at < p.updated_at) OR (p.incomplete IS NOT NULL));

COMMENT ON VIEW pull_request_gaps IS 'Pull requests that GitHub has and the database lacks, in whole or in part. [view; on reading]';

COMMENT ON COLUMN pull_request_gaps.repository_id IS 'The repository. [product; on reading]';

COMMENT ON COLUMN pull_request_gaps.repository IS 'owner/name. [product; on reading]';

COMMENT ON COLUMN pull_request_gaps.number IS 'The pull request. [product; on reading]';

COMMENT ON COLUMN pull_request_gaps.reason IS 'row missing, failed, incomplete, detail missing or detail outdated. [product; on reading]';

COMMENT ON COLUMN pull_request_gaps.error_code IS 'The reason as a word; docs/operations.md lists them. Null if nothing went wrong. [product; on reading]';

COMMENT ON COLUMN pull_request_gaps.error IS 'The reason as text. Null if nothing went wrong. [product; on reading]';

CREATE TABLE pull_request_labels (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    label_id text NOT NULL
);

COMMENT ON TABLE pull_request_labels IS 'Which labels a pull request has. [GitHub; details]';

COMMENT ON COLUMN pull_request_labels.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN pull_request_labels.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN pull_request_labels.label_id IS 'The label. [Label.id; details]';

CREATE TABLE pull_request_review_requests (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    contributor_id text NOT NULL
);

COMMENT ON TABLE pull_request_review_requests IS 'Whose review is requested now. GitHub removes a request when the review arrives. [GitHub; details]';

COMMENT ON COLUMN pull_request_review_requests.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN pull_request_review_requests.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN pull_request_review_requests.contributor_id IS 'The requested user, bot or team. [ReviewRequest.requestedReviewer; details]';

CREATE VIEW pull_requests_lacking_detail AS
 SELECT repository_id,
    number,
    created_at,
    total_comments_count,
    labels_count,
    assignees_count,
    review_requests_count,
    closing_issues_count,
    comments_count,
    reviews_count,
    review_threads_count,
    commits_count,
    files_count
   FROM pull_requests
  WHERE ((gone_at IS NULL) AND ((detail_updated_at IS NULL) OR (detail_updated_at < updated_at)) AND ((detail_failed_at IS NULL) OR (detail_failed_at < (now() - '24:00:00'::interval))));

COMMENT ON VIEW pull_requests_lacking_detail IS 'Pull requests that a worker has to read: their details are missing or outdated, and did not fail within the last day. [view; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.repository_id IS 'The repository. [product; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.number IS 'Number within the repository. Issues share these numbers. [PullRequest.number; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.created_at IS 'When it was opened. Null if GitHub gives an impossible date. [PullRequest.createdAt; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.total_comments_count IS 'All comments, as GitHub counts them. [PullRequest.totalCommentsCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.labels_count IS 'Labels, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.labels.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.assignees_count IS 'Assignees, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.assignees.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.review_requests_count IS 'Open review requests, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviewRequests.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.closing_issues_count IS 'Issues that it closes, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.closingIssuesReferences.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.comments_count IS 'Issue comments, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.comments.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.reviews_count IS 'Reviews, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviews.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.review_threads_count IS 'Review threads, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviewThreads.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.commits_count IS 'Commits, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.commits.totalCount; on reading]';

COMMENT ON COLUMN pull_requests_lacking_detail.files_count IS 'Changed files, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.changedFiles; on reading]';

CREATE TABLE removed_repositories (
    full_name text NOT NULL,
    removed_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE removed_repositories IS 'Names of removed backfills, so that their late messages are acknowledged. [product; trigger]';

COMMENT ON COLUMN removed_repositories.full_name IS 'owner/name, in lower case. [product; trigger]';

COMMENT ON COLUMN removed_repositories.removed_at IS 'When the backfill was removed. [product; trigger]';

CREATE TABLE requested_names (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    owner text NOT NULL,
    name text NOT NULL,
    chunk_size integer,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    ask_at timestamp with time zone DEFAULT now() NOT NULL,
    reason text,
    is_refused boolean DEFAULT false NOT NULL,
    given_up_at timestamp with time zone,
    CONSTRAINT requested_names_chunk_size_check CHECK (((chunk_size >= 1) AND (chunk_size <= 100))),
    CONSTRAINT requested_names_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text))
);

COMMENT ON TABLE requested_names IS 'Names that were added while GitHub could not answer. The planner asks again. [product; add]';

COMMENT ON COLUMN requested_names.id IS 'Key. [product; add]';

COMMENT ON COLUMN requested_names.owner IS 'Login of the owner, as it was typed. [product; add]';

COMMENT ON COLUMN requested_names.name IS 'Name of the repository, as it was typed. [product; add]';

COMMENT ON COLUMN requested_names.chunk_size IS 'Chunk size that was asked for. Null: the default. [product; add]';

COMMENT ON COLUMN requested_names.metadata IS 'JSON object for the backfill. [product; add]';

COMMENT ON COLUMN requested_names.requested_at IS 'When the name was added. [product; add]';

COMMENT ON COLUMN requested_names.ask_at IS 'When the planner asks GitHub next. [product; add, planner]';

COMMENT ON COLUMN requested_names.reason IS 'Why it is not a backfill yet. Null before the first answer. [product; add, planner]';

COMMENT ON COLUMN requested_names.is_refused IS 'True if GitHub does not know the name or hides it. [product; planner]';

COMMENT ON COLUMN requested_names.given_up_at IS 'When the planner stopped asking. Null while it asks. [product; planner]';

CREATE TABLE review_threads (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    "position" integer NOT NULL,
    node_id text NOT NULL,
    is_resolved boolean NOT NULL,
    resolved_by_id text,
    is_outdated boolean NOT NULL,
    path text NOT NULL,
    line integer,
    original_line integer
);

COMMENT ON TABLE review_threads IS 'Threads of review comments, and whether they are resolved. Only where the timeline is read. [GitHub; details]';

COMMENT ON COLUMN review_threads.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN review_threads.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN review_threads."position" IS 'Place in GitHub''s order, from 0. [product; details]';

COMMENT ON COLUMN review_threads.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [PullRequestReviewThread.id; details]';

COMMENT ON COLUMN review_threads.is_resolved IS 'Whether the thread is resolved. [PullRequestReviewThread.isResolved; details]';

COMMENT ON COLUMN review_threads.resolved_by_id IS 'Who resolved it. Null if it is not resolved, or the account was deleted. [PullRequestReviewThread.resolvedBy; details]';

COMMENT ON COLUMN review_threads.is_outdated IS 'Whether its line has changed since. [PullRequestReviewThread.isOutdated; details]';

COMMENT ON COLUMN review_threads.path IS 'File. [PullRequestReviewThread.path; details]';

COMMENT ON COLUMN review_threads.line IS 'Line in the file. Null for the whole file, and if the line is gone. [PullRequestReviewThread.line; details]';

COMMENT ON COLUMN review_threads.original_line IS 'Line at the time of the first comment. Null for the whole file. [PullRequestReviewThread.originalLine; details]';

CREATE TABLE reviews (
    node_id text NOT NULL,
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    github_id bigint,
    state text NOT NULL,
    body text,
    author_id text,
    author_association text,
    commit_oid text,
    url text NOT NULL,
    created_at timestamp with time zone,
    submitted_at timestamp with time zone,
    updated_at timestamp with time zone
);

COMMENT ON TABLE reviews IS 'Reviews of pull requests. [GitHub; details]';

COMMENT ON COLUMN reviews.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [PullRequestReview.id; details]';

COMMENT ON COLUMN reviews.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN reviews.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN reviews.github_id IS 'GitHub''s number of the review. [PullRequestReview.fullDatabaseId; details]';

COMMENT ON COLUMN reviews.state IS 'APPROVED, CHANGES_REQUESTED, COMMENTED, DISMISSED or PENDING. [PullRequestReview.state; details]';

COMMENT ON COLUMN reviews.body IS 'Text of the review, as Markdown. Often empty. [PullRequestReview.body; details]';

COMMENT ON COLUMN reviews.author_id IS 'Reviewer. Null if the account was deleted. [PullRequestReview.author; details]';

COMMENT ON COLUMN reviews.author_association IS 'Relation of the reviewer to the repository. [PullRequestReview.authorAssociation; details]';

COMMENT ON COLUMN reviews.commit_oid IS 'Commit that was reviewed. Null if it no longer exists. [PullRequestReview.commit.oid; details]';

COMMENT ON COLUMN reviews.url IS 'Address of the review. [PullRequestReview.url; details]';

COMMENT ON COLUMN reviews.created_at IS 'When the review was begun. [PullRequestReview.createdAt; details]';

COMMENT ON COLUMN reviews.submitted_at IS 'When the review was submitted. Null while it is pending. [PullRequestReview.submittedAt; details]';

COMMENT ON COLUMN reviews.updated_at IS 'When the review last changed. [PullRequestReview.updatedAt; details]';

CREATE TABLE timeline_events (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    "position" integer NOT NULL,
    node_id text NOT NULL,
    kind text NOT NULL,
    actor_id text,
    subject_id text,
    subject text,
    before_oid text,
    after_oid text,
    created_at timestamp with time zone,
    CONSTRAINT timeline_events_kind_check CHECK ((kind = ANY (ARRAY['review_requested'::text, 'review_request_removed'::text, 'ready_for_review'::text, 'convert_to_draft'::text, 'head_ref_force_pushed'::text, 'labeled'::text, 'unlabeled'::text, 'assigned'::text, 'unassigned'::text, 'merged'::text, 'closed'::text, 'reopened'::text])))
);

COMMENT ON TABLE timeline_events IS 'What happened to a pull request, in GitHub''s order. Only where the timeline is read. [GitHub; details]';

COMMENT ON COLUMN timeline_events.repository_id IS 'The repository. [product; details]';

COMMENT ON COLUMN timeline_events.pull_request_number IS 'The pull request. [PullRequest.number; details]';

COMMENT ON COLUMN timeline_events."position" IS 'Place in the timeline, from 0. [product; details]';

COMMENT ON COLUMN timeline_events.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [Node.id; details]';

COMMENT ON COLUMN timeline_events.kind IS 'What happened, by GitHub''s name of the event in lower case. [PullRequest.timelineItems.nodes; details]';

COMMENT ON COLUMN timeline_events.actor_id IS 'Who did it. Null if the account was deleted. [ReviewRequestedEvent.actor; details]';

COMMENT ON COLUMN timeline_events.subject_id IS 'The reviewer or team that was requested, or the assignee. Null for other events, and for a deleted account. [ReviewRequestedEvent.requestedReviewer, AssignedEvent.assignee; details]';

COMMENT ON COLUMN timeline_events.subject IS 'The name of the label, or the login of the reviewer or assignee when it was read. A team is organisation/team. Null for other events. [LabeledEvent.label.name, Actor.login, Team.combinedSlug; details]';

COMMENT ON COLUMN timeline_events.before_oid IS 'The head before a force push. Null for other events, and if GitHub no longer has the commit. [HeadRefForcePushedEvent.beforeCommit.oid; details]';

COMMENT ON COLUMN timeline_events.after_oid IS 'The head after a force push. Null as before_oid. [HeadRefForcePushedEvent.afterCommit.oid; details]';

COMMENT ON COLUMN timeline_events.created_at IS 'When it happened. Null if GitHub gives an impossible date. [ReviewRequestedEvent.createdAt; details]';

CREATE TABLE tracked_organisations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    node_id text,
    login text NOT NULL,
    is_user boolean,
    rule jsonb NOT NULL,
    chunk_size integer,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    listing_number integer DEFAULT 0 NOT NULL,
    listing_cursor text,
    listing_started_at timestamp with time zone,
    listed_at timestamp with time zone,
    asked_at timestamp with time zone,
    total_repositories integer,
    hidden_repositories integer,
    reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT rule_is_whole CHECK ((NOT ((((jsonb_typeof((rule -> 'include'::text)) IS DISTINCT FROM 'array'::text) OR (jsonb_typeof((rule -> 'exclude'::text)) IS DISTINCT FROM 'array'::text)) OR (jsonb_typeof((rule -> 'forks'::text)) IS DISTINCT FROM 'boolean'::text)) OR (jsonb_typeof((rule -> 'archived'::text)) IS DISTINCT FROM 'boolean'::text)))),
    CONSTRAINT tracked_organisations_chunk_size_check CHECK (((chunk_size >= 1) AND (chunk_size <= 100))),
    CONSTRAINT tracked_organisations_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text))
);

COMMENT ON TABLE tracked_organisations IS 'Organisations and users whose repositories are tracked. New repositories that fit the rule join. [product; operator]';

COMMENT ON COLUMN tracked_organisations.id IS 'Key. [product; operator]';

COMMENT ON COLUMN tracked_organisations.node_id IS 'GitHub''s key. Null until GitHub has answered. [RepositoryOwner.id; planner]';

COMMENT ON COLUMN tracked_organisations.login IS 'Its name at the last listing. [RepositoryOwner.login; planner]';

COMMENT ON COLUMN tracked_organisations.is_user IS 'Whether it is a user. Null until GitHub has answered. [RepositoryOwner.__typename; planner]';

COMMENT ON COLUMN tracked_organisations.rule IS 'Which repositories join: {"include": [globs], "exclude": [globs], "forks": boolean, "archived": boolean}. [product; operator]';

COMMENT ON COLUMN tracked_organisations.chunk_size IS 'chunk_size of repositories that join. Null: the default. [product; operator]';

COMMENT ON COLUMN tracked_organisations.metadata IS 'metadata of repositories that join. [product; operator]';

COMMENT ON COLUMN tracked_organisations.listing_number IS 'Number of the listing that is under way, or of the last one. [product; planner]';

COMMENT ON COLUMN tracked_organisations.listing_cursor IS 'Where the listing continues. Null: at its beginning. [PageInfo.endCursor; planner]';

COMMENT ON COLUMN tracked_organisations.listing_started_at IS 'When the listing that is under way began. Null: none is. [product; planner]';

COMMENT ON COLUMN tracked_organisations.listed_at IS 'When the last whole listing ended. Null before the first. [product; planner]';

COMMENT ON COLUMN tracked_organisations.asked_at IS 'When a listing last ended, whole or with an error. Null before the first. [product; planner]';

COMMENT ON COLUMN tracked_organisations.total_repositories IS 'Repositories that GitHub counts. Null until GitHub has answered. [RepositoryConnection.totalCount; planner]';

COMMENT ON COLUMN tracked_organisations.hidden_repositories IS 'Repositories that GitHub counts and does not show to the token. Null before the first whole listing. [product; planner]';

COMMENT ON COLUMN tracked_organisations.reason IS 'Why the last listing did not end. Null if it ended. [product; planner]';

COMMENT ON COLUMN tracked_organisations.created_at IS 'When it was added. [product; operator]';

ALTER TABLE ONLY backfill_chunk_members
    ADD CONSTRAINT backfill_chunk_members_pkey PRIMARY KEY (backfill_state_id, number);

ALTER TABLE ONLY backfill_chunks
    ADD CONSTRAINT backfill_chunks_backfill_state_id_chunk_number_key UNIQUE (backfill_state_id, chunk_number);

ALTER TABLE ONLY backfill_chunks
    ADD CONSTRAINT backfill_chunks_pkey PRIMARY KEY (id);

ALTER TABLE ONLY backfill_hours
    ADD CONSTRAINT backfill_hours_pkey PRIMARY KEY (backfill_state_id, hour);

ALTER TABLE ONLY comments
    ADD CONSTRAINT comments_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY commits
    ADD CONSTRAINT commits_pkey PRIMARY KEY (repository_id, pull_request_number, oid);

ALTER TABLE ONLY contributors
    ADD CONSTRAINT contributors_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY files
    ADD CONSTRAINT files_pkey PRIMARY KEY (repository_id, pull_request_number, "position");

ALTER TABLE ONLY github_budget
    ADD CONSTRAINT github_budget_pkey PRIMARY KEY (identity);

ALTER TABLE ONLY github_hours
    ADD CONSTRAINT github_hours_pkey PRIMARY KEY (hour, identity);

ALTER TABLE ONLY github_installations
    ADD CONSTRAINT github_installations_pkey PRIMARY KEY (identity);

ALTER TABLE ONLY github_tokens
    ADD CONSTRAINT github_tokens_pkey PRIMARY KEY (token_sha256);

ALTER TABLE ONLY github_withheld
    ADD CONSTRAINT github_withheld_pkey PRIMARY KEY (identity, part);

ALTER TABLE ONLY labels
    ADD CONSTRAINT labels_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY organisation_repositories
    ADD CONSTRAINT organisation_repositories_pkey PRIMARY KEY (organisation_id, github_id);

ALTER TABLE ONLY planner_round
    ADD CONSTRAINT planner_round_pkey PRIMARY KEY (is_only_row);

ALTER TABLE ONLY progressive_backfill_state
    ADD CONSTRAINT progressive_backfill_state_pkey PRIMARY KEY (id);

ALTER TABLE ONLY progressive_backfill_state
    ADD CONSTRAINT progressive_backfill_state_repository_id_key UNIQUE (repository_id);

ALTER TABLE ONLY pull_request_assignees
    ADD CONSTRAINT pull_request_assignees_pkey PRIMARY KEY (repository_id, pull_request_number, contributor_id);

ALTER TABLE ONLY pull_request_closing_issues
    ADD CONSTRAINT pull_request_closing_issues_pkey PRIMARY KEY (repository_id, pull_request_number, issue_repository, issue_number);

ALTER TABLE ONLY pull_request_labels
    ADD CONSTRAINT pull_request_labels_pkey PRIMARY KEY (repository_id, pull_request_number, label_id);

ALTER TABLE ONLY pull_request_numbers
    ADD CONSTRAINT pull_request_numbers_pkey PRIMARY KEY (repository_id, number);

ALTER TABLE ONLY pull_request_review_requests
    ADD CONSTRAINT pull_request_review_requests_pkey PRIMARY KEY (repository_id, pull_request_number, contributor_id);

ALTER TABLE ONLY pull_requests
    ADD CONSTRAINT pull_requests_pkey PRIMARY KEY (repository_id, number);

ALTER TABLE ONLY removed_repositories
    ADD CONSTRAINT removed_repositories_pkey PRIMARY KEY (full_name);

ALTER TABLE ONLY repositories
    ADD CONSTRAINT repositories_node_id_key UNIQUE (node_id);

ALTER TABLE ONLY repositories
    ADD CONSTRAINT repositories_pkey PRIMARY KEY (id);

ALTER TABLE ONLY requested_names
    ADD CONSTRAINT requested_names_pkey PRIMARY KEY (id);

ALTER TABLE ONLY review_threads
    ADD CONSTRAINT review_threads_pkey PRIMARY KEY (repository_id, pull_request_number, "position");

ALTER TABLE ONLY reviews
    ADD CONSTRAINT reviews_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY timeline_events
    ADD CONSTRAINT timeline_events_pkey PRIMARY KEY (repository_id, pull_request_number, "position");

ALTER TABLE ONLY tracked_organisations
    ADD CONSTRAINT tracked_organisations_node_id_key UNIQUE (node_id);

ALTER TABLE ONLY tracked_organisations
    ADD CONSTRAINT tracked_organisations_pkey PRIMARY KEY (id);

CREATE INDEX backfill_hours_by_hour ON backfill_hours USING btree (hour);

CREATE INDEX backfills_by_next_check ON progressive_backfill_state USING btree (next_check_at) WHERE (status = 'completed'::text);

CREATE INDEX backfills_to_ask ON progressive_backfill_state USING btree (asked_at NULLS FIRST) WHERE (status = 'completed'::text);

CREATE INDEX backfills_to_check ON progressive_backfill_state USING btree (GREATEST(next_check_at, asked_at)) WHERE (status = 'completed'::text);

CREATE INDEX backfills_to_plan ON progressive_backfill_state USING btree (planned_at NULLS FIRST) WHERE (status = 'active'::text);

CREATE INDEX backfills_to_resume ON progressive_backfill_state USING btree (paused_until) WHERE (paused_until IS NOT NULL);

CREATE INDEX backfills_unfinished ON progressive_backfill_state USING btree (status) WHERE (status <> 'completed'::text);

CREATE INDEX chunk_members_by_chunk ON backfill_chunk_members USING btree (chunk_id);

CREATE INDEX chunks_by_repository ON backfill_chunks USING btree (repository_id);

CREATE INDEX chunks_claimed_by_sending ON backfill_chunks USING btree (sent_at) WHERE ((started_at IS NOT NULL) AND (status = ANY (ARRAY['processing'::text, 'completed'::text])));

CREATE INDEX chunks_completed ON backfill_chunks USING btree (completed_at) WHERE (status = 'completed'::text);

CREATE INDEX chunks_open ON backfill_chunks USING btree (backfill_state_id) WHERE (status <> 'completed'::text);

CREATE INDEX chunks_pending ON backfill_chunks USING btree (sent_at NULLS FIRST, available_at) WHERE (status = 'pending'::text);

CREATE INDEX chunks_processing ON backfill_chunks USING btree (started_at) WHERE (status = 'processing'::text);

CREATE INDEX comments_by_pull_request ON comments USING btree (repository_id, pull_request_number);

CREATE UNIQUE INDEX contributors_by_account ON contributors USING btree (type, account_id) WHERE (account_id IS NOT NULL);

CREATE INDEX contributors_by_login ON contributors USING btree (lower(login));

CREATE INDEX contributors_by_other_node_id ON contributors USING btree (other_node_id) WHERE (other_node_id IS NOT NULL);

CREATE INDEX labels_by_other_node_id ON labels USING btree (other_node_id) WHERE (other_node_id IS NOT NULL);

CREATE INDEX labels_by_repository ON labels USING btree (repository_id);

CREATE INDEX organisation_repositories_by_repository ON organisation_repositories USING btree (repository_id);

CREATE UNIQUE INDEX organisations_without_node_id ON tracked_organisations USING btree (lower(login)) WHERE (node_id IS NULL);

CREATE INDEX pull_request_numbers_to_ask_again ON pull_request_numbers USING btree (ask_again_at) WHERE (ask_again_at IS NOT NULL);

CREATE INDEX pull_requests_by_author ON pull_requests USING btree (author_id);

CREATE INDEX pull_requests_by_sync ON pull_requests USING btree (repository_id, detail_synced_at) WHERE (detail_synced_at IS NOT NULL);

CREATE INDEX pull_requests_by_update ON pull_requests USING btree (repository_id, updated_at DESC);

CREATE INDEX pull_requests_failed ON pull_requests USING btree (repository_id, number) WHERE (detail_failed_at IS NOT NULL);

CREATE INDEX pull_requests_incomplete ON pull_requests USING btree (repository_id, number) WHERE (incomplete IS NOT NULL);

CREATE INDEX pull_requests_to_detail ON pull_requests USING btree (repository_id, created_at DESC, number DESC) WHERE ((gone_at IS NULL) AND ((detail_updated_at IS NULL) OR (detail_updated_at < updated_at)));

CREATE INDEX pull_requests_to_read_again ON pull_requests USING btree (read_again_at) WHERE (read_again_at IS NOT NULL);

CREATE INDEX repositories_by_github_id ON repositories USING btree (github_id) WHERE (github_id IS NOT NULL);

CREATE INDEX repositories_by_name ON repositories USING btree (lower(owner), lower(name));

CREATE UNIQUE INDEX requested_names_by_name ON requested_names USING btree (lower(owner), lower(name));

CREATE INDEX reviews_by_pull_request ON reviews USING btree (repository_id, pull_request_number);

CREATE TRIGGER count_backfill_hour AFTER UPDATE ON progressive_backfill_state FOR EACH ROW WHEN (((new.current_prs > old.current_prs) OR (new.points_spent > old.points_spent))) EXECUTE FUNCTION count_backfill_hour();

CREATE TRIGGER count_deleted AFTER DELETE ON pull_requests REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_deleted();

CREATE TRIGGER count_inserted AFTER INSERT ON pull_requests REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_inserted();

CREATE TRIGGER count_truncated AFTER TRUNCATE ON pull_requests FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_truncated();

CREATE TRIGGER count_updated AFTER UPDATE ON pull_requests REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_updated();

CREATE TRIGGER explain_metadata BEFORE INSERT OR UPDATE OF metadata ON progressive_backfill_state FOR EACH ROW EXECUTE FUNCTION explain_metadata();

CREATE TRIGGER keep_backfill_state BEFORE INSERT OR UPDATE ON progressive_backfill_state FOR EACH ROW EXECUTE FUNCTION keep_backfill_state();

CREATE TRIGGER keep_chunk_members AFTER INSERT OR UPDATE ON backfill_chunks FOR EACH ROW EXECUTE FUNCTION keep_chunk_members();

CREATE TRIGGER note_backfill_progress BEFORE UPDATE ON progressive_backfill_state FOR EACH ROW WHEN (((new.current_prs > old.current_prs) OR (new.status <> old.status) OR ((new.last_processed_cursor IS NOT NULL) AND (new.last_processed_cursor IS DISTINCT FROM old.last_processed_cursor)) OR ((new.scan_cursor IS NOT NULL) AND (new.scan_cursor IS DISTINCT FROM old.scan_cursor)))) EXECUTE FUNCTION note_backfill_progress();

CREATE TRIGGER note_removed_backfill BEFORE DELETE ON progressive_backfill_state FOR EACH ROW EXECUTE FUNCTION note_removed_backfill();

CREATE TRIGGER note_removed_repository BEFORE DELETE ON repositories FOR EACH ROW EXECUTE FUNCTION note_removed_repository();

CREATE TRIGGER persons_pause_wins BEFORE UPDATE OF status ON progressive_backfill_state FOR EACH ROW WHEN (((old.status = 'paused'::text) AND (new.status = 'paused'::text) AND (old.paused_until IS NOT NULL) AND (NOT (new.paused_until IS DISTINCT FROM old.paused_until)) AND (NOT (new.pause_reason IS DISTINCT FROM old.pause_reason)))) EXECUTE FUNCTION persons_pause_wins();

CREATE TRIGGER persons_pause_with_a_reason_wins BEFORE UPDATE OF status ON progressive_backfill_state FOR EACH ROW WHEN (((old.status = 'paused'::text) AND (new.status = 'paused'::text) AND (old.paused_until IS NOT NULL) AND (NOT (new.paused_until IS DISTINCT FROM old.paused_until)) AND (new.pause_reason IS DISTINCT FROM old.pause_reason))) EXECUTE FUNCTION persons_pause_with_a_reason_wins();

CREATE TRIGGER place_file BEFORE INSERT ON files FOR EACH ROW WHEN ((new."position" IS NULL)) EXECUTE FUNCTION place_file();

CREATE TRIGGER release_chunks_of_pause AFTER UPDATE OF status ON progressive_backfill_state FOR EACH ROW WHEN (((old.status = 'paused'::text) AND (new.status <> 'paused'::text))) EXECUTE FUNCTION release_chunks_of_pause();

CREATE TRIGGER touch_chunk BEFORE UPDATE ON backfill_chunks FOR EACH ROW EXECUTE FUNCTION touch_chunk();

ALTER TABLE ONLY backfill_chunk_members
    ADD CONSTRAINT backfill_chunk_members_chunk_id_fkey FOREIGN KEY (chunk_id) REFERENCES backfill_chunks(id) ON DELETE CASCADE;

ALTER TABLE ONLY backfill_chunks
    ADD CONSTRAINT backfill_chunks_backfill_state_id_fkey FOREIGN KEY (backfill_state_id) REFERENCES progressive_backfill_state(id) ON DELETE CASCADE;

ALTER TABLE ONLY backfill_chunks
    ADD CONSTRAINT backfill_chunks_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories(id) ON DELETE CASCADE;

ALTER TABLE ONLY backfill_hours
    ADD CONSTRAINT backfill_hours_backfill_state_id_fkey FOREIGN KEY (backfill_state_id) REFERENCES progressive_backfill_state(id) ON DELETE CASCADE;

ALTER TABLE ONLY comments
    ADD CONSTRAINT comments_author_id_fkey FOREIGN KEY (author_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY comments
    ADD CONSTRAINT comments_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY commits
    ADD CONSTRAINT commits_author_id_fkey FOREIGN KEY (author_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY commits
    ADD CONSTRAINT commits_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY files
    ADD CONSTRAINT files_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY labels
    ADD CONSTRAINT labels_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories(id) ON DELETE CASCADE;

ALTER TABLE ONLY organisation_repositories
    ADD CONSTRAINT organisation_repositories_organisation_id_fkey FOREIGN KEY (organisation_id) REFERENCES tracked_organisations(id) ON DELETE CASCADE;

ALTER TABLE ONLY organisation_repositories
    ADD CONSTRAINT organisation_repositories_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories(id) ON DELETE SET NULL;

ALTER TABLE ONLY progressive_backfill_state
    ADD CONSTRAINT progressive_backfill_state_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories(id) ON DELETE CASCADE;

ALTER TABLE ONLY pull_request_assignees
    ADD CONSTRAINT pull_request_assignees_contributor_id_fkey FOREIGN KEY (contributor_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY pull_request_assignees
    ADD CONSTRAINT pull_request_assignees_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY pull_request_closing_issues
    ADD CONSTRAINT pull_request_closing_issues_repository_id_pull_request_num_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY pull_request_labels
    ADD CONSTRAINT pull_request_labels_label_id_fkey FOREIGN KEY (label_id) REFERENCES labels(node_id) ON DELETE CASCADE;

ALTER TABLE ONLY pull_request_labels
    ADD CONSTRAINT pull_request_labels_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY pull_request_numbers
    ADD CONSTRAINT pull_request_numbers_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories(id) ON DELETE CASCADE;

ALTER TABLE ONLY pull_request_review_requests
    ADD CONSTRAINT pull_request_review_requests_contributor_id_fkey FOREIGN KEY (contributor_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY pull_request_review_requests
    ADD CONSTRAINT pull_request_review_requests_repository_id_pull_request_nu_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY pull_requests
    ADD CONSTRAINT pull_requests_author_id_fkey FOREIGN KEY (author_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY pull_requests
    ADD CONSTRAINT pull_requests_merged_by_id_fkey FOREIGN KEY (merged_by_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY pull_requests
    ADD CONSTRAINT pull_requests_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories(id) ON DELETE CASCADE;

ALTER TABLE ONLY review_threads
    ADD CONSTRAINT review_threads_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY review_threads
    ADD CONSTRAINT review_threads_resolved_by_id_fkey FOREIGN KEY (resolved_by_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY reviews
    ADD CONSTRAINT reviews_author_id_fkey FOREIGN KEY (author_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY reviews
    ADD CONSTRAINT reviews_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY timeline_events
    ADD CONSTRAINT timeline_events_actor_id_fkey FOREIGN KEY (actor_id) REFERENCES contributors(node_id);

ALTER TABLE ONLY timeline_events
    ADD CONSTRAINT timeline_events_repository_id_pull_request_number_fkey FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests(repository_id, number) ON DELETE CASCADE;

ALTER TABLE ONLY timeline_events
    ADD CONSTRAINT timeline_events_subject_id_fkey FOREIGN KEY (subject_id) REFERENCES contributors(node_id);
