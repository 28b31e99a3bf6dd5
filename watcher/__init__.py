"""The watcher follows the store, a follower the agent of its host; both publish the zone of each environment."""
