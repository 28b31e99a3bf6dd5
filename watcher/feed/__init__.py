"""The feed: how an agent tells the resolvers of its host which names they may answer."""
