"""Configs: each module has `get_config(arg)`."""
