"""How we learn what is true: the store in Redis or Valkey, and the watcher that follows it."""
