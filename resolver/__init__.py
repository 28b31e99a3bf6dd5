"""What to say: DNS over UDP and TCP, answered from the compiled zones of the client's own environment."""
