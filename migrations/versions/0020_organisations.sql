-- Organisations and users whose repositories are tracked, and the repositories that their lists show.
CREATE TABLE tracked_organisations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    node_id text UNIQUE,
    login text NOT NULL,
    is_user boolean,
    rule jsonb NOT NULL CONSTRAINT rule_is_whole CHECK (
        (jsonb_typeof(rule -> 'include'), jsonb_typeof(rule -> 'exclude'), jsonb_typeof(rule -> 'forks'), jsonb_typeof(rule -> 'archived'))
        IS NOT DISTINCT FROM ('array', 'array', 'boolean', 'boolean')),
    chunk_size integer CHECK (chunk_size BETWEEN 1 AND 100),
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    listing_number integer NOT NULL DEFAULT 0,
    listing_cursor text,
    listing_started_at timestamptz,
    listed_at timestamptz,
    asked_at timestamptz,
    total_repositories integer,
    hidden_repositories integer,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- An owner has its key from GitHub's first answer on. Until then its login is the key.
CREATE UNIQUE INDEX organisations_without_node_id ON tracked_organisations (lower(login)) WHERE node_id IS NULL;

CREATE TABLE organisation_repositories (
    organisation_id uuid NOT NULL REFERENCES tracked_organisations ON DELETE CASCADE,
    github_id bigint NOT NULL,
    repository_id uuid REFERENCES repositories ON DELETE SET NULL,
    full_name text NOT NULL,
    is_fork boolean NOT NULL,
    is_archived boolean NOT NULL,
    total_prs integer NOT NULL,
    left_out text CHECK (left_out IN ('fork', 'archived', 'name')),
    listing_number integer NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    joined_at timestamptz,
    gone_at timestamptz,
    PRIMARY KEY (organisation_id, github_id)
);
CREATE INDEX organisation_repositories_by_repository ON organisation_repositories (repository_id);

COMMENT ON TABLE tracked_organisations IS 'Organisations and users whose repositories are tracked. New repositories that fit the rule join. [product; operator]';
COMMENT ON COLUMN tracked_organisations.id IS 'Key. [product; operator]';
COMMENT ON COLUMN tracked_organisations.node_id IS 'GitHub''s key. Null until GitHub has answered. [RepositoryOwner.id; planner]';
COMMENT ON COLUMN tracked_organisations.login IS 'Its name at the last listing. [RepositoryOwner.login; planner]';
COMMENT ON COLUMN tracked_organisations.is_user IS 'Whether it is a user. Null until GitHub has answered. [RepositoryOwner.__typename; planner]';
COMMENT ON COLUMN tracked_organisations.rule IS 'Which repositories join: {"include": [globs], "exclude": [globs], "forks": boolean, "archived": boolean}. [product; operator]';
COMMENT ON COLUMN tracked_organisations.chunk_size IS 'chunk_size of repositories that join. Null: the default. [product; operator]';
COMMENT ON COLUMN tracked_organisations.metadata IS 'metadata of repositories that join. [product; operator]';
COMMENT ON COLUMN tracked_organisations.listing_number IS 'Number of the listing that is under way, or of the last one. [product; planner]';
COMMENT ON COLUMN tracked_organisations.listing_cursor IS 'Where the listing continues. Null: at its beginning. [PageInfo.endCursor; planner]';
COMMENT ON COLUMN tracked_organisations.listing_started_at IS 'When the listing that is under way began. Null: none is. [product; planner]';
COMMENT ON COLUMN tracked_organisations.listed_at IS 'When the last whole listing ended. Null before the first. [product; planner]';
COMMENT ON COLUMN tracked_organisations.asked_at IS 'When a listing last ended, whole or with an error. Null before the first. [product; planner]';
COMMENT ON COLUMN tracked_organisations.total_repositories IS 'Repositories that GitHub counts. Null until GitHub has answered. [RepositoryConnection.totalCount; planner]';
COMMENT ON COLUMN tracked_organisations.hidden_repositories IS 'Repositories that GitHub counts and does not show to the token. Null before the first whole listing. [product; planner]';
COMMENT ON COLUMN tracked_organisations.reason IS 'Why the last listing did not end. Null if it ended. [product; planner]';
COMMENT ON COLUMN tracked_organisations.created_at IS 'When it was added. [product; operator]';

COMMENT ON TABLE organisation_repositories IS 'Repositories that the lists of tracked organisations have shown. [product; planner]';
COMMENT ON COLUMN organisation_repositories.organisation_id IS 'The organisation. [product; planner]';
COMMENT ON COLUMN organisation_repositories.github_id IS 'GitHub''s number of the repository. [Repository.databaseId; planner]';
COMMENT ON COLUMN organisation_repositories.repository_id IS 'The repository that joined. Null if it did not join, or its data is deleted. [product; planner]';
COMMENT ON COLUMN organisation_repositories.full_name IS 'owner/name at the last listing that showed it. [Repository.nameWithOwner; planner]';
COMMENT ON COLUMN organisation_repositories.is_fork IS 'Whether it is a fork. [Repository.isFork; planner]';
COMMENT ON COLUMN organisation_repositories.is_archived IS 'Whether it is archived. [Repository.isArchived; planner]';
COMMENT ON COLUMN organisation_repositories.total_prs IS 'Pull requests that GitHub counted at the last listing. [PullRequestConnection.totalCount; planner]';
COMMENT ON COLUMN organisation_repositories.left_out IS 'Why the rule leaves it out: fork, archived or name. Null if it fits. [product; planner]';
COMMENT ON COLUMN organisation_repositories.listing_number IS 'The last listing that showed it. [product; planner]';
COMMENT ON COLUMN organisation_repositories.first_seen_at IS 'When a listing first showed it. [product; planner]';
COMMENT ON COLUMN organisation_repositories.joined_at IS 'When its backfill began, or was found. A repository joins once: one that you remove stays away. Null if it did not join. [product; planner]';
COMMENT ON COLUMN organisation_repositories.gone_at IS 'When a whole listing no longer showed it: deleted, transferred or hidden. Null while it is shown. [product; planner]';
