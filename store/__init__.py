"""The store: environments, hosts, acknowledgements and tokens in Redis or Valkey, and the scripts that change them."""
