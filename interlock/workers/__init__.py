"""The processes that answer DNS on one port, and the process that has the zones and keeps them."""
