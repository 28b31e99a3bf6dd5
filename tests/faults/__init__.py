"""Faults, and what clients notice of them: real servers, real agents, real namespaces."""
