"""The GraphQL text of every query. A totalCount alone is free of points; what repeats is a named fragment."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping, Sequence

from backfill import pull_request_fields
from backfill.github import timeline
from backfill.pull_request_fields import selection

# GitHub reads and validates all of a document before it answers: each is shorter than this.
MOST_BYTES = 8_000
# How many pull requests and further pages a document may name, after GitHub's validation refused more, in turn. One project
# that reads as this one does works with 10, each with all its connections (aveloxis/aveloxis, docs/guide/troubleshooting.md).
MOST_FIELDS = (12, 8, 5)
# The parts of queries that are withheld for that (github_withheld), by the largest number that is left.
_FIELDS = {f"fields:{most}": most for most in MOST_FIELDS}

RATE_LIMIT = "rateLimit { cost limit remaining resetAt }"

# A type of actor that is new still has a login, and an id if it is a Node.
ACTOR = (
    "__typename login avatarUrl url ... on Node { id } ... on User { databaseId } ... on Bot { databaseId } "
    "... on Mannequin { databaseId } ... on Organization { databaseId }"
)
REPOSITORY = "id databaseId name owner { login } url isPrivate isFork isArchived createdAt defaultBranchRef { name }"

LISTED = (
    f"{selection(pull_request_fields.LISTED)} author {{ ...actor }} "
    "labelsCount: labels { totalCount } assigneesCount: assignees { totalCount } "
    "reviewRequestsCount: reviewRequests { totalCount } closingIssuesCount: closingIssuesReferences { totalCount } "
    "commentsCount: comments { totalCount } reviewsCount: reviews { totalCount } "
    "reviewThreadsCount: reviewThreads { totalCount } commitsCount: commits { totalCount }"
)
DETAILED = f"...listed {selection(pull_request_fields.DETAILED)} mergedBy {{ ...actor }}"

_REVIEW_COMMENT = (
    "id fullDatabaseId body path position line originalLine diffHunk createdAt updatedAt url authorAssociation "
    "author { ...actor } commit { oid } originalCommit { oid } outdated replyTo { fullDatabaseId } "
    "pullRequestReview { id }"
)
PAGE = "pageInfo { ...page }"

# What is selected of the nodes of each connection.
NODES = {
    "labels": "id name color",
    "assignees": "...actor",
    "reviewRequests": timeline.REVIEWER,
    "closingIssuesReferences": "number repository { nameWithOwner }",
    "comments": "id fullDatabaseId body createdAt updatedAt url authorAssociation author { ...actor }",
    "reviews": (
        "id fullDatabaseId state body submittedAt createdAt updatedAt url authorAssociation "
        "author { ...actor } commit { oid }"
    ),
    "reviewThreads": timeline.THREAD,
    "commits": ("commit { oid messageHeadline authoredDate committedDate author { name user { ...actor } } }"),
    "files": "path changeType additions deletions",
    "timelineItems": timeline.NODE,
}

# Fields of Team, which a classic token without read:org may not ask for.
TEAM = "id databaseId combinedSlug teamAvatarUrl: avatarUrl url"
TEAM_FIELDS = frozenset({"id", "databaseId", "combinedSlug", "avatarUrl", "url", "slug", "name"})
# The types of the nodes of each connection.
NODE_TYPES = {
    "labels": "Label",
    "assignees": "User",
    "reviewRequests": "ReviewRequest",
    "closingIssuesReferences": "Issue",
    "comments": "IssueComment",
    "reviews": "PullRequestReview",
    "reviewThreads": "PullRequestReviewThread",
    "commits": "PullRequestCommit",
    "files": "PullRequestChangedFile",
    "timelineItems": "PullRequestTimelineItems",
}
CONNECTION_TYPES = {name: f"{kind}Connection" for name, kind in NODE_TYPES.items()}

# Named parts of the queries. GitHub validates a query before it runs it, within a time limit: what stands there a hundred times
# is a name.
FRAGMENTS = {
    "page": "on PageInfo { hasNextPage endCursor startCursor }",
    "actor": f"on Actor {{ {ACTOR} }}",
    "found": f"on Repository {{ {REPOSITORY} pullRequests {{ totalCount }} }}",
    "team": f"on Team {{ {TEAM} }}",
    "listed": f"on PullRequest {{ {LISTED} }}",
    "pullRequest": f"on PullRequest {{ {DETAILED} }}",
    "reviewComments": (f"on PullRequestReviewCommentConnection {{ totalCount {PAGE} nodes {{ {_REVIEW_COMMENT} }} }}"),
    **{f"{name}Node": f"on {kind} {{ {NODES[name]} }}" for name, kind in NODE_TYPES.items()},
    **{
        f"{name}Page": f"on {kind} {{ totalCount {PAGE} nodes {{ ...{name}Node }} }}"
        for name, kind in CONNECTION_TYPES.items()
    },
}
_BRACES = re.compile(r" ?([{}]) ?")
FRAGMENTS = {name: _BRACES.sub(r"\1", text) for name, text in FRAGMENTS.items()}
_SPREAD = re.compile(r"\.\.\.(\w+)")
_AROUND_PUNCTUATORS, _AROUND_SPREADS = re.compile(r"\s*([{}:,()\[\]])\s*"), re.compile(r"\s+\.\.\.\s*")


def with_fragments(query: str, fragments: Mapping[str, str] = FRAGMENTS) -> str:
    """A query with the fragments that it uses, and those that they use."""
    used: dict[str, str] = {}
    waiting = [query]
    while waiting:
        for name in _SPREAD.findall(waiting.pop()):
            if name != "on" and name not in used:
                used[name] = fragments[name]
                waiting.append(used[name])
    return " ".join([query, *(f"fragment {name} {text}" for name, text in used.items())])


def squeezed(text: str) -> str:
    """The same document without what GraphQL ignores. Its values have no spaces."""
    return _AROUND_SPREADS.sub("...", _AROUND_PUNCTUATORS.sub(r"\1", text))


LISTING = with_fragments(
    f"""query ListPullRequests($repository: ID!, $first: Int!, $after: String) {{
  node(id: $repository) {{ ... on Repository {{
    {REPOSITORY}
    pullRequests(first: $first, after: $after, orderBy: {{field: CREATED_AT, direction: ASC}}) {{
      totalCount {PAGE} nodes {{ ...listed }}
    }}
    newest: pullRequests(first: 1, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ nodes {{ updatedAt }} }}
  }} }}
  {RATE_LIMIT}
}}"""
)

UPDATED = LISTING.replace("ListPullRequests", "ListUpdatedPullRequests").replace(
    "{field: CREATED_AT, direction: ASC}", "{field: UPDATED_AT, direction: DESC}"
)

FIND = f"""query FindRepository($owner: String!, $name: String!) {{
  repository(owner: $owner, name: $name) {{ {REPOSITORY} pullRequests {{ totalCount }} }}
  {RATE_LIMIT}
}}"""


def find(names: Sequence[tuple[str, str]]) -> str:
    """Several repositories by owner and name, as r0, r1 …"""
    return _find(names, "")


def find_and_check(names: Sequence[tuple[str, str]]) -> str:
    """As ``find``, and the server validates every field, type and argument that any query names.

    A server validates all of a document, and runs no selection that is skipped: an old one refuses the document and names
    what it lacks.
    """
    return _find(names, _EVERYTHING)


def _find(names: Sequence[tuple[str, str]], also: str) -> str:
    each = [
        f"r{index}: repository(owner: {json.dumps(owner)}, name: {json.dumps(name)}) {{...found}}"
        for index, (owner, name) in enumerate(names)
    ]
    return with_fragments(f"query FindRepositories {{ {' '.join(each)} {also} {RATE_LIMIT} }}")


def _both_ends(name: str) -> str:
    """A connection with every argument that pages it."""
    comments = 'comments(first: 1, after: "") { ...reviewComments }'
    page = f"...{name}Page nodes {{ {comments} }}" if name in ("reviews", "reviewThreads") else f"...{name}Page"
    also = f", {timeline.ARGUMENT}" if name == "timelineItems" else ""
    front = f'{name}(first: 1, after: ""{also}) {{ {page} }}'
    if name == "timelineItems":
        return front
    return f'{front} {name}Last: {name}(last: 1, before: "") {{ ...{name}Page }}'


# Whatever the queries of this module name, never run.
_EVERYTHING = squeezed(f"""node(id: "") @skip(if: true) {{ ... on Repository {{
    pullRequests(first: 1, after: "", orderBy: {{field: CREATED_AT, direction: ASC}}) {{ totalCount {PAGE} nodes {{ ...listed }} }}
    newest: pullRequests(first: 1, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ nodes {{ updatedAt }} }}
    pullRequest(number: 1) {{ ...pullRequest {" ".join(map(_both_ends, NODES))} }}
  }} }}
  nodes(ids: [""]) @skip(if: true) {{ id }}""")


# One connection per repository: a hundred of them weigh 100, which is a point.
EXAMINE = f"""query ExamineRepositories($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on Repository {{
    {REPOSITORY}
    pullRequests(first: 1, orderBy: {{field: UPDATED_AT, direction: DESC}}) {{ totalCount nodes {{ updatedAt }} }}
  }} }}
  {RATE_LIMIT}
}}"""


def most_fields(withheld: Container[str]) -> int | None:
    """How many pull requests and further pages a document may name; None: GitHub's validation has refused none."""
    return min((most for part, most in _FIELDS.items() if part in withheld), default=None)


def part_of_fields(refused: int) -> str | None:
    """The part to withhold after a document that named so many was refused; None if no smaller number is foreseen."""
    return next((part for part, most in _FIELDS.items() if most < refused), None)


VIEWER = "query Viewer { viewer { login } }"
# One point; its reply's headers tell about the token.
TOKEN = f"query Token {{ {RATE_LIMIT} }}"
