"""DNS over the network: UDP and TCP."""
