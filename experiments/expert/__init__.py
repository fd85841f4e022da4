"""How often the privileged planner arrives."""
