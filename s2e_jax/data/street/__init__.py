"""A procedural street: what stands where, how an expert drives it, what a camera sees of it."""
