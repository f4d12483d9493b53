-- When a backfill last came forward: active and long without progress means that it stands still, whatever its functions say.
ALTER TABLE progressive_backfill_state ADD COLUMN progressed_at timestamptz NOT NULL DEFAULT now();

-- Progress is one more pull request with current detail, another page of the listing, or a change of status. A planner
-- run that changes nothing is none, and neither is a pull request whose detail became outdated.
CREATE FUNCTION note_backfill_progress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.progressed_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER note_backfill_progress BEFORE UPDATE ON progressive_backfill_state
    FOR EACH ROW WHEN (NEW.current_prs > OLD.current_prs OR NEW.status <> OLD.status
                       OR (NEW.last_processed_cursor IS NOT NULL
                           AND NEW.last_processed_cursor IS DISTINCT FROM OLD.last_processed_cursor))
    EXECUTE FUNCTION note_backfill_progress();

-- What the heartbeat counts, without the many that are completed.
CREATE INDEX backfills_unfinished ON progressive_backfill_state (status) WHERE status <> 'completed';
