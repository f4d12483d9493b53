-- What was done in each hour, for the plots of the page. Chunks are deleted after a week; a run may take longer.
CREATE TABLE backfill_hours (
    backfill_state_id uuid NOT NULL REFERENCES progressive_backfill_state (id) ON DELETE CASCADE,
    hour timestamptz NOT NULL,
    pull_requests integer NOT NULL,
    points integer NOT NULL,
    PRIMARY KEY (backfill_state_id, hour)
);
CREATE INDEX backfill_hours_by_hour ON backfill_hours (hour);
COMMENT ON TABLE backfill_hours IS 'What each backfill did in each hour of the last 90 days. An hour without work has no row. [product; trigger]';
COMMENT ON COLUMN backfill_hours.backfill_state_id IS 'The backfill. [product; trigger]';
COMMENT ON COLUMN backfill_hours.hour IS 'When the hour began. [product; trigger]';
COMMENT ON COLUMN backfill_hours.pull_requests IS 'Pull requests whose details became current. [product; trigger]';
COMMENT ON COLUMN backfill_hours.points IS 'GitHub points. [RateLimit.cost; trigger]';

CREATE TABLE github_hours (
    identity text NOT NULL,
    hour timestamptz NOT NULL,
    requests integer NOT NULL,
    server_seconds double precision NOT NULL,
    PRIMARY KEY (hour, identity)
);
COMMENT ON TABLE github_hours IS 'What each GitHub identity used in each hour of the last 90 days. An hour without a request has no row. [product; any request]';
COMMENT ON COLUMN github_hours.identity IS 'Key of github_budget. [User.login; any request]';
COMMENT ON COLUMN github_hours.hour IS 'When the hour began. [product; any request]';
COMMENT ON COLUMN github_hours.requests IS 'Requests that were sent. [product; any request]';
COMMENT ON COLUMN github_hours.server_seconds IS 'Time that GitHub took for them, in seconds. [product; any request]';

-- Like progress, the hour is counted where the row changes. The row of the backfill is locked, so no other transaction counts
-- for the same hour meanwhile. The first row of an hour deletes the old ones.
CREATE FUNCTION count_backfill_hour() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER count_backfill_hour AFTER UPDATE ON progressive_backfill_state
    FOR EACH ROW WHEN (NEW.current_prs > OLD.current_prs OR NEW.points_spent > OLD.points_spent)
    EXECUTE FUNCTION count_backfill_hour();
