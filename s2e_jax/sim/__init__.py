"""The simulator: robots in MJX, contacts, rewards and environments with rendered observations."""
