"""Soak: a million random steps, and what must never happen in them."""
