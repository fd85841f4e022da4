"""Kills a training run at random moments and looks at what is left."""
