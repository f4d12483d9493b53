-- GitHub's node ids have two forms, legacy and next. A row keeps the id under which it came first, because others refer to it.
-- Null: GitHub has shown one form only.
ALTER TABLE contributors ADD COLUMN other_node_id text;
ALTER TABLE labels ADD COLUMN other_node_id text;
CREATE INDEX contributors_by_other_node_id ON contributors (other_node_id) WHERE other_node_id IS NOT NULL;
CREATE INDEX labels_by_other_node_id ON labels (other_node_id) WHERE other_node_id IS NOT NULL;
-- A label has no number at GitHub. Its other form is found by its name, among the labels of its repository.
CREATE INDEX labels_by_repository ON labels (repository_id);

-- github_id, in the row that a node id of the other form leads to. Two writers that meet one account under two forms cannot
-- both store it. The version before leaves it null.
ALTER TABLE contributors ADD COLUMN account_id bigint;
UPDATE contributors AS c SET account_id = first.github_id
FROM (SELECT DISTINCT ON (type, github_id) node_id, github_id FROM contributors
      WHERE github_id IS NOT NULL ORDER BY type, github_id, first_seen_at, node_id) AS first
WHERE c.node_id = first.node_id;
CREATE UNIQUE INDEX contributors_by_account ON contributors (type, account_id) WHERE account_id IS NOT NULL;
