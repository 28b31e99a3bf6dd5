"""One process: its start and end, the supervision of its parts, the embedded store, its files."""
