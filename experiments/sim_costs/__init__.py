"""What the simulator costs: steps per second, shares of its parts, memory and compile time."""
