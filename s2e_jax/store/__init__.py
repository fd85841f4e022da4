"""What a run leaves on disk: self-describing checkpoints and metrics."""
