"""The planner: list pull requests, cut them into chunks, send these, and check completed backfills for changes."""
