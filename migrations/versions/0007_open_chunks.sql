-- What is not completed of a backfill, without the many chunks that are: the planner, the status and the page ask for it.
CREATE INDEX chunks_open ON backfill_chunks (backfill_state_id) WHERE status <> 'completed';
DROP INDEX chunks_unfinished;
DROP INDEX chunks_failed;

-- When the latest message that reached a worker was sent: recovery asks whether an older one was lost.
CREATE INDEX chunks_claimed_by_sending ON backfill_chunks (sent_at)
    WHERE started_at IS NOT NULL AND status IN ('processing', 'completed');
DROP INDEX chunks_by_start;
