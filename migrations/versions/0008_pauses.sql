-- A person's pause wins over one that the system made and that would end by itself. In plain SQL it is an update that names the
-- status and changes nothing: the product never writes one.
CREATE FUNCTION persons_pause_wins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.pause_reason := 'manual';
    NEW.paused_until := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER persons_pause_wins BEFORE UPDATE OF status ON progressive_backfill_state
    FOR EACH ROW
    WHEN (OLD.status = 'paused' AND NEW.status = 'paused' AND OLD.paused_until IS NOT NULL
          AND NEW.paused_until IS NOT DISTINCT FROM OLD.paused_until
          AND NEW.pause_reason IS NOT DISTINCT FROM OLD.pause_reason)
    EXECUTE FUNCTION persons_pause_wins();
