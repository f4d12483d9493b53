-- When each completed repository is checked for changes next, and what the checks cost. Selecting what is due reads only that.
ALTER TABLE progressive_backfill_state ADD COLUMN next_check_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN progressive_backfill_state.next_check_at IS 'When a completed backfill is due for a check for changes: at once if something changed within a week, else later. [product; planner]';
-- One that GitHub did not answer for keeps its time, and goes behind the others.
CREATE INDEX backfills_to_check ON progressive_backfill_state (GREATEST(next_check_at, asked_at)) WHERE status = 'completed';
CREATE INDEX backfills_by_next_check ON progressive_backfill_state (next_check_at) WHERE status = 'completed';
DROP INDEX backfills_to_examine;

ALTER TABLE github_hours ADD COLUMN check_points integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN github_hours.check_points IS 'Points that checks for changes of completed backfills took. [RateLimit.cost; planner]';
