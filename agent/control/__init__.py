"""The agent's control socket: the requests of container runtimes and of the command line, and what each one does."""
