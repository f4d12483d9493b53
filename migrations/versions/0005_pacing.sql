-- Reservations belong to a window of the points: what a reply of an older window gives back is none of the next one's.
ALTER TABLE github_budget
    ADD COLUMN window_number integer NOT NULL DEFAULT 0,
    -- How long requests take compared with the published figures; learned by all workers together.
    ADD COLUMN slowness real NOT NULL DEFAULT 1;

-- Whose a token is, so that a new container need not ask GitHub. Tokens are random: their SHA-256 gives nothing away.
CREATE TABLE github_tokens (
    token_sha256 text PRIMARY KEY,
    identity text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
