"""Progressive Backfill: every pull request of large GitHub repositories in Postgres."""
