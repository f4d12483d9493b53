-- Give a reservation back after its request, correct its slot, and store what GitHub reported.
--
-- spent: points that a request without a usable reply may have cost. reported_*: what the reply says; null where it says nothing.
-- at: the end of the request; null is now.
CREATE FUNCTION budget_settle_v1(
    who text, points_window integer, points integer, spent integer, slot float8, expected_seconds float8, took_seconds float8,
    share float8, succeeded boolean, reported_limit integer, reported_remaining integer, reported_reset_seconds float8,
    at timestamptz DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
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
