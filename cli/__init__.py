"""The `backfill` command: operates a deployed stack through lambda:InvokeFunction alone."""
