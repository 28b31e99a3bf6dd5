"""A sandbox: hosts of the mesh on one machine, made of namespaces, for the demo of the mesh and for its tests."""
