-- What is put off because GitHub's time is taken comes back one after the other: when the last of them will.
ALTER TABLE github_budget ADD COLUMN put_off_until timestamptz;

-- Of expected server time, what the slowness was learned from so far: the first requests tell all that is known.
ALTER TABLE github_budget ADD COLUMN learned_seconds real NOT NULL DEFAULT 0;
