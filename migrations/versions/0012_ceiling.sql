-- So many pull requests were too much for one request of this repository when they were last tried: the size stays below for a while.
ALTER TABLE repositories ADD COLUMN detail_request_ceiling real CHECK (detail_request_ceiling >= 1);
