"""What is true: the model of an environment, its names and addresses, and the zone compiled from it. No I/O."""
