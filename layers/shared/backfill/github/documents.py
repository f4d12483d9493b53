"""The GraphQL text of every query. Connections are asked by exact ``first``; a totalCount alone is free of points."""

from __future__ import annotations

import json
from collections.abc import Sequence

from backfill.github.packing import Part

RATE_LIMIT = "rateLimit { cost limit remaining resetAt }"

_PERSON = "id databaseId login avatarUrl url"
ACTOR = (
    "__typename login avatarUrl url ... on User { id databaseId } ... on Bot { id databaseId } "
    "... on Mannequin { id databaseId } ... on Organization { id databaseId } ... on EnterpriseUserAccount { id }"
)
REPOSITORY = "id databaseId name owner { login } url isPrivate isFork isArchived createdAt defaultBranchRef { name }"

LISTED = (
    "id fullDatabaseId number url title state isDraft locked merged createdAt updatedAt closedAt mergedAt "
    "additions deletions changedFiles authorAssociation "
    f"author {{ {ACTOR} }} baseRefName baseRefOid headRefName headRefOid isCrossRepository "
    "headRepository { nameWithOwner } totalCommentsCount "
    "labelsCount: labels { totalCount } assigneesCount: assignees { totalCount } "
    "reviewRequestsCount: reviewRequests { totalCount } closingIssuesCount: closingIssuesReferences { totalCount } "
    "commentsCount: comments { totalCount } reviewsCount: reviews { totalCount } "
    "reviewThreadsCount: reviewThreads { totalCount } commitsCount: commits { totalCount }"
)
DETAILED = f"{LISTED} body mergedBy {{ {ACTOR} }} mergeCommit {{ oid }} milestone {{ number title }}"

_REVIEW_COMMENT = (
    "id fullDatabaseId body path position line originalLine diffHunk createdAt updatedAt url authorAssociation "
    f"author {{ {ACTOR} }} commit {{ oid }} originalCommit {{ oid }} outdated replyTo {{ fullDatabaseId }} "
    "pullRequestReview { id }"
)
_PAGE = "pageInfo { hasNextPage endCursor startCursor }"

# What is selected of the nodes of each connection.
NODES = {
    "labels": "id name color",
    "assignees": f"__typename {_PERSON}",
    "reviewRequests": (
        "requestedReviewer { __typename "
        f"... on User {{ {_PERSON} }} ... on Bot {{ {_PERSON} }} ... on Mannequin {{ {_PERSON} }} "
        "... on Team { id databaseId combinedSlug teamAvatarUrl: avatarUrl url } }"
    ),
    "closingIssuesReferences": "number repository { nameWithOwner }",
    "comments": (f"id fullDatabaseId body createdAt updatedAt url authorAssociation author {{ {ACTOR} }}"),
    "reviews": (
        "id fullDatabaseId state body submittedAt createdAt updatedAt url authorAssociation "
        f"author {{ {ACTOR} }} commit {{ oid }}"
    ),
    "reviewThreads": "id",
    "commits": (
        f"commit {{ oid messageHeadline authoredDate committedDate author {{ name user {{ __typename {_PERSON} }} }} }}"
    ),
    "files": "path changeType additions deletions",
}

LISTING = f"""query ListPullRequests($repository: ID!, $first: Int!, $after: String) {{
  node(id: $repository) {{ ... on Repository {{
    {REPOSITORY}
    pullRequests(first: $first, after: $after, orderBy: {{field: CREATED_AT, direction: ASC}}) {{
      totalCount {_PAGE} nodes {{ {LISTED} }}
    }}
    newest: pullRequests(first: 1, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ nodes {{ updatedAt }} }}
  }} }}
  {RATE_LIMIT}
}}"""

UPDATED = LISTING.replace("ListPullRequests", "ListUpdatedPullRequests").replace(
    "{field: CREATED_AT, direction: ASC}", "{field: UPDATED_AT, direction: DESC}"
)

FIND = f"""query FindRepository($owner: String!, $name: String!) {{
  repository(owner: $owner, name: $name) {{ {REPOSITORY} pullRequests {{ totalCount }} }}
  {RATE_LIMIT}
}}"""


def find(names: Sequence[tuple[str, str]]) -> str:
    """Several repositories by owner and name, as r0, r1 …"""
    fields = f"{{ {REPOSITORY} pullRequests {{ totalCount }} }}"
    each = [
        f"r{index}: repository(owner: {json.dumps(owner)}, name: {json.dumps(name)}) {fields}"
        for index, (owner, name) in enumerate(names)
    ]
    return f"query FindRepositories {{ {' '.join(each)} {RATE_LIMIT} }}"


# One connection per repository: a hundred of them weigh 100, which is a point.
EXAMINE = f"""query ExamineRepositories($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on Repository {{
    {REPOSITORY}
    pullRequests(first: 1, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ totalCount nodes {{ updatedAt }} }}
  }} }}
  {RATE_LIMIT}
}}"""

VIEWER = "query Viewer { viewer { login } }"


# Named parts of detail queries: the text stays small however many pull requests it asks for.
_FRAGMENTS = {
    "pullRequest": f"fragment pullRequest on PullRequest {{ {DETAILED} }}",
    "reviewComments": (
        f"fragment reviewComments on PullRequestReviewCommentConnection {{ {_PAGE} nodes {{ {_REVIEW_COMMENT} }} }}"
    ),
    **{
        name: f"fragment {name} on {kind} {{ {NODES[name]} }}"
        for name, kind in {
            "labels": "Label",
            "assignees": "User",
            "reviewRequests": "ReviewRequest",
            "closingIssuesReferences": "Issue",
            "comments": "IssueComment",
            "reviews": "PullRequestReview",
            "reviewThreads": "PullRequestReviewThread",
            "commits": "PullRequestCommit",
            "files": "PullRequestChangedFile",
        }.items()
    },
}


def connection(part: Part, after: str | None = None, before: str | None = None) -> str:
    """A connection of a pull request, from the front and (``part.last``) from its far end."""
    name = part.connection
    below = f" comments(first: {part.nested}) {{ ...reviewComments }}" if part.nested else ""
    fields = f"{{ totalCount {_PAGE} nodes {{ ...{name}{below} }} }}"
    text = f"{name}(first: {part.first}{_cursor('after', after)}) {fields}"
    return f"{text} {name}Last: {name}(last: {part.last}{_cursor('before', before)}) {fields}" if part.last else text


def _cursor(name: str, cursor: str | None) -> str:
    return f', {name}: "{cursor}"' if cursor else ""


def pull_request(alias: str, number: int, fields: str) -> str:
    """One pull request of a query: ``fields`` as text, or ``...pullRequest`` for all of its own."""
    return f"{alias}: pullRequest(number: {number}) {{ {fields} }}"


def more_review_comments(alias: str, node_id: str, parent: str, first: int, after: str) -> str:
    """The next ``first`` review comments of a review (``reviews``) or thread (``reviewThreads``)."""
    kind = "PullRequestReview" if parent == "reviews" else "PullRequestReviewThread"
    page = f'comments(first: {first}, after: "{after}") {{ ...reviewComments }}'
    return f'{alias}: node(id: "{node_id}") {{ ... on {kind} {{ {page} }} }}'


def details(of_repository: str, at_root: str) -> str:
    """A detail query: aliases below the repository, follow-up pages of reviews and threads at the root, and the
    fragments that they use."""
    below = f"node(id: $repository) {{ ... on Repository {{ id {of_repository} }} }}"
    used = [text for name, text in _FRAGMENTS.items() if f"...{name} " in f"{of_repository}{at_root}"]
    query = f"query PullRequestDetails($repository: ID!) {{ {below} {at_root} {RATE_LIMIT} }}"
    return " ".join([query, *used])
