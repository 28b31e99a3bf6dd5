"""The mesh on this host. `mesh.Mesh` is what others use; the theory of operation stands at the head of its module."""
