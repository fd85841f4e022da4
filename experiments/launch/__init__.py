"""Launchers: sweeps on this machine, or as a list of commands for a cluster's own scheduler."""
