"""Readers of foreign formats, one module each; see `base` for what they share.

Every reader module has `find(src, options) -> list[Item]` (names what is there, reads no frames) and
`OPTIONS`, the names of the options that only some formats understand and this one does.
"""
