"""The CloudWatch custom widget: a table of backfills, with what an operator does about them."""
