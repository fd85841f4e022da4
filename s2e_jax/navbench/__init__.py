"""NavBench-GS: closed-loop navigation in scenes of 3D gaussians, from splat files to a report."""
