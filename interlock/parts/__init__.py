"""The parts of a process, each put together from its packages."""
