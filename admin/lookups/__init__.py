"""Look-ups as they happen, from the resolvers of all hosts, for those who watch."""
