"""One object of GitHub is one row, whatever form its node id has: legacy (``MDQ6VXNlcjE=``) or next (``U_kgAB``).

Contributors and labels keep the node id under which they came first, because other rows refer to it, and note the other form.
Nothing in the database depends on the node id of a review or a comment: such a row gets the form that GitHub gave last.
https://docs.github.com/en/graphql/guides/migrating-graphql-global-node-ids
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backfill.store.rows import Rows, Statement

# Columns that name a contributor, a label or a review by its node id.
_REFERRING = (
    "author_id",
    "merged_by_id",
    "contributor_id",
    "label_id",
    "review_id",
    "actor_id",
    "subject_id",
    "resolved_by_id",
)


def _forms_differ(one: str, other: str) -> str:
    """SQL: two node ids have different forms. The alphabet of the legacy form has no underscore; the next form begins with a
    word and one."""
    return f"(strpos({one}, '_') > 0) <> (strpos({other}, '_') > 0)"


_ACTORS = """jsonb_to_recordset(:people) AS i(
        node_id text, type text, github_id bigint, login text, avatar_url text, url text)"""

# The stored row of an actor i. A login is not an identity: GitHub gives it to another account after a rename.
_CONTRIBUTOR = f"""COALESCE(
        (SELECT k.node_id FROM contributors AS k WHERE k.type = i.type AND k.account_id = i.github_id
                                                   AND {_forms_differ("k.node_id", "i.node_id")}),
        (SELECT k.node_id FROM contributors AS k WHERE k.node_id = i.node_id),
        (SELECT k.node_id FROM contributors AS k WHERE k.other_node_id = i.node_id ORDER BY k.node_id LIMIT 1))"""

# Two writers that insert the same accounts wait for each other in the order of the accounts, whatever their forms. The second
# one inserts nothing, and the next statement finds the row of the first one.
_NEW_ACCOUNTS = f"""
    INSERT INTO contributors (node_id, type, github_id, account_id, login, avatar_url, url)
    SELECT node_id, type, github_id, github_id, login, avatar_url, url FROM {_ACTORS}
    WHERE github_id IS NOT NULL AND {_CONTRIBUTOR} IS NULL
    ORDER BY github_id, type, node_id
    ON CONFLICT DO NOTHING
"""
# Actors without a number, and a second node id of the same form for one number.
_NEW_ACTORS = f"""
    INSERT INTO contributors (node_id, type, github_id, login, avatar_url, url)
    SELECT node_id, type, github_id, login, avatar_url, url FROM {_ACTORS}
    WHERE {_CONTRIBUTOR} IS NULL
    ORDER BY node_id
    ON CONFLICT DO NOTHING
"""
# An answer without the number does not remove it. A row that changes its type gives up its account if a row of the new type
# has the number.
_CONTRIBUTORS = f"""
    WITH incoming AS MATERIALIZED (SELECT i.*, {_CONTRIBUTOR} AS key FROM {_ACTORS}),
    latest AS (
        SELECT DISTINCT ON (key) key, type, github_id, login, avatar_url, url,
               max(node_id) FILTER (WHERE node_id <> key) OVER (PARTITION BY key) AS other_node_id
        FROM incoming WHERE key IS NOT NULL ORDER BY key, github_id, node_id),
    changed AS (
        SELECT c.node_id, l.type, n.github_id, l.login, l.avatar_url, l.url, n.other_node_id
        FROM latest AS l JOIN contributors AS c ON c.node_id = l.key
        CROSS JOIN LATERAL (SELECT COALESCE(l.github_id, c.github_id) AS github_id,
                                   COALESCE(l.other_node_id, c.other_node_id) AS other_node_id) AS n
        WHERE (c.type, c.github_id, c.login, c.avatar_url, c.url, c.other_node_id)
              IS DISTINCT FROM (l.type, n.github_id, l.login, l.avatar_url, l.url, n.other_node_id)
           OR (c.account_id IS NULL AND c.github_id IS NOT NULL
               AND NOT EXISTS (SELECT FROM contributors AS a WHERE a.type = c.type AND a.account_id = c.github_id))
        ORDER BY c.node_id FOR NO KEY UPDATE OF c),
    updated AS (
        UPDATE contributors AS c SET
            type = n.type, github_id = n.github_id, login = n.login, avatar_url = n.avatar_url, url = n.url,
            other_node_id = n.other_node_id,
            account_id = CASE WHEN NOT EXISTS (SELECT FROM contributors AS a WHERE a.type = n.type
                              AND a.account_id = n.github_id AND a.node_id <> n.node_id) THEN n.github_id END
        FROM changed AS n WHERE c.node_id = n.node_id)
    SELECT node_id, key FROM incoming WHERE key <> node_id
"""

# For a statement on pull requests: the author's node id as given, and as stored.
AUTHORS = f"(SELECT i.node_id AS given, {_CONTRIBUTOR} AS stored FROM {_ACTORS})"

_LABEL_ROWS = "jsonb_to_recordset(:labels) AS {}(node_id text, name text, color text)"
# The stored row of a label i. A label has no number at GitHub; its name is unique in its repository. So a name that meets an
# id of the other form is the same label. A second id of the same form is a label that was created anew.
_LABEL = f"""COALESCE(
        (SELECT k.node_id FROM labels AS k WHERE k.node_id = i.node_id),
        (SELECT k.node_id FROM labels AS k WHERE k.other_node_id = i.node_id ORDER BY k.node_id LIMIT 1),
        (SELECT k.node_id FROM labels AS k
         WHERE k.repository_id = :repository_id AND lower(k.name) = lower(i.name) AND k.other_node_id IS NULL
           AND {_forms_differ("k.node_id", "i.node_id")} ORDER BY k.node_id LIMIT 1))"""
# Nothing but a lock keeps two writers from storing a new label under two forms. Labels are rarely new.
_LOCK_LABELS = f"""
    SELECT pg_advisory_xact_lock(hashtextextended(CAST(CAST(:repository_id AS uuid) AS text), 0))
    WHERE EXISTS (SELECT FROM {_LABEL_ROWS.format("i")} WHERE {_LABEL} IS NULL)
"""
_NEW_LABELS = f"""
    INSERT INTO labels (node_id, repository_id, name, color)
    SELECT node_id, :repository_id, name, color FROM {_LABEL_ROWS.format("i")}
    WHERE {_LABEL} IS NULL
      AND NOT EXISTS (SELECT FROM {_LABEL_ROWS.format("same")}
                      WHERE lower(same.name) = lower(i.name) AND same.node_id < i.node_id
                        AND {_forms_differ("same.node_id", "i.node_id")})
    ORDER BY node_id
    ON CONFLICT DO NOTHING
"""
_LABELS = f"""
    WITH incoming AS MATERIALIZED (SELECT i.*, {_LABEL} AS key FROM {_LABEL_ROWS.format("i")}),
    latest AS (
        SELECT DISTINCT ON (key) key, name, color,
               max(node_id) FILTER (WHERE node_id <> key) OVER (PARTITION BY key) AS other_node_id
        FROM incoming WHERE key IS NOT NULL ORDER BY key, node_id),
    changed AS (
        SELECT l.node_id, n.name, n.color, COALESCE(n.other_node_id, l.other_node_id) AS other_node_id
        FROM latest AS n JOIN labels AS l ON l.node_id = n.key
        WHERE (l.name, l.color, l.other_node_id)
              IS DISTINCT FROM (n.name, n.color, COALESCE(n.other_node_id, l.other_node_id))
        ORDER BY l.node_id FOR NO KEY UPDATE OF l),
    updated AS (
        UPDATE labels AS l SET name = n.name, color = n.color, other_node_id = n.other_node_id
        FROM changed AS n WHERE l.node_id = n.node_id)
    SELECT node_id, key FROM incoming WHERE key <> node_id
"""


def _adopt(table: str, columns: str, condition: str) -> str:
    """SQL: give stored children the node id under which they arrive. The lock on their pull request keeps other writers away."""
    return f"""
    UPDATE {table} AS r SET node_id = n.new
    FROM (SELECT DISTINCT ON (i.node_id) i.node_id AS new, old.node_id AS old
          FROM jsonb_to_recordset(:rows) AS i(
              node_id text, pull_request_number integer, github_id bigint{columns})
          JOIN {table} AS old ON old.pull_request_number = i.pull_request_number AND old.github_id = i.github_id{condition}
           AND {_forms_differ("old.node_id", "i.node_id")}
          WHERE old.repository_id = :repository_id
            AND old.pull_request_number = ANY(:numbers)
            AND NOT EXISTS (SELECT FROM {table} AS same WHERE same.node_id = i.node_id)
          ORDER BY i.node_id, old.node_id) AS n
    WHERE r.node_id = n.old
    """


_ADOPT_REVIEWS = _adopt("reviews", "", "")
# Comments on the conversation and on the diff are numbered apart.
_ADOPT_COMMENTS = _adopt("comments", ", kind text", " AND old.kind = i.kind")


def people_parameter(contributors: Rows) -> str:
    """The contributors of a batch, once each, as the statements of this module take them."""
    return _once(contributors)


def contributor_statements(contributors: Rows) -> list[Statement]:
    """Store contributors. The last statement gives ``node_id`` and ``key`` of those that are stored under another node id."""
    people = {"people": people_parameter(contributors)}
    return [(_NEW_ACCOUNTS, people), (_NEW_ACTORS, people), (_CONTRIBUTORS, people)]


def label_statements(repository_id: str, labels: Rows) -> list[Statement]:
    """Store labels, as ``contributor_statements`` does contributors."""
    parameters = {"labels": _once(labels), "repository_id": repository_id}
    return [(_LOCK_LABELS, parameters), (_NEW_LABELS, parameters), (_LABELS, parameters)]


def adopting_statements(repository_id: str, numbers: Sequence[int], reviews: Rows, comments: Rows) -> list[Statement]:
    """Give stored reviews and comments of these pull requests the node ids under which they arrive."""
    statements: list[Statement] = []
    for statement, rows in ((_ADOPT_REVIEWS, reviews), (_ADOPT_COMMENTS, comments)):
        names = ("node_id", "pull_request_number", "github_id", "kind")
        ids = [{name: row.get(name) for name in names} for row in rows if row["github_id"] is not None]
        if ids:
            statements.append(
                (statement, {"rows": json.dumps(ids), "repository_id": repository_id, "numbers": list(numbers)})
            )
    return statements


def in_one_form(rows: Rows) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """Reviews or comments without those that a later row has under the other form; their node ids, and the later ones."""
    latest = {_object(row): str(row["node_id"]) for row in rows if row["github_id"] is not None}
    kept: list[Mapping[str, Any]] = []
    replaced: dict[str, str] = {}
    for row in rows:
        node_id = str(row["node_id"])
        last = latest.get(_object(row), node_id)
        if ("_" in last) == ("_" in node_id):
            kept.append(row)
        else:
            replaced[node_id] = last
    return kept, replaced


def under_stored_ids(rows: Rows, stored: Mapping[str, str]) -> Rows:
    """The rows with the node ids that are stored in place of those that they refer to."""
    if not stored:
        return rows
    return [
        {**row, **{name: stored.get(row[name], row[name]) for name in _REFERRING if row.get(name) is not None}}
        for row in rows
    ]


def _object(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["pull_request_number"], row.get("kind"), row["github_id"]


def _once(rows: Rows) -> str:
    return json.dumps(list({row["node_id"]: row for row in rows}.values()))
