"""A machine with a kernel of its own: where the tests have the kernel's WireGuard, whatever this machine has."""
