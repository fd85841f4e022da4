"""Readers of splat files, one module per format: `read.read_gaussians` chooses by content."""
