-- When the outage began that was counted last: errors of the same outage are one error of the backfill.
ALTER TABLE progressive_backfill_state ADD COLUMN outage_counted_at timestamptz;

-- A chunk that was given back because of a pause comes back when the pause ends, whoever ends it.
CREATE FUNCTION release_chunks_of_pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE backfill_chunks SET available_at = now(), sent_at = NULL, dispatch_id = gen_random_uuid()
    WHERE backfill_state_id = NEW.id AND status = 'pending' AND available_at > now()
      AND error_code IN ('bad_credentials', 'forbidden', 'repository_unavailable');
    RETURN NULL;
END $$;
CREATE TRIGGER release_chunks_of_pause AFTER UPDATE OF status ON progressive_backfill_state
    FOR EACH ROW WHEN (OLD.status = 'paused' AND NEW.status <> 'paused') EXECUTE FUNCTION release_chunks_of_pause();
