-- The brake: planner runs in a row that moved nothing, and how often a chunk was deferred. The next message waits accordingly.
ALTER TABLE progressive_backfill_state
    ADD COLUMN idle_runs integer NOT NULL DEFAULT 0,
    -- When GitHub was last asked whether anything has changed. examined_at is the last time at which it answered.
    ADD COLUMN asked_at timestamptz;
UPDATE progressive_backfill_state SET asked_at = examined_at;
CREATE INDEX backfills_to_ask ON progressive_backfill_state (asked_at NULLS FIRST) WHERE status = 'completed';
ALTER TABLE backfill_chunks ADD COLUMN deferrals integer NOT NULL DEFAULT 0;

-- The planner's round over all backfills: one row. The heartbeat begins it; messages of the plan queue go on with it.
CREATE TABLE planner_round (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    -- Null: no round is under way. What was planned or asked about since then is done.
    began_at timestamptz,
    idle_runs integer NOT NULL DEFAULT 0,
    -- When the message arrives that goes on with the round. Null: none is on its way.
    continues_at timestamptz
);

-- Names of repositories that were accepted before GitHub could answer for them. The planner asks again.
CREATE TABLE requested_names (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner text NOT NULL,
    name text NOT NULL,
    chunk_size integer CHECK (chunk_size BETWEEN 1 AND 100),
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    requested_at timestamptz NOT NULL DEFAULT now(),
    ask_at timestamptz NOT NULL DEFAULT now(),
    -- Why it is not a backfill yet, and since when it is not asked for any more.
    reason text,
    is_refused boolean NOT NULL DEFAULT false,
    given_up_at timestamptz
);
CREATE UNIQUE INDEX requested_names_by_name ON requested_names (lower(owner), lower(name));

-- Names of what was removed, by command or in SQL, so that messages that were on their way are settled.
CREATE TABLE removed_repositories (
    full_name text PRIMARY KEY,
    removed_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION note_removed_backfill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed_repositories (full_name)
    SELECT lower(owner || '/' || name) FROM repositories WHERE id = OLD.repository_id
    ON CONFLICT (full_name) DO UPDATE SET removed_at = now();
    RETURN OLD;
END $$;
CREATE FUNCTION note_removed_repository() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed_repositories (full_name)
    SELECT lower(OLD.owner || '/' || OLD.name)
    WHERE EXISTS (SELECT FROM progressive_backfill_state WHERE repository_id = OLD.id)
    ON CONFLICT (full_name) DO UPDATE SET removed_at = now();
    RETURN OLD;
END $$;
CREATE TRIGGER note_removed_backfill BEFORE DELETE ON progressive_backfill_state
    FOR EACH ROW EXECUTE FUNCTION note_removed_backfill();
CREATE TRIGGER note_removed_repository BEFORE DELETE ON repositories
    FOR EACH ROW EXECUTE FUNCTION note_removed_repository();
