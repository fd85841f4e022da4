"""Pictures to look at, and the random scenes that tests and benchmarks draw."""
