-- Everything that a backfill stores. Forward only; Alembic applies it (see migrations/env.py).
-- GitHub's node ids are the keys of what GitHub names; a repository keeps its uuid through renames and transfers.

CREATE TABLE repositories (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    node_id text NOT NULL UNIQUE,
    github_id bigint,
    owner text NOT NULL,
    name text NOT NULL,
    previous_names text[] NOT NULL DEFAULT '{}',
    url text,
    is_private boolean NOT NULL DEFAULT false,
    is_fork boolean NOT NULL DEFAULT false,
    is_archived boolean NOT NULL DEFAULT false,
    default_branch text,
    github_created_at timestamptz,
    unavailable_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX repositories_by_name ON repositories (lower(owner), lower(name));

-- Users, bots, mannequins, organizations and, as reviewers, teams. A deleted user is no row: its author_id is null.
CREATE TABLE contributors (
    node_id text PRIMARY KEY,
    type text NOT NULL,
    github_id bigint,
    login text NOT NULL,
    avatar_url text,
    url text,
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX contributors_by_login ON contributors (lower(login));

CREATE TABLE pull_requests (
    repository_id uuid NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    number integer NOT NULL CHECK (number > 0),
    node_id text NOT NULL UNIQUE,
    github_id bigint,
    url text NOT NULL,
    title text NOT NULL,
    body text,
    state text NOT NULL CHECK (state IN ('OPEN', 'CLOSED', 'MERGED')),
    is_draft boolean NOT NULL,
    locked boolean NOT NULL,
    merged boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    closed_at timestamptz,
    merged_at timestamptz,
    additions integer NOT NULL,
    deletions integer NOT NULL,
    changed_files integer NOT NULL,
    author_association text,
    author_id text REFERENCES contributors (node_id),
    merged_by_id text REFERENCES contributors (node_id),
    base_ref_name text NOT NULL,
    base_ref_oid text,
    head_ref_name text NOT NULL,
    head_ref_oid text,
    is_cross_repository boolean NOT NULL,
    head_repository text,
    merge_commit_oid text,
    milestone_number integer,
    milestone_title text,
    total_comments_count integer,
    -- The totalCount of every connection, as listed: what a sparse detail query needs to know.
    labels_count integer NOT NULL DEFAULT 0,
    assignees_count integer NOT NULL DEFAULT 0,
    review_requests_count integer NOT NULL DEFAULT 0,
    closing_issues_count integer NOT NULL DEFAULT 0,
    comments_count integer NOT NULL DEFAULT 0,
    reviews_count integer NOT NULL DEFAULT 0,
    review_threads_count integer NOT NULL DEFAULT 0,
    commits_count integer NOT NULL DEFAULT 0,
    files_count integer NOT NULL DEFAULT 0,
    listed_at timestamptz NOT NULL DEFAULT now(),
    -- The detail is current when it was read as of the updated_at that the listing knows.
    detail_synced_at timestamptz,
    detail_updated_at timestamptz,
    detail_error text,
    detail_error_code text,
    detail_failed_at timestamptz,
    -- GitHub does not have it any more (deleted, or turned into something else).
    gone_at timestamptz,
    PRIMARY KEY (repository_id, number),
    CHECK ((detail_synced_at IS NULL) = (detail_updated_at IS NULL)),
    CHECK ((detail_error IS NULL) = (detail_failed_at IS NULL))
);
-- What the planner cuts into chunks: an index over the work that is left, and nothing else.
CREATE INDEX pull_requests_to_detail ON pull_requests (repository_id, created_at DESC, number DESC)
    WHERE gone_at IS NULL AND (detail_updated_at IS NULL OR detail_updated_at < updated_at);
CREATE INDEX pull_requests_by_update ON pull_requests (repository_id, updated_at DESC);
CREATE INDEX pull_requests_by_author ON pull_requests (author_id);
CREATE INDEX pull_requests_failed ON pull_requests (repository_id, number) WHERE detail_failed_at IS NOT NULL;

CREATE TABLE reviews (
    node_id text PRIMARY KEY,
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    github_id bigint,
    state text NOT NULL,
    body text,
    author_id text REFERENCES contributors (node_id),
    author_association text,
    commit_oid text,
    url text NOT NULL,
    created_at timestamptz NOT NULL,
    submitted_at timestamptz,
    updated_at timestamptz NOT NULL,
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);
CREATE INDEX reviews_by_pull_request ON reviews (repository_id, pull_request_number);

-- Comments on the conversation (issue_comment) and on the diff (review_comment).
CREATE TABLE comments (
    node_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('issue_comment', 'review_comment')),
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    github_id bigint,
    body text NOT NULL,
    author_id text REFERENCES contributors (node_id),
    author_association text,
    url text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- Of review comments only. The review is no foreign key: GitHub may show a comment before its review.
    review_id text,
    in_reply_to_id bigint,
    path text,
    position integer,
    line integer,
    original_line integer,
    diff_hunk text,
    commit_oid text,
    original_commit_oid text,
    outdated boolean,
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);
CREATE INDEX comments_by_pull_request ON comments (repository_id, pull_request_number);

-- GitHub's PullRequestCommit ids repeat; a commit is unique within its pull request.
CREATE TABLE commits (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    oid text NOT NULL,
    position integer NOT NULL,
    message_headline text NOT NULL,
    author_name text,
    author_id text REFERENCES contributors (node_id),
    authored_date timestamptz,
    committed_date timestamptz,
    PRIMARY KEY (repository_id, pull_request_number, oid),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);

CREATE TABLE files (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    path text NOT NULL,
    change_type text NOT NULL,
    additions integer NOT NULL,
    deletions integer NOT NULL,
    PRIMARY KEY (repository_id, pull_request_number, path),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);

CREATE TABLE labels (
    node_id text PRIMARY KEY,
    repository_id uuid NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name text NOT NULL,
    color text NOT NULL
);

CREATE TABLE pull_request_labels (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    label_id text NOT NULL REFERENCES labels (node_id) ON DELETE CASCADE,
    PRIMARY KEY (repository_id, pull_request_number, label_id),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);

CREATE TABLE pull_request_assignees (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    contributor_id text NOT NULL REFERENCES contributors (node_id),
    PRIMARY KEY (repository_id, pull_request_number, contributor_id),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);

CREATE TABLE pull_request_review_requests (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    contributor_id text NOT NULL REFERENCES contributors (node_id),
    PRIMARY KEY (repository_id, pull_request_number, contributor_id),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);

-- The issue may belong to another repository.
CREATE TABLE pull_request_closing_issues (
    repository_id uuid NOT NULL,
    pull_request_number integer NOT NULL,
    issue_repository text NOT NULL,
    issue_number integer NOT NULL,
    PRIMARY KEY (repository_id, pull_request_number, issue_repository, issue_number),
    FOREIGN KEY (repository_id, pull_request_number) REFERENCES pull_requests ON DELETE CASCADE
);
