"""The model of an environment, its names and addresses, and the zone that is compiled from it. No I/O."""
