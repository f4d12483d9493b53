-- Reserve points and a slot of server time for one request, or say why not and for how long.
--
-- share: the part of GitHub's server time that is used. floor_share: the part of the points that stays untouched.
-- wait_seconds: until the slot begins if granted, else until it is worth asking again. turn_seconds: if only server time is in
-- the way, until it is this request's turn. at: the time of the decision; null is now.
CREATE FUNCTION budget_reserve_v1(
    who text, points integer, expected_seconds float8, longest_wait_seconds float8, share float8, floor_share float8,
    is_dry_run boolean, INOUT at timestamptz DEFAULT NULL,
    OUT granted boolean, OUT wait_seconds float8, OUT reason text, OUT turn_seconds float8, OUT slot float8,
    OUT points_window integer
) LANGUAGE plpgsql AS $$
DECLARE
    -- GitHub's points come back after an hour. GitHub names the time with the next reply.
    points_period CONSTANT interval := '1 hour';
    -- For a reset that is due in this moment, and for one that is not known.
    shortest_points_wait CONSTANT float8 := 0.05;
    unknown_reset_wait CONSTANT float8 := 60;
    -- A deferred chunk returns this long before a slot that it may sleep for, and after longest_turn at most: GitHub may be faster
    -- by then.
    turn_lead CONSTANT float8 := 2.5;
    longest_turn CONSTANT float8 := 20;
    -- Part of a slot between the turns of two deferred chunks. Below 1, in case slots turn out shorter.
    turn_spread CONSTANT float8 := 0.75;
    budget github_budget;
    slot_at_share float8;
    block_wait float8;
    points_wait float8 := 0;
    slot_wait float8;
    turn_at timestamptz;
BEGIN
    budget := budget_of_v1(who, is_dry_run);
    -- After the lock, which may take time.
    at := COALESCE(at, clock_timestamp());
    budget := budget_present_v1(budget, at);
    IF budget.reset_at <= at THEN
        -- A new window is full. Reservations of the old one do not count in it.
        budget.remaining := budget.points_limit;
        budget.reserved := 0;
        budget.reset_at := at + points_period;
        budget.window_number := budget.window_number + 1;
    END IF;

    slot := expected_seconds * COALESCE(budget.slowness, 1);
    slot_at_share := slot / share;
    block_wait := GREATEST(0, EXTRACT(epoch FROM budget.blocked_until - at));
    -- Points that are not known yet are not waited for.
    IF budget.remaining - budget.reserved - points < floor_share * budget.points_limit THEN
        points_wait := GREATEST(shortest_points_wait, COALESCE(EXTRACT(epoch FROM budget.reset_at - at), unknown_reset_wait));
    END IF;
    -- Server time is a schedule: a slot begins when those before it have ended.
    slot_wait := GREATEST(0, EXTRACT(epoch FROM budget.free_at - at));
    granted := block_wait = 0 AND points_wait = 0 AND slot_wait <= longest_wait_seconds;
    points_window := COALESCE(budget.window_number, 0);
    wait_seconds := CASE WHEN granted THEN slot_wait ELSE GREATEST(block_wait, points_wait, slot_wait) END;
    reason := CASE WHEN block_wait > 0 THEN 'blocked by a ' || COALESCE(budget.block_reason, '') || ' rate limit'
                   WHEN points_wait > 0 THEN 'points are at their floor'
                   ELSE 'server time' END;

    IF granted THEN
        budget.reserved := budget.reserved + points;
        budget.free_at := GREATEST(budget.free_at, at) + make_interval(secs => slot_at_share);
    ELSIF block_wait = 0 AND points_wait = 0 THEN
        -- Each deferred chunk returns a little after the one before it.
        turn_at := LEAST(
            at + make_interval(secs => longest_turn),
            GREATEST(at + make_interval(secs => GREATEST(slot_wait - turn_lead, slot_wait / 2)),
                     budget.put_off_until + make_interval(secs => LEAST(turn_spread * slot_at_share, turn_lead))));
        budget.put_off_until := turn_at;
        turn_seconds := EXTRACT(epoch FROM turn_at - at);
    END IF;

    IF NOT is_dry_run THEN
        UPDATE github_budget SET
            remaining = budget.remaining, reserved = budget.reserved, reset_at = budget.reset_at,
            window_number = budget.window_number, free_at = budget.free_at, blocked_until = budget.blocked_until,
            put_off_until = budget.put_off_until, updated_at = at
        WHERE identity = who;
    END IF;
END $$;
