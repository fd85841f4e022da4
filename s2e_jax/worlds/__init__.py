"""Urban worlds: layouts, looks, people, distances, routes and the privileged expert."""
