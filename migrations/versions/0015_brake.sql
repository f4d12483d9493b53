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
