"""Benchmarks: each file of this folder measures one subject; see benchmarks/__main__.py."""

import os

# Set before Powertools reads it: the table of figures is what a measurement prints.
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "ERROR")
