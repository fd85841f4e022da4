"""How well the planar base stands for full wheels: identification and trajectory errors."""
