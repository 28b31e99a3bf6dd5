"""Who sent a request, and what that client may do: actors, access rules, API tokens, the root token."""
