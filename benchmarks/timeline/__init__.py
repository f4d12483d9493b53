"""python -m benchmarks.timeline FILE.svg: where the time of one chunk goes, measured and drawn."""
