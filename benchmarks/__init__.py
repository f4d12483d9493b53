"""Benchmarks: each file of this folder measures one subject; see benchmarks/__main__.py."""
