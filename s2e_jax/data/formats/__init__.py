"""Readers of foreign formats, one file each; all of them yield `Clip` or `Skip`."""
