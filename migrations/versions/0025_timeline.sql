-- The timeline of pull requests, for backfills that ask for it: events with their actors, and whether review threads are resolved.
-- A worker reads it where reads_timeline is set. The planner sets it, and then marks what was read without a timeline.
ALTER TABLE progressive_backfill_state
ADD COLUMN reads_timeline boolean NOT NULL DEFAULT false,
ADD COLUMN timeline_to_mark boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN progressive_backfill_state.reads_timeline IS 'Whether workers read timelines: the metadata''s timeline, on or off, else the stack''s Timeline, as of the planner''s last run. [product; planner]';
COMMENT ON COLUMN progressive_backfill_state.timeline_to_mark IS 'Whether the planner still has to mark pull requests that were read without a timeline. [product; planner]';
COMMENT ON COLUMN progressive_backfill_state.metadata IS 'Settings by name: {"priority": "high", "order": "oldest_first", "timeline": "on"}. [product; add, operator]';

ALTER TABLE pull_requests ADD COLUMN timeline_updated_at timestamptz;
COMMENT ON COLUMN pull_requests.timeline_updated_at IS 'The updated_at that the stored timeline has. Null: none was read. Older than detail_updated_at: the timeline was off since. [product; details]';

CREATE TABLE timeline_events (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    position integer NOT NULL,
    node_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN (
        'review_requested', 'review_request_removed', 'ready_for_review', 'convert_to_draft', 'head_ref_force_pushed',
        'labeled', 'unlabeled', 'assigned', 'unassigned', 'merged', 'closed', 'reopened')),
    actor_id text REFERENCES contributors (node_id),
    subject_id text REFERENCES contributors (node_id),
    subject text,
    before_oid text,
    after_oid text,
    created_at timestamptz,
    PRIMARY KEY (repository_id, pull_request_number, position),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);
COMMENT ON TABLE timeline_events IS 'What happened to a pull request, in GitHub''s order. Only where the timeline is read. [GitHub; details]';
COMMENT ON COLUMN timeline_events.repository_id IS 'The repository. [product; details]';
COMMENT ON COLUMN timeline_events.pull_request_number IS 'The pull request. [PullRequest.number; details]';
COMMENT ON COLUMN timeline_events.position IS 'Place in the timeline, from 0. [product; details]';
COMMENT ON COLUMN timeline_events.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [Node.id; details]';
COMMENT ON COLUMN timeline_events.kind IS 'What happened, by GitHub''s name of the event in lower case. [PullRequest.timelineItems.nodes; details]';
COMMENT ON COLUMN timeline_events.actor_id IS 'Who did it. Null if the account was deleted. [ReviewRequestedEvent.actor; details]';
COMMENT ON COLUMN timeline_events.subject_id IS 'The reviewer or team that was requested, or the assignee. Null for other events, and for a deleted account. [ReviewRequestedEvent.requestedReviewer, AssignedEvent.assignee; details]';
COMMENT ON COLUMN timeline_events.subject IS 'The name of the label, or the login of the reviewer or assignee when it was read. A team is organisation/team. Null for other events. [LabeledEvent.label.name, Actor.login, Team.combinedSlug; details]';
COMMENT ON COLUMN timeline_events.before_oid IS 'The head before a force push. Null for other events, and if GitHub no longer has the commit. [HeadRefForcePushedEvent.beforeCommit.oid; details]';
COMMENT ON COLUMN timeline_events.after_oid IS 'The head after a force push. Null as before_oid. [HeadRefForcePushedEvent.afterCommit.oid; details]';
COMMENT ON COLUMN timeline_events.created_at IS 'When it happened. Null if GitHub gives an impossible date. [ReviewRequestedEvent.createdAt; details]';

CREATE TABLE review_threads (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    position integer NOT NULL,
    node_id text NOT NULL,
    is_resolved boolean NOT NULL,
    resolved_by_id text REFERENCES contributors (node_id),
    is_outdated boolean NOT NULL,
    path text NOT NULL,
    line integer,
    original_line integer,
    PRIMARY KEY (repository_id, pull_request_number, position),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);
COMMENT ON TABLE review_threads IS 'Threads of review comments, and whether they are resolved. Only where the timeline is read. [GitHub; details]';
COMMENT ON COLUMN review_threads.repository_id IS 'The repository. [product; details]';
COMMENT ON COLUMN review_threads.pull_request_number IS 'The pull request. [PullRequest.number; details]';
COMMENT ON COLUMN review_threads.position IS 'Place in GitHub''s order, from 0. [product; details]';
COMMENT ON COLUMN review_threads.node_id IS 'GitHub''s global node id, in the form that GitHub gave last. [PullRequestReviewThread.id; details]';
COMMENT ON COLUMN review_threads.is_resolved IS 'Whether the thread is resolved. [PullRequestReviewThread.isResolved; details]';
COMMENT ON COLUMN review_threads.resolved_by_id IS 'Who resolved it. Null if it is not resolved, or the account was deleted. [PullRequestReviewThread.resolvedBy; details]';
COMMENT ON COLUMN review_threads.is_outdated IS 'Whether its line has changed since. [PullRequestReviewThread.isOutdated; details]';
COMMENT ON COLUMN review_threads.path IS 'File. [PullRequestReviewThread.path; details]';
COMMENT ON COLUMN review_threads.line IS 'Line in the file. Null for the whole file, and if the line is gone. [PullRequestReviewThread.line; details]';
COMMENT ON COLUMN review_threads.original_line IS 'Line at the time of the first comment. Null for the whole file. [PullRequestReviewThread.originalLine; details]';

CREATE OR REPLACE FUNCTION explain_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
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
    IF COALESCE(NEW.metadata ->> 'timeline', 'on') NOT IN ('on', 'off') THEN
        RAISE EXCEPTION 'timeline must be on or off, and is % (timeline_is_on_or_off)',
                        left((NEW.metadata -> 'timeline')::text, 100)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'timeline_is_on_or_off',
                  HINT = 'Write jsonb_set(metadata, ''{timeline}'', ''"on"'') or ''"off"''. Without it the stack''s default holds.';
    END IF;
    RETURN NEW;
END $$;
