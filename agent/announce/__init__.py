"""What the agent reports: environments to the resolvers of this host, acknowledgements to the control plane.

With them, waiting for the acknowledgements of other hosts, and the handshakes that such a wait allows to begin.
"""
