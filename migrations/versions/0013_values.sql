-- Files of a pull request are kept by position: a path may stand there twice, and may be longer than an index entry holds.
-- A worker of the version before that stores files meanwhile gets an error, and its message comes back after the deployment.
ALTER TABLE files ADD COLUMN position integer;
UPDATE files AS f SET position = n.position
FROM (SELECT repository_id, pull_request_number, path,
             row_number() OVER (PARTITION BY repository_id, pull_request_number ORDER BY path) - 1 AS position
      FROM files) AS n
WHERE (f.repository_id, f.pull_request_number, f.path) = (n.repository_id, n.pull_request_number, n.path);
-- squawk-ignore ban-drop-constraint
ALTER TABLE files DROP CONSTRAINT files_pkey;
-- squawk-ignore adding-not-nullable-field
ALTER TABLE files ALTER COLUMN position SET NOT NULL;
-- squawk-ignore adding-serial-primary-key-field, constraint-missing-not-valid
ALTER TABLE files ADD PRIMARY KEY (repository_id, pull_request_number, position);

-- Whoever inserts a file without a position gets the next one.
CREATE FUNCTION place_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT COALESCE(max(position) + 1, 0) INTO NEW.position FROM files
    WHERE repository_id = NEW.repository_id AND pull_request_number = NEW.pull_request_number;
    RETURN NEW;
END $$;
CREATE TRIGGER place_file BEFORE INSERT ON files
    FOR EACH ROW WHEN (NEW.position IS NULL) EXECUTE FUNCTION place_file();

-- Metadata is an object. A row that breaks this already is repaired first.
UPDATE progressive_backfill_state SET metadata = '{"priority": "normal"}' WHERE jsonb_typeof(metadata) <> 'object';
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE progressive_backfill_state ADD CONSTRAINT metadata_is_an_object CHECK (jsonb_typeof(metadata) = 'object');

-- TRUNCATE tells no rows to a trigger: the counts begin at nothing again.
CREATE FUNCTION count_pull_requests_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progressive_backfill_state SET listed_prs = 0, current_prs = 0 WHERE (listed_prs, current_prs) <> (0, 0);
    RETURN NULL;
END $$;
CREATE TRIGGER count_truncated AFTER TRUNCATE ON pull_requests
    FOR EACH STATEMENT EXECUTE FUNCTION count_pull_requests_truncated();

-- A person's pause with a reason of its own has no end either, unless it names one.
CREATE FUNCTION persons_pause_with_a_reason_wins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.paused_until := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER persons_pause_with_a_reason_wins BEFORE UPDATE OF status ON progressive_backfill_state
    FOR EACH ROW
    WHEN (OLD.status = 'paused' AND NEW.status = 'paused' AND OLD.paused_until IS NOT NULL
          AND NEW.paused_until IS NOT DISTINCT FROM OLD.paused_until
          AND NEW.pause_reason IS DISTINCT FROM OLD.pause_reason)
    EXECUTE FUNCTION persons_pause_with_a_reason_wins();

-- Since when GitHub says that another repository has this one's name. Null: this one has it.
ALTER TABLE repositories ADD COLUMN name_taken_at timestamptz;
-- A repository that is created again or moved may bring node ids that rows of another one still have.
-- squawk-ignore ban-drop-constraint
ALTER TABLE pull_requests DROP CONSTRAINT pull_requests_node_id_key;
CREATE INDEX repositories_by_github_id ON repositories (github_id) WHERE github_id IS NOT NULL;

-- A date in the future became the watermark, and hid every change since: what has changed is listed anew.
UPDATE progressive_backfill_state SET updates_watermark = NULL WHERE updates_watermark > now() + interval '1 hour';
