"""The feed: a host's agent sends the resolvers of its host what they may answer, once there are routes to it."""
