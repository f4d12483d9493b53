-- GitHub's listing may show a pull request that it denies by its number, time after time.
ALTER TABLE pull_requests ADD COLUMN denied_at timestamptz;
COMMENT ON COLUMN pull_requests.denied_at IS 'When GitHub last answered NOT_FOUND as it was to be read. Null once it is read, and once it has changed. [product; details]';
