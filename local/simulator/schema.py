"""The part of GitHub's schema that the backfill uses, with GitHub's own names and nullability.

A server may be told to lack something, as an old GitHub Enterprise Server does; it refuses what it lacks in graphql-ruby's words.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from typing import Any

from graphql import GraphQLError, GraphQLSchema, build_ast_schema, parse

SDL = """
scalar DateTime
scalar URI
scalar BigInt
scalar GitObjectID

enum OrderDirection { ASC DESC }
enum PullRequestOrderField { CREATED_AT UPDATED_AT }
enum PullRequestState { OPEN CLOSED MERGED }
enum PullRequestTimelineItemsItemType {
  REVIEW_REQUESTED_EVENT REVIEW_REQUEST_REMOVED_EVENT READY_FOR_REVIEW_EVENT CONVERT_TO_DRAFT_EVENT HEAD_REF_FORCE_PUSHED_EVENT
  LABELED_EVENT UNLABELED_EVENT ASSIGNED_EVENT UNASSIGNED_EVENT MERGED_EVENT CLOSED_EVENT REOPENED_EVENT MENTIONED_EVENT
}
enum RepositoryOrderField { CREATED_AT NAME PUSHED_AT UPDATED_AT }
enum RepositoryAffiliation { OWNER COLLABORATOR ORGANIZATION_MEMBER }
input RepositoryOrder { field: RepositoryOrderField! direction: OrderDirection! }
input PullRequestOrder { field: PullRequestOrderField! direction: OrderDirection! }

type Query {
  rateLimit(dryRun: Boolean = false): RateLimit
  viewer: User!
  repository(owner: String!, name: String!, followRenames: Boolean = true): Repository
  repositoryOwner(login: String!): RepositoryOwner
  node(id: ID!): Node
  nodes(ids: [ID!]!): [Node]!
}
type RateLimit { cost: Int! limit: Int! nodeCount: Int! remaining: Int! resetAt: DateTime! used: Int! }
interface Node { id: ID! }
interface RepositoryOwner {
  login: String! id: ID! url: URI!
  repositories(first: Int, last: Int, after: String, before: String, orderBy: RepositoryOrder, ownerAffiliations: [RepositoryAffiliation]): RepositoryConnection!
}
interface Actor { login: String! avatarUrl: URI! url: URI! }
type User implements Actor & Node & RepositoryOwner {
  id: ID! databaseId: Int login: String! avatarUrl: URI! url: URI!
  repositories(first: Int, last: Int, after: String, before: String, orderBy: RepositoryOrder, ownerAffiliations: [RepositoryAffiliation]): RepositoryConnection!
}
type Bot implements Actor & Node { id: ID! databaseId: Int login: String! avatarUrl: URI! url: URI! }
type Mannequin implements Actor & Node { id: ID! databaseId: Int login: String! avatarUrl: URI! url: URI! }
type Organization implements Actor & Node & RepositoryOwner {
  id: ID! databaseId: Int login: String! avatarUrl: URI! url: URI!
  repositories(first: Int, last: Int, after: String, before: String, orderBy: RepositoryOrder, ownerAffiliations: [RepositoryAffiliation]): RepositoryConnection!
}
type EnterpriseUserAccount implements Actor & Node { id: ID! login: String! avatarUrl: URI! url: URI! }
type Team implements Node { id: ID! databaseId: Int combinedSlug: String! slug: String! avatarUrl: URI url: URI! }
union RequestedReviewer = Bot | Mannequin | Team | User
union Assignee = Bot | Mannequin | Organization | User

type PageInfo { endCursor: String hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String }
type Ref { name: String! }
type Commit { oid: GitObjectID! messageHeadline: String! authoredDate: DateTime! committedDate: DateTime! author: GitActor }
type GitActor { name: String user: User }
type Milestone { number: Int! title: String! }
type Label implements Node { id: ID! name: String! color: String! }
type Issue implements Node { id: ID! number: Int! repository: Repository! }
type PullRequestChangedFile { path: String! changeType: String! additions: Int! deletions: Int! }
type PullRequestCommit { id: ID! commit: Commit! }
type ReviewRequest { requestedReviewer: RequestedReviewer }

type Repository implements Node {
  id: ID! databaseId: Int name: String! owner: RepositoryOwner! nameWithOwner: String! url: URI!
  isPrivate: Boolean! isFork: Boolean! isArchived: Boolean! createdAt: DateTime! defaultBranchRef: Ref
  pullRequest(number: Int!): PullRequest
  pullRequests(first: Int, last: Int, after: String, before: String, orderBy: PullRequestOrder, states: [PullRequestState!]): PullRequestConnection!
}
type PullRequest implements Node {
  id: ID! fullDatabaseId: BigInt number: Int! url: URI! title: String! body: String! state: PullRequestState! isDraft: Boolean!
  locked: Boolean! merged: Boolean! createdAt: DateTime! updatedAt: DateTime! closedAt: DateTime mergedAt: DateTime
  additions: Int! deletions: Int! changedFiles: Int! authorAssociation: String! author: Actor mergedBy: Actor
  baseRefName: String! baseRefOid: GitObjectID! headRefName: String! headRefOid: GitObjectID! isCrossRepository: Boolean!
  headRepository: Repository mergeCommit: Commit milestone: Milestone totalCommentsCount: Int
  activeLockReason: String lastEditedAt: DateTime publishedAt: DateTime reviewDecision: String
  labels(first: Int, last: Int, after: String, before: String): LabelConnection
  assignees(first: Int, last: Int, after: String, before: String): UserConnection!
  reviewRequests(first: Int, last: Int, after: String, before: String): ReviewRequestConnection
  closingIssuesReferences(first: Int, last: Int, after: String, before: String): IssueConnection
  comments(first: Int, last: Int, after: String, before: String): IssueCommentConnection!
  reviews(first: Int, last: Int, after: String, before: String): PullRequestReviewConnection
  reviewThreads(first: Int, last: Int, after: String, before: String): PullRequestReviewThreadConnection!
  commits(first: Int, last: Int, after: String, before: String): PullRequestCommitConnection!
  files(first: Int, last: Int, after: String, before: String): PullRequestChangedFileConnection
  timelineItems(first: Int, last: Int, after: String, before: String, itemTypes: [PullRequestTimelineItemsItemType!]): PullRequestTimelineItemsConnection!
}
type ReviewRequestedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor requestedReviewer: RequestedReviewer }
type ReviewRequestRemovedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor requestedReviewer: RequestedReviewer }
type ReadyForReviewEvent implements Node { id: ID! createdAt: DateTime! actor: Actor }
type ConvertToDraftEvent implements Node { id: ID! createdAt: DateTime! actor: Actor }
type HeadRefForcePushedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor beforeCommit: Commit afterCommit: Commit }
type LabeledEvent implements Node { id: ID! createdAt: DateTime! actor: Actor label: Label! }
type UnlabeledEvent implements Node { id: ID! createdAt: DateTime! actor: Actor label: Label! }
type AssignedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor assignee: Assignee }
type UnassignedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor assignee: Assignee }
type MergedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor }
type ClosedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor }
type ReopenedEvent implements Node { id: ID! createdAt: DateTime! actor: Actor }
union PullRequestTimelineItems = ReviewRequestedEvent | ReviewRequestRemovedEvent | ReadyForReviewEvent | ConvertToDraftEvent
  | HeadRefForcePushedEvent | LabeledEvent | UnlabeledEvent | AssignedEvent | UnassignedEvent | MergedEvent | ClosedEvent | ReopenedEvent
type IssueComment implements Node {
  id: ID! fullDatabaseId: BigInt body: String! createdAt: DateTime! updatedAt: DateTime! url: URI! authorAssociation: String! author: Actor
}
type PullRequestReview implements Node {
  id: ID! fullDatabaseId: BigInt state: String! body: String! submittedAt: DateTime createdAt: DateTime! updatedAt: DateTime!
  url: URI! authorAssociation: String! author: Actor commit: Commit
  comments(first: Int, last: Int, after: String, before: String): PullRequestReviewCommentConnection!
}
type PullRequestReviewThread implements Node {
  id: ID! path: String! line: Int originalLine: Int isResolved: Boolean! resolvedBy: User isOutdated: Boolean! diffSide: String!
  comments(first: Int, last: Int, after: String, before: String): PullRequestReviewCommentConnection!
}
type PullRequestReviewComment implements Node {
  id: ID! fullDatabaseId: BigInt body: String! path: String! position: Int line: Int originalLine: Int diffHunk: String!
  createdAt: DateTime! updatedAt: DateTime! url: URI! authorAssociation: String! author: Actor commit: Commit
  originalCommit: Commit outdated: Boolean! replyTo: PullRequestReviewComment pullRequestReview: PullRequestReview
}
type PullRequestTimelineItemsConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequestTimelineItems] }
type RepositoryConnection { totalCount: Int! pageInfo: PageInfo! nodes: [Repository] }
type PullRequestConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequest] }
type LabelConnection { totalCount: Int! pageInfo: PageInfo! nodes: [Label] }
type UserConnection { totalCount: Int! pageInfo: PageInfo! nodes: [User] }
type ReviewRequestConnection { totalCount: Int! pageInfo: PageInfo! nodes: [ReviewRequest] }
type IssueConnection { totalCount: Int! pageInfo: PageInfo! nodes: [Issue] }
type IssueCommentConnection { totalCount: Int! pageInfo: PageInfo! nodes: [IssueComment] }
type PullRequestReviewConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequestReview] }
type PullRequestReviewThreadConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequestReviewThread] }
type PullRequestReviewCommentConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequestReviewComment] }
type PullRequestCommitConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequestCommit] }
type PullRequestChangedFileConnection { totalCount: Int! pageInfo: PageInfo! nodes: [PullRequestChangedFile] }
"""


def schema_without(lacks: Collection[str] = ()) -> GraphQLSchema:
    """GitHub's, without the types (``Mannequin``), fields (``Team.url``) and arguments (``PullRequest.files.last``) that it lacks.

    Raises ValueError for what it does not have anyway.
    """
    document = _whole()
    for each in lacks:
        document = _without(document, "definitions", each.split("."))
    return build_ast_schema(document)


@cache
def _whole() -> Any:
    return parse(SDL, no_location=True)


def _without(held: Any, attribute: str, names: list[str]) -> Any:
    """A part of the schema without the part below it that is named step by step."""
    name, *deeper = names
    parts = getattr(held, attribute)
    if name not in [each.name.value for each in parts]:
        raise ValueError(f"the schema has no {name} to take away")
    kept = []
    for each in parts:
        if each.name.value != name:
            kept.append(each if attribute != "definitions" or deeper else _unrelated(each, name))
        elif deeper:
            kept.append(_without(each, "arguments" if attribute == "fields" else "fields", deeper))
    return replace(held, **{attribute: tuple(kept)})


def _unrelated(definition: Any, name: str) -> Any:
    """A type without the unions and interfaces that the schema does not have."""
    related = {
        kind: tuple(each for each in getattr(definition, kind) if each.name.value != name)
        for kind in ("types", "interfaces")
        if getattr(definition, kind, None)
    }
    return replace(definition, **related)


# What graphql-core says, and the same in graphql-ruby: its sentence, its code, and the names of what it gives besides.
_IN_RUBY = (
    (
        r"Cannot query field '(\w+)' on type '(\w+)'",
        "Field '{0}' doesn't exist on type '{1}'",
        "undefinedField",
        ("fieldName", "typeName"),
    ),
    (r"Unknown type '(\w+)'", "No such type {0}, so it can't be a fragment condition", "undefinedType", ("typeName",)),
    (
        r"Unknown argument '(\w+)' on field '\w+\.(\w+)'",
        "Field '{1}' doesn't accept argument '{0}'",
        "argumentNotAccepted",
        ("argumentName", "name"),
    ),
)


def refusal(problem: GraphQLError) -> dict[str, Any]:
    """The error of a document that is not valid, in graphql-ruby's words where they are known."""
    for pattern, sentence, code, names in _IN_RUBY:
        match = re.search(pattern, problem.message)
        if match:
            extensions = {"code": code, **dict(zip(names, match.groups(), strict=True))}
            return {"path": ["query"], "extensions": extensions, "message": sentence.format(*match.groups())}
    return {"message": problem.message}
