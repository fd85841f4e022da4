"""Closed-loop judging: policies drive the same episodes of the simulator to their ends."""
