"""Studies and benchmarks."""
