"""The connection to the control plane: from here the agent learns everything, and here everything is asked for."""
