"""Whom the agent notifies: the resolvers of this host, the other hosts, and the store by an acknowledgement."""
