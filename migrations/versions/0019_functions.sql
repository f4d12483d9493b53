-- The governor's decisions as functions with a version in their name. A change is a new version beside the old one, because
-- code of the release before runs during a deployment. Older code changes the same table by statements of its own.
-- The caller's rights count (SECURITY INVOKER). Some databases take EXECUTE on new functions away from PUBLIC.
-- include functions/budget_present_v1.sql
-- include functions/budget_of_v1.sql
-- include functions/budget_reserve_v1.sql
-- include functions/budget_settle_v1.sql
-- include functions/budget_block_v1.sql
GRANT EXECUTE ON FUNCTION budget_present_v1, budget_of_v1, budget_reserve_v1, budget_settle_v1, budget_block_v1 TO PUBLIC;
COMMENT ON FUNCTION budget_present_v1 IS 'A budget as it counts at a time: times that lie too far ahead are clamped.';
COMMENT ON FUNCTION budget_of_v1 IS 'The budget of an identity, locked; for a dry run as it is.';
COMMENT ON FUNCTION budget_reserve_v1 IS 'Reserves points and server time for a request, or says why not and for how long.';
COMMENT ON FUNCTION budget_settle_v1 IS 'Gives a reservation back and stores what GitHub reported.';
COMMENT ON FUNCTION budget_block_v1 IS 'Stops every worker of an identity because GitHub named a limit.';

-- The work that is left, said once: a pull request that GitHub has, whose details are missing or older than the listing. One that
-- failed counts again after a day, or as soon as it changes on GitHub.
CREATE VIEW pull_requests_lacking_detail AS
SELECT repository_id, number, created_at, total_comments_count, labels_count, assignees_count, review_requests_count,
       closing_issues_count, comments_count, reviews_count, review_threads_count, commits_count, files_count
FROM pull_requests
WHERE gone_at IS NULL AND (detail_updated_at IS NULL OR detail_updated_at < updated_at)
  AND (detail_failed_at IS NULL OR detail_failed_at < now() - interval '24 hours');
COMMENT ON VIEW pull_requests_lacking_detail IS 'Pull requests that a worker has to read: their details are missing or outdated, and did not fail within the last day. [view; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.repository_id IS 'The repository. [product; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.number IS 'Number within the repository. Issues share these numbers. [PullRequest.number; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.created_at IS 'When it was opened. Null if GitHub gives an impossible date. [PullRequest.createdAt; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.total_comments_count IS 'All comments, as GitHub counts them. [PullRequest.totalCommentsCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.labels_count IS 'Labels, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.labels.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.assignees_count IS 'Assignees, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.assignees.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.review_requests_count IS 'Open review requests, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviewRequests.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.closing_issues_count IS 'Issues that it closes, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.closingIssuesReferences.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.comments_count IS 'Issue comments, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.comments.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.reviews_count IS 'Reviews, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviews.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.review_threads_count IS 'Review threads, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.reviewThreads.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.commits_count IS 'Commits, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.commits.totalCount; on reading]';
COMMENT ON COLUMN pull_requests_lacking_detail.files_count IS 'Changed files, as GitHub counts them. 1 if GitHub does not tell. [PullRequest.changedFiles; on reading]';
