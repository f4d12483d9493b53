-- The stored budget of an identity. Its row is locked until the transaction ends, so that two workers cannot both reserve the last
-- point. The first request of an identity inserts the row. A dry run neither locks nor inserts: without a row all is null.
CREATE FUNCTION budget_of_v1(who text, is_dry_run boolean) RETURNS github_budget LANGUAGE plpgsql AS $$
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
