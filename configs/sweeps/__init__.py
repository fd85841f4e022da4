"""Sweeps: each module has `sweep(add)`, which calls `add(**{'leaf.name': value, ...})` once per run."""
