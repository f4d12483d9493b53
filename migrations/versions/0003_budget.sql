-- GitHub's budget per identity (user or installation, never a token), and what a repository's requests may hold.
CREATE TABLE github_budget (
    identity text PRIMARY KEY,
    points_limit integer,
    remaining integer,
    reserved integer NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    reset_at timestamptz,
    -- When the server time handed out so far will have passed, at the governor's share.
    free_at timestamptz,
    blocked_until timestamptz,
    block_reason text,
    blocks_in_a_row integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- The most pull requests that one detail request of this repository may hold; learned, null while unknown.
ALTER TABLE repositories ADD COLUMN detail_request_size real CHECK (detail_request_size >= 1);
