"""Open-loop evaluation: metrics, baselines, report."""
