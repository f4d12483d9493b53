"""Progressive Backfill: every pull request of large GitHub repositories in Postgres."""

# The version of the release, whose tag is v and this. Functions are shipped without git.
__version__ = "0.1.0"
