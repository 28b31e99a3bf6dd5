"""The settings: one table, and where values come from."""
