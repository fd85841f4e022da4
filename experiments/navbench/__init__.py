"""Judging in the scenes that ship; see README.md."""
