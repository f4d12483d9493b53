"""A dry run: what backfills take before they take it. Reads only; Postgres itself refuses writes."""
