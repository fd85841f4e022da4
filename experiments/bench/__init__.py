"""Benchmarks: each figure is a ratio against a named baseline, both timed in turn in one process."""
