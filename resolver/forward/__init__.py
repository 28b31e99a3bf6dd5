"""What is not the platform's: asked of upstream resolvers, remembered, and said again."""
