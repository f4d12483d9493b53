-- The budget as it counts at a time. A stored time that lies further ahead than it can is clamped: the database's clock was put
-- back, or a reply told nonsense. Readers that may not write use the same function.
CREATE FUNCTION budget_present_v1(INOUT budget github_budget, at timestamptz) LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- The governor sleeps for a slot a minute ahead at most. A slot is one request, of some seconds.
    longest_schedule CONSTANT interval := '10 minutes';
    -- LONGEST_WINDOW_SECONDS and LONGEST_WAIT_SECONDS of backfill/limits.py.
    longest_window CONSTANT interval := '61 minutes';
    longest_block CONSTANT interval := '24 hours';
BEGIN
    -- The block was set relative to the clock of then. The time of the last change tells by how much the clock went back.
    IF budget.updated_at > at THEN
        budget.blocked_until := budget.blocked_until - (budget.updated_at - at);
    END IF;
    IF budget.blocked_until > at + longest_block THEN budget.blocked_until := at + longest_block; END IF;
    IF budget.free_at > at + longest_schedule THEN budget.free_at := at + longest_schedule; END IF;
    IF budget.put_off_until > at + longest_schedule THEN budget.put_off_until := at + longest_schedule; END IF;
    IF budget.reset_at > at + longest_window THEN budget.reset_at := at + longest_window; END IF;
END $$;
