-- A scan of changes goes on where its last page ended: after which cursor, and until when every change is known at its end.
ALTER TABLE progressive_backfill_state ADD COLUMN scan_cursor text, ADD COLUMN scan_until timestamptz;

-- Pull requests of a page of the listing: less than GitHub's 100 once it could not answer for so many, and growing again.
ALTER TABLE progressive_backfill_state ADD COLUMN listing_page_size integer NOT NULL DEFAULT 100
    CHECK (listing_page_size BETWEEN 1 AND 100);

-- A page of a scan is progress as one of the listing is.
CREATE OR REPLACE TRIGGER note_backfill_progress BEFORE UPDATE ON progressive_backfill_state
    FOR EACH ROW WHEN (NEW.current_prs > OLD.current_prs OR NEW.status <> OLD.status
                       OR (NEW.last_processed_cursor IS NOT NULL
                           AND NEW.last_processed_cursor IS DISTINCT FROM OLD.last_processed_cursor)
                       OR (NEW.scan_cursor IS NOT NULL AND NEW.scan_cursor IS DISTINCT FROM OLD.scan_cursor))
    EXECUTE FUNCTION note_backfill_progress();
