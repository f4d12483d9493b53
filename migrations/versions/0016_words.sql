-- error_code holds words that no name of a class decides. Code of the version before may write some names until it is replaced, and
-- the next attempt of the chunk overwrites those.
UPDATE backfill_chunks AS c SET error_code = n.code
FROM (VALUES ('BrokenOff', 'broken_off'), ('DatabaseUnavailable', 'database_unavailable'), ('InAnotherChunk', 'retryable'),
             ('LeaseLost', 'retryable'), ('LoginRefused', 'database_unavailable'), ('NotSent', 'retryable'),
             ('OutOfMemory', 'out_of_memory'), ('OutOfTime', 'out_of_time'), ('RateLimited', 'rate_limited'),
             ('Retryable', 'retryable'), ('RowsRefused', 'value_refused'), ('TooLarge', 'too_large'),
             ('Unexplained', 'unexplained'), ('Unreachable', 'unreachable'), ('Untrusted', 'database_unavailable')) AS n(name, code)
WHERE c.error_code = n.name;

-- The constraints stay; this says what they allow before they refuse.
CREATE FUNCTION explain_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
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
    RETURN NEW;
END $$;
CREATE TRIGGER explain_metadata BEFORE INSERT OR UPDATE OF metadata ON progressive_backfill_state
    FOR EACH ROW EXECUTE FUNCTION explain_metadata();
