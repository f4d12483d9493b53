-- Where the GitHub App is installed, so that a new container need not ask, and so that status and forecast know which identity
-- reads an owner's repositories. The list is replaced whole. It is empty where the secret names a single identity.
CREATE TABLE github_installations (
    identity text PRIMARY KEY,
    app_id text NOT NULL,
    account text NOT NULL,
    former_account text,
    repository_selection text NOT NULL,
    suspended_at timestamptz,
    lacks text [] NOT NULL,
    listed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE github_installations IS 'The installations of the GitHub App, as GitHub listed them last. Each has a budget of its own. [product; any request]';
COMMENT ON COLUMN github_installations.identity IS 'Key of github_budget: installation:ID. [product; any request]';
COMMENT ON COLUMN github_installations.app_id IS 'The App. [product; any request]';
COMMENT ON COLUMN github_installations.account IS 'Login of the user or organisation on which the App is installed. [product; any request]';
COMMENT ON COLUMN github_installations.former_account IS 'Its login before it was renamed. Repositories keep it until GitHub answers for them. Null if it was not renamed. [product; any request]';
COMMENT ON COLUMN github_installations.repository_selection IS 'all or selected repositories of the account. [product; any request]';
COMMENT ON COLUMN github_installations.suspended_at IS 'Since when the account suspends the App. Null while it does not. [product; any request]';
COMMENT ON COLUMN github_installations.lacks IS 'Permissions that the product needs and the account did not grant. [product; any request]';
COMMENT ON COLUMN github_installations.listed_at IS 'When GitHub listed it. [product; any request]';
