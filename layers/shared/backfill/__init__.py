"""Progressive Backfill: every pull request of large GitHub repositories in Postgres."""

# The same as in pyproject.toml: functions are shipped without it.
__version__ = "0.1.0"
