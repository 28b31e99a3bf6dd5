"""What this host should have, what it has, and the steps between them. Pure: no I/O, no clock."""
