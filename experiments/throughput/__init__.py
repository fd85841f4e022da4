"""Images per second through the loader, through the train step, and through both together."""
