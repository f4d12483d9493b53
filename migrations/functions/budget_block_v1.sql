-- Stop every worker of an identity because GitHub named a limit.
--
-- wait_seconds: as GitHub says; null where it does not say. at: the time of the reply; null is now. jitter spreads waits that GitHub
-- does not name.
CREATE FUNCTION budget_block_v1(
    who text, wait_seconds float8, kind text, is_dry_run boolean, at timestamptz DEFAULT NULL,
    jitter float8 DEFAULT 1 + 0.3 * random(),
    OUT until timestamptz, OUT seconds float8
) LANGUAGE plpgsql AS $$
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
