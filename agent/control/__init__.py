"""The agent's control socket: what runtimes and the command line ask for, and what the agent does for each request."""
