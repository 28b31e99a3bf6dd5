"""Who asks, and what a token allows: actors, API tokens, the root token."""
