"""What the agent of a host and the control plane say to each other, and the agent's end of it."""
