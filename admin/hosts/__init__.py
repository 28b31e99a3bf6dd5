"""What the agents of hosts hear of the control plane, and what they may say to it."""
