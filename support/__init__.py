"""Small helpers that several packages need, made of the standard library alone. README.md says what may go in here."""
