"""Names that are not the platform's: upstream resolvers are asked for them, and their answers are cached."""
