"""Pictures of scenes: the column renderer, its ray casting oracle and what they shade with."""
