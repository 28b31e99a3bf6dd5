"""What makes a process: its start and end, supervision of its parts, the embedded store, its files."""
