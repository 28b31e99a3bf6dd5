"""Attaching a workload to the mesh and detaching it."""
